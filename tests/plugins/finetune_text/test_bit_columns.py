"""One column of 0 and 1 for each label is read as a list of 0 and 1 is, and what is wrong stands in its column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune import data
from finetune.errors import BadData, BadOptions
from finetune.interfaces import Row
from finetune.plugins import discover
from finetune.recipe import Source
from finetune.recipe.options import as_options, build
from finetune.testing.tokenizers import tokenizer
from finetune_text.multi_label import MultiLabelPreprocessor

NAMES = ("toxic", "obscene", "insult")
WORDS = tokenizer("bert")


def columns(*rows: tuple[Any, ...]) -> list[Row]:
    return [
        {"text": f"text {number}", **dict(zip(NAMES, row, strict=True)), "label": "not read"}
        for number, row in enumerate(rows)
    ]


def vectors(*rows: tuple[Any, ...]) -> list[Row]:
    return [{"text": f"text {number}", "label": list(row)} for number, row in enumerate(rows)]


def batch(rows: list[Row]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


@given(st.lists(st.tuples(*[st.integers(0, 1)] * 3), min_size=1, max_size=12), st.sampled_from([str, bool, float, int]))
def test_columns_give_what_a_list_gives(rows: list[tuple[int, ...]], write: Any) -> None:
    one = MultiLabelPreprocessor(label_columns=NAMES).fit(columns(*[tuple(map(write, row)) for row in rows]))
    other = MultiLabelPreprocessor(labels=NAMES, label_form="vector").fit(vectors(*rows))
    assert (one.labels, one.class_counts) == (other.labels, other.class_counts)
    made = columns(*[tuple(map(write, row)) for row in rows])
    assert one.features(batch(made), WORDS) == other.features(batch(vectors(*rows)), WORDS)
    found = [(finding.code, finding.row, finding.value) for finding in one.check(made)]
    assert found == [(finding.code, finding.row, finding.value) for finding in other.check(vectors(*rows))]
    assert [one.strata(row) for row in made] == [
        [name for name, bit in zip(NAMES, row, strict=True) if bit] for row in rows
    ]
    assert build(MultiLabelPreprocessor, as_options(one), where="preprocessor") == one


@pytest.mark.parametrize(
    ("cell", "code", "level"),
    [("2", "label-vector", "error"), ("-1", "label-sentinel", "row"), ("", "label-sentinel", "row"),
     (None, "label-sentinel", "row"), ("toxic", "label-vector", "error")],
)  # fmt: skip
def test_a_cell_that_is_neither_0_nor_1_is_found_in_its_column(cell: Any, code: str, level: str) -> None:
    good = columns((1, 0, 0), (0, 1, 1), (1, 1, 0))
    fitted = MultiLabelPreprocessor(label_columns=NAMES).fit(good)
    (bad,) = columns((0, cell, 1))
    (finding,) = [each for each in fitted.check([*good, bad]) if each.level != "warning"]
    assert (finding.code, finding.level, finding.row, finding.column) == (code, level, 3, "obscene")


def test_a_label_that_no_row_has_is_named_by_its_column() -> None:
    rows = columns((1, 0, 0), (0, 0, 1), (1, 0, 1))
    (finding,) = [each for each in MultiLabelPreprocessor(label_columns=NAMES).check(rows) if each.level == "error"]
    assert (finding.code, finding.column) == ("class-without-rows", "obscene")
    assert "label_columns" in finding.fix


def test_rows_without_the_columns_are_rows_to_predict() -> None:
    fitted = MultiLabelPreprocessor(label_columns=NAMES).fit(columns((1, 0, 0), (0, 1, 1)))
    assert fitted.needs().hidden == set(NAMES)
    rows: list[Row] = [{"text": "a"}, {"text": "b"}]
    assert not list(fitted.check(rows))
    assert "labels" not in fitted.features(batch(rows), WORDS)


@pytest.mark.parametrize(
    "options", [{"label_columns": ["toxic"]}, {"label_columns": ["toxic", "toxic"]},
                {"label_columns": ["toxic", "text"]},
                {"label_columns": [*NAMES], "labels": ["a", "b", "c"]},
                {"label_columns": [*NAMES], "label_form": "names"}],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadOptions, match="label_columns"):
        build(MultiLabelPreprocessor, options, where="preprocessor")


def test_a_file_of_jigsaw_is_read_and_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    rows = [f"{number:04x},comment {number},{number % 2},{number % 3 // 2},{number % 5 // 4}" for number in range(40)]
    path.write_text("\n".join(["id,comment_text,toxic,obscene,insult", *rows]))
    source = Source(path=str(path), columns={"comment_text": "text"})
    read = data.load(source, MultiLabelPreprocessor(label_columns=NAMES), plugins=discover(), seed=1)
    assert len(read.splits["train"]) == 36
    assert read.splits["train"][0]["insult"] in ("0", "1")
    with pytest.raises(BadData, match="'threat'"):
        data.load(source, MultiLabelPreprocessor(label_columns=(*NAMES, "threat")), plugins=discover(), seed=1)
