"""Files of fastText: what is written is read, and a line that is not in the format is a finding with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune import data
from finetune.errors import BadData
from finetune.interfaces import Finding
from finetune.plugins import discover
from finetune.recipe import Source
from finetune.testing.laws import check_finding
from finetune_text.classification import TextClassificationPreprocessor
from finetune_text.fasttext import FastTextReader
from finetune_text.multi_label import MultiLabelPreprocessor

WORD = st.text("abzé-_#1", min_size=1, max_size=5).filter(lambda word: not word.startswith("__label__"))


@given(
    rows=st.lists(st.tuples(st.lists(WORD, max_size=3), st.lists(WORD, max_size=4)), max_size=5), cut=st.integers(1, 9)
)
def test_what_is_written_is_read(rows: list[tuple[list[str], list[str]]], cut: int) -> None:
    rows = [row for row in rows if row[0] or row[1]]
    text = "".join(" ".join([*(f"__label__{label}" for label in labels), *words]) + "\n" for labels, words in rows)
    pieces = [text[start : start + cut] for start in range(0, len(text), cut)]
    found = list(FastTextReader(multi_label=True).rows(pieces, file="a.txt"))
    expected = [{"text": " ".join(words), "label": labels} for labels, words in rows]
    assert found == list(enumerate(expected, 1))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a text without a label", "the line has 0 labels; wanted 1"),
        ("__label__a __label__b two", "the line has 2 labels; wanted 1"),
        ("__label__ nothing", "a label is empty"),
        ("__label__a then __label__b late", "a label stands after the text has begun"),
    ],
)
def test_a_line_that_is_not_in_the_format_is_a_finding(line: str, message: str) -> None:
    first, found = FastTextReader().rows([f"__label__a good\n{line}\n"], file="a.txt")
    assert first == (1, {"text": "good", "label": "a"})
    assert isinstance(found, Finding) and found.line == 2 and found.message.startswith(message)
    check_finding(found)


def load(path: Path, preprocessor: object, **keys: object) -> data.Examples:
    return data.load(Source(path=str(path), validation_size=0, **keys), preprocessor, plugins=discover(), seed=0)  # type: ignore[arg-type]


def test_a_file_is_known_by_its_first_line(tmp_path: Path) -> None:
    file = tmp_path / "reviews.txt"
    file.write_text("__label__good A fine inn.\n__label__bad The soup was cold.\n" * 2)
    found = load(file, TextClassificationPreprocessor())
    assert [row["label"] for row in found.splits["train"]][:2] == ["good", "bad"]
    assert found.splits["train"][0]["text"] == "A fine inn."
    file.write_text("__label__good __label__short A fine inn.\n__label__bad The soup was cold.\n" * 2)
    found = load(file, MultiLabelPreprocessor(), options={"multi_label": True})
    assert found.splits["train"][0]["label"] == ["good", "short"]
    with pytest.raises(BadData, match="multi_label: true") as caught:
        load(file, TextClassificationPreprocessor())
    assert {each.line for each in caught.value.findings if each.code == "bad-fasttext-line"} == {1, 3}
