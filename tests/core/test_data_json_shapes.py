"""A table as JSON: rows are read wherever they are in the file, and other shapes are refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data.readers.json_array import JsonArrayReader
from finetune.data.readers.json_lines import JsonLinesReader
from finetune.interfaces import Finding, Reader

ROWS = [{"text": f"ferry {i}", "label": i % 2} for i in range(12)]
FRAME = pd.DataFrame(ROWS)


def read(text: str | Iterable[str], reader: Reader | None = None) -> tuple[list[Any], list[Finding]]:
    """Return the rows and the findings of a text."""
    rows, findings = [], []
    for item in (reader or JsonArrayReader()).rows([text] if isinstance(text, str) else text, file="a.json"):
        if isinstance(item, Finding):
            findings.append(item)
        else:
            rows.append(item[1])
    return rows, findings


UNDER_A_KEY = [
    ({"data": ROWS}, "the rows are the list under the key 'data'."),
    ({"version": "1", "data": ROWS}, "the rows are the list under the key 'data'. The keys 'version' are not read."),
    ({"info": {"by": "us"}, "rows": ROWS, "n": 12}, "under the key 'rows'. The keys 'info', 'n' are not read."),
    (dict(zip("abcdefghijkl", ROWS, strict=True)), "the rows are the values of one object. Its keys, such as 'a',"),
]


@pytest.mark.parametrize(("content", "said"), UNDER_A_KEY)
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_rows_inside_an_object_are_read_and_the_place_is_stated(
    content: Any, said: str, indent: int | None, piece: int
) -> None:
    text = json.dumps(content, indent=indent)
    rows, [finding] = read(text[start : start + piece] for start in range(0, len(text), piece))
    assert rows == ROWS
    assert (finding.code, finding.level) == ("rows-in-object", "warning")
    assert said in finding.message


@pytest.mark.parametrize("orient", ["records", "index", "table", "columns", "split", "values"])
@pytest.mark.parametrize("indent", [0, 1])
def test_every_orient_of_pandas_is_read_or_refused_by_name(orient: Any, indent: int) -> None:
    rows, findings = read(FRAME.to_json(orient=orient, indent=indent or None))
    if orient in {"records", "index", "table"}:
        assert [{key: row[key] for key in ("text", "label")} for row in rows] == ROWS
        assert [finding.level for finding in findings] == ([] if orient == "records" else ["warning"])
        return
    assert rows == []
    [finding] = findings
    assert (finding.code, finding.level, finding.line) == ("not-an-array", "error", 1 + (indent and orient == "values"))
    assert 'orient="records"' in finding.fix
    named = {
        "columns": "as pandas to_json writes it by default",
        "split": 'orient="split"',
        "values": 'orient="values"',
    }
    assert named[orient] in finding.message


@pytest.mark.parametrize("orient", ["columns", "split"])
def test_a_whole_table_in_one_line_of_json_lines_is_refused_by_name(orient: Any) -> None:
    rows, [finding] = read(FRAME.to_json(orient=orient), JsonLinesReader())
    assert rows == []
    assert (finding.code, finding.level) == ("not-an-array", "error")
    assert "lines=True" in finding.fix


def test_lists_of_one_length_are_a_row_in_json_lines_and_columns_in_an_object() -> None:
    text = json.dumps({"words": ["a", "b"], "tags": ["X", "Y"]})
    assert read(text, JsonLinesReader()) == ([{"words": ["a", "b"], "tags": ["X", "Y"]}], [])
    assert "a list for each" in read(text)[1][0].message
    objects = json.dumps({"id": [1, 2], "answers": [{"at": 1}, {"at": 2}]})
    assert "a list for each" in read(objects)[1][-1].message


REFUSED = [
    ('{"text": "a", "label": 1}\n{"text": "b", "label": 0}', "not-an-array", "set dataset.format: jsonl"),
    ('{"turns": [{"a": 1}]}\n{"turns": [{"a": 2}]}', "text-after-end", "set dataset.format: jsonl"),
    ('{"text": "a", "label": 1}', "not-an-array", 'orient="records"'),
    ('{"train": [{"a": 1}], "test": [{"a": 2}]}', "not-an-array", "Write each list as a file of its own"),
    ("{}", "not-an-array", 'orient="records"'),
    ('{"data": [{"a": 1}]', "truncated-json", "cut"),
    ('{"data": [{"a": 1}', "truncated-json", "cut"),
    ('{"data": [{"a": 1}], }', "bad-json", "Remove the comma"),
    ('{"data" [{"a": 1}]}', "bad-json", "colon"),
    ('{1: [{"a": 1}]}', "bad-json", "double quotes"),
    ('{"data": [{"a": 1}], "data": 1}', "duplicate-key", "Keep one"),
]


@pytest.mark.parametrize(("text", "code", "fix"), REFUSED)
def test_other_objects_are_refused_with_what_to_do(text: str, code: str, fix: str) -> None:
    finding = read(text)[1][-1]
    assert (finding.code, finding.level) == (code, "error")
    assert fix in finding.fix


KEYS = st.text(alphabet="abcxyz", min_size=1, max_size=3)
OBJECTS = st.lists(st.dictionaries(KEYS, st.integers(0, 9) | st.text(max_size=3), min_size=1), min_size=2, max_size=6)


@given(objects=OBJECTS, cut=st.integers(0, 400), piece=st.integers(1, 50))
def test_an_object_cut_anywhere_yields_only_whole_rows_and_an_error(objects: list[Any], cut: int, piece: int) -> None:
    text = json.dumps({"version": 2, "data": objects})
    short = text[: min(cut, len(text) - 1)]
    rows, findings = read(short[start : start + piece] for start in range(0, len(short), piece))
    assert rows == objects[: len(rows)]
    assert [finding.level for finding in findings] == ["error"] * bool(short)
    assert read(text)[0] == objects


def test_a_row_that_only_resembles_a_table_of_pandas_is_a_row() -> None:
    row = {"columns": ["n"], "data": [["1"]], "question": "who?"}
    assert read(json.dumps(row), JsonLinesReader()) == ([row], [])
