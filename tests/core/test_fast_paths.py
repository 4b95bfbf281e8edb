"""What is made in blocks equals what the slow path makes row by row, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from datasets.arrow_writer import OptimizedTypedSequence
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data import feature_table, text_checks
from finetune.data.examples import _Without
from finetune.data.rows import Rows
from finetune.data.splits import Split
from finetune.data.table import Table
from finetune.data.text_checks import TextWarnings
from finetune_text import token_checks

NAMES = ("input_ids", "attention_mask", "token_type_ids", "special_tokens_mask", "labels", "tokens_lost", "note")


def whole_split(rows: Dataset, index: Any) -> Split:
    return Split(table=Table(rows=rows, read=len(rows)), columns=rows, index=np.array(index, np.int64), read=len(rows))


numbers = st.integers(-(2**40), 2**40) | st.integers(0, 3)
COLUMNS = st.one_of(
    st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=1, max_size=4),
    st.lists(st.lists(numbers, max_size=4), min_size=1, max_size=4),
    st.lists(st.lists(numbers | st.none(), max_size=4) | st.none(), min_size=1, max_size=4),
    st.lists(st.lists(st.floats(allow_nan=False) | st.integers(0, 3), max_size=3), min_size=1, max_size=3),
    st.lists(st.lists(st.booleans(), max_size=3), min_size=1, max_size=3),
    st.lists(st.lists(st.lists(numbers, max_size=3), max_size=3), min_size=1, max_size=3),
    st.lists(numbers | st.none(), min_size=1, max_size=4),
    st.lists(st.text(max_size=3), min_size=1, max_size=4),
    st.lists(st.dictionaries(st.sampled_from("ab"), st.integers(0, 3), min_size=1), min_size=1, max_size=3),
)


@given(st.sampled_from(NAMES), COLUMNS)
@settings(deadline=None, max_examples=300)
def test_a_column_of_features_has_the_type_and_values_that_datasets_gives_it(name: str, values: list[Any]) -> None:
    expected: Any = None
    try:
        expected = pa.array(OptimizedTypedSequence(values, col=name, on_mixed_types="use_json"))
    except (pa.ArrowException, TypeError, OverflowError, ValueError) as error:
        with pytest.raises(type(error)):
            feature_table.table({name: values})
        return
    made = feature_table.table({name: values}).column(name).combine_chunks()
    assert made.type == expected.type
    assert made.to_pylist() == expected.to_pylist()


def test_arrays_of_numpy_are_stored_as_datasets_stores_them() -> None:
    values = [np.array([1, 2]), np.array([3])]
    made = feature_table.table({"input_ids": values}).column("input_ids").combine_chunks()
    assert made.equals(pa.array(OptimizedTypedSequence(values, col="input_ids", on_mixed_types="use_json")))


ROWS = st.lists(
    st.fixed_dictionaries({
        "text": st.text(max_size=4) | st.none(),
        "label": st.integers(0, 1),
        "words": st.lists(st.text(max_size=2), max_size=3),
        "answers": st.fixed_dictionaries({"start": st.lists(st.integers(0, 9), max_size=2)}),
    }),
    min_size=1, max_size=20,
)  # fmt: skip


@given(ROWS, st.data())
@settings(deadline=None, max_examples=50)
def test_rows_read_in_blocks_are_those_of_the_data_set(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    types = Features({
        "text": Value("string"),
        "label": ClassLabel(names=["a", "b"]),
        "words": List(Value("string")),
        "answers": {"start": List(Value("int64"))},
    })  # fmt: skip
    table = Dataset.from_list(rows, features=types)
    index = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1)))
    split = whole_split(table, index)
    read = Rows(split)
    assert list(read) == list(split.rows) == [read[place] for place in range(len(read))]
    assert read.features["label"].names == ["a", "b"]
    chosen = sorted(data.draw(st.sets(st.integers(0, len(index) - 1))))
    others = _Without(read, set(range(len(index))) - set(chosen))
    assert list(others) == [read[place] for place in chosen] == [others[place] for place in range(len(others))]


def test_types_that_datasets_decodes_are_left_to_it() -> None:
    from PIL import Image

    table = Dataset.from_dict({"image": [Image.new("L", (2, 2))]})
    (row,) = Rows(whole_split(table, [0]))
    assert row["image"].size == (2, 2)


PIECES = st.sampled_from(["a", "<", "[", "_", "</s>", "[UNK]", "__en__", "<|x|>", "\x07", "\ufffd", "\x85", "é", "\n"])


@given(st.lists(PIECES | st.characters(max_codepoint=0x2FF), max_size=12))
@settings(deadline=None)
def test_the_conditions_before_the_patterns_lose_no_warning(pieces: list[str]) -> None:
    text = "a" + "".join(pieces)
    warnings = TextWarnings()
    warnings.add(0, "text", text)
    expected = set()
    if text_checks._SPECIAL.search(text):
        expected.add("special-token-in-text")
    if text_checks._CONTROL.search(text):
        expected.add("control-character")
    assert {finding.code for finding in warnings.findings()} == expected


TAGS = st.sampled_from(["B-PER", "I-PER", "O", "B-SEA", "", "x"])
CELLS = st.lists(
    TAGS | st.none() | st.integers(0, 2) | st.booleans() | st.floats(0, 1),
    max_size=5,
)  # fmt: skip


@given(CELLS | st.lists(st.sampled_from(["B-PER", "I-PER", "O", "B-SEA", ""]), max_size=5), st.integers(0, 5))
@settings(deadline=None, max_examples=300)
def test_tags_that_are_all_text_are_checked_as_any_others(cell: list[Any], words: int) -> None:
    class Text(str):
        """Another type than `str`, so that the usual case does not apply."""

    slow = [Text(tag) if isinstance(tag, str) else tag for tag in cell]
    assert token_checks.tag_texts(cell) == token_checks.tag_texts(slow)
    known = {"B-PER": 0, "I-PER": 1, "O": 2, "0": 3}
    given_names = {"words": words, "known": known, "labels": ("B-PER", "I-PER", "O", "0"), "scheme": "BIO"}
    assert token_checks.check_tags(cell, 0, **given_names) == token_checks.check_tags(slow, 0, **given_names)


@given(
    st.lists(st.sampled_from(["tar", "", " ", "\u200b", "’s", "7", "é"]) | st.none() | st.integers(0, 2), max_size=5)
)
@settings(deadline=None)
def test_words_that_begin_with_a_letter_are_checked_as_any_others(cell: list[Any]) -> None:
    found = list(token_checks.check_words(cell, 0, tagged=True))
    expected = []
    for place, word in enumerate(cell):
        expected += token_checks._check_word(word, place, 0)
    assert [finding for finding in found if finding.code != "tokens-empty"] == expected
