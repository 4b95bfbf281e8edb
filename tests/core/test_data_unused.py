"""What the task does not read stops nothing: columns of mixed types, splits without answers, splits left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from finetune.data import Examples, from_rows, load
from finetune.errors import BadData
from finetune.interfaces import Batch, Columns, Preprocessor, Row
from finetune.plugins import discover
from finetune.recipe import Source

PLUGINS = discover()


class Texts(Preprocessor):
    """Reads a text and a label."""

    def needs(self) -> Columns:
        return Columns(required=("text",), answers=("label",))

    def features(self, examples: Batch, tokenizer: Any) -> Batch:
        return {}


class Grouped(Texts):
    """Keeps the rows of one author together."""

    def needs(self) -> Columns:
        return Columns(required=("text",), answers=("label",), group="author")


def write(path: Path, rows: Sequence[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def loaded(path: Any, preprocessor: Preprocessor | None = None, **options: Any) -> Examples:
    own = {key: options.pop(key) for key in ("fit", "answers") if key in options}
    source = Source(path=path, **{"validation_size": 0, **options})
    return load(source, preprocessor or Texts(), plugins=PLUGINS, seed=1, **own)


def refusal(path: Any, preprocessor: Preprocessor | None = None, **options: Any) -> BadData:
    with pytest.raises(BadData) as caught:
        loaded(path, preprocessor, **options)
    return caught.value


# ---- columns

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=2), below, max_size=3),
    max_leaves=5,
)


@given(st.lists(VALUES, min_size=1, max_size=8))
def test_no_value_of_a_column_that_the_task_does_not_read_makes_a_row_bad(values: list[Any]) -> None:
    rows = [{"text": f"t{i}", "label": i, "meta": value} for i, value in enumerate(values)]
    examples = from_rows({"train": rows}, Texts())
    assert examples.splits["train"]["text"] == [row["text"] for row in rows]
    assert examples.data_report["train"]["bad"] == 0
    is_left_out = "meta" not in examples.splits["train"].column_names
    assert examples.counts.get("column-left-out", 0) == is_left_out


def test_a_column_that_is_left_out_is_named_with_the_first_value_that_does_not_fit(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": i, "meta": 7 if i < 3 else "x"} for i in range(6)]
    examples = loaded(write(tmp_path / "a.jsonl", rows))
    [finding] = examples.findings
    assert (finding.code, finding.level, finding.line, finding.column) == ("column-left-out", "warning", 4, "meta")
    assert finding.value == "x"
    assert finding.message == (
        "the value is text, but other rows have an integer. The task does not read this column, so it is left out."
    )
    assert examples.splits["train"].column_names == ["text", "label"]


def test_a_column_is_also_left_out_of_rows_that_were_written_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.data.table.BLOCK_ROWS", 2)
    rows = [{"text": f"t{i}", "label": i, "meta": "x" if i == 4 else i} for i in range(5)]
    examples = loaded(write(tmp_path / "a.jsonl", rows))
    assert examples.splits["train"].to_list() == [{"text": f"t{i}", "label": i} for i in range(5)]
    assert examples.counts == {"column-left-out": 1}


def test_a_column_that_the_task_or_the_recipe_names_is_still_checked(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", [{"text": "a", "label": 1, "author": 1}, {"text": "b", "label": 0, "author": "x"}]
    )
    assert loaded(path).counts == {"column-left-out": 1}
    assert refusal(path, Grouped()).counts == {"type-changed": 1}
    assert refusal(path, columns={"author": "writer"}).counts == {"type-changed": 1}
    mixed = write(tmp_path / "b.jsonl", [{"text": "a", "label": 1}, {"text": "b", "label": "x"}])
    assert refusal(mixed).counts == {"type-changed": 1}
    assert loaded(mixed, fit=False, answers=False).counts == {"column-left-out": 1}


# ---- splits


def rows_of(count: int, label: Any = "alternate") -> list[Row]:
    return [{"text": f"{label} {i}", "label": i % 2 if label == "alternate" else label} for i in range(count)]


NO_ANSWERS = [(-1, "-1"), (-1.0, "-1"), ("-1", "-1"), (None, "null"), ("", "''"), ([-1, -1], "-1")]


@given(position=st.integers(0, 6), odd=st.sampled_from(["", "0.3", True, [0.5], {"a": 1}]), drops=st.booleans())
def test_the_one_value_of_another_type_is_the_bad_one_wherever_it_is(position: int, odd: Any, drops: bool) -> None:
    rows: list[dict[str, Any]] = [{"text": str(i), "label": i / 10} for i in range(6)]
    rows.insert(position, {"text": "odd", "label": odd})
    train = rows_of(20, 0.5)
    if not drops:
        with pytest.raises(BadData) as error:
            from_rows({"train": train, "validation": rows}, Texts())
        assert [(finding.code, finding.row) for finding in error.value.findings] == [("type-changed", position)]
        return
    examples = from_rows({"train": train, "validation": rows}, Texts(), on_bad="drop")
    assert examples.data_report["validation"]["read"] == 7 and examples.data_report["validation"]["kept"] == 6
    assert [row["row"] for row in examples.dropped] == [position]


def test_a_split_that_is_left_out_says_how_many_rows_were_bad() -> None:
    rows = [*rows_of(4, None), {"text": ["odd"], "label": None}]
    examples = from_rows({"train": rows_of(20), "test": rows}, Texts(), on_bad="drop")
    messages = [finding.message for finding in examples.findings if finding.code == "unlabelled-split"]
    assert messages == ["none of the 4 rows that are not bad has a label; every value is null. The split is left out."]


@pytest.mark.parametrize(("label", "shown"), NO_ANSWERS)
@pytest.mark.parametrize("role", ["validation", "test"])
def test_a_held_out_split_without_answers_is_left_out_with_a_warning(role: str, label: Any, shown: str) -> None:
    train = rows_of(20) if not isinstance(label, list) else [{"text": str(i), "label": [0, 1]} for i in range(20)]
    examples = from_rows({"train": train, role: rows_of(4, label)}, Texts(), validation_size=0.2)
    assert list(examples.splits) == ["train", "validation"]
    assert examples.data_report["validation"]["from_train"] == 4
    [finding] = examples.findings
    assert (finding.code, finding.level, finding.split, finding.column) == (
        "unlabelled-split",
        "warning",
        role,
        "label",
    )
    assert finding.message == f"no row has a label; every value is {shown}. The split is left out."
    assert f"dataset.splits: {{{role}: null}}" in finding.fix


def test_a_split_is_kept_if_one_row_has_an_answer_or_train_has_the_value() -> None:
    some = [*rows_of(3, -1), {"text": "x", "label": 1}]
    assert len(from_rows({"train": rows_of(4), "test": some}, Texts()).splits["test"]) == 4
    signed = [{"text": str(i), "label": i % 3 - 1} for i in range(6)]
    assert len(from_rows({"train": signed, "test": rows_of(3, -1)}, Texts()).splits["test"]) == 3
    only = from_rows({"test": rows_of(3, -1)}, Texts(), fit=False)
    assert len(only.splits["test"]) == 3  # the caller asked for this split


@pytest.mark.parametrize("given", ["folder", "mapping"])
def test_null_leaves_a_split_out_without_a_word(given: str, tmp_path: Path) -> None:
    files = {role: write(tmp_path / f"{role}.jsonl", rows_of(4)) for role in ("train", "validation", "test")}
    write(tmp_path / "test.jsonl", [{"text": "no label here"}])
    path = str(tmp_path) if given == "folder" else files
    error = refusal(path)
    assert error.counts == {"missing-column": 1}
    assert "To leave the split out: dataset.splits: {test: null}." in str(error)
    examples = loaded(path, splits={"test": None})
    assert list(examples.splits) == ["train", "validation"]
    assert examples.findings == ()


def test_a_split_of_another_name_is_offered_a_name_that_is_free(tmp_path: Path) -> None:
    parts = {"train": rows_of(4), "test": rows_of(4), "unsupervised": rows_of(4, -1)}
    DatasetDict({name: Dataset.from_list(list(rows)) for name, rows in parts.items()}).save_to_disk(
        str(tmp_path / "saved")
    )
    saved = loaded(str(tmp_path / "saved"))
    given = from_rows(parts, Texts())
    for examples in (saved, given):
        assert list(examples.splits) == ["train", "test"]
        assert [(finding.code, finding.level) for finding in examples.findings] == [("unused-split", "warning")]
    assert saved.findings[0].fix == "To use it, set dataset.splits: {validation: unsupervised}."
    assert given.findings[0].fix == "To use it, name it validation."


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_a_column_whose_name_is_not_utf_8_is_a_damaged_file(suffix: str, tmp_path: Path) -> None:
    table = pa.table({"text": ["the ship"] * 20, "label": [0, 1] * 10, "qqqq": [1] * 20})
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path, store_schema=False)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    path.write_bytes(path.read_bytes().replace(b"qqqq", b"q\xeaqq"))
    assert {finding.code for finding in refusal(str(path)).findings} & {"corrupt-file", "bad-column-name"}
