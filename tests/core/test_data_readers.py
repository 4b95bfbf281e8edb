"""Readers of text: whatever was written comes back exactly, with the line on which it stands."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import finetune.data
from finetune.data.findings import CODES, Report, blank_line
from finetune.data.readers import binary
from finetune.data.readers.delimited import CsvReader, TsvReader
from finetune.data.readers.json_array import JsonArrayReader
from finetune.data.readers.json_lines import JsonLinesReader
from finetune.data.readers.text import Text, lines
from finetune.interfaces import Finding, Reader

ANY = st.characters(exclude_categories=["Cs"])
PROSE = st.one_of(st.sampled_from(list('",\r\n\t \u2028\x0b\x85\0é😀;a1')), ANY)
UNTABBED = st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r")
FIELD = st.text(PROSE, max_size=12)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    width = draw(st.integers(1, 4))
    return draw(st.lists(st.lists(FIELD, min_size=width, max_size=width), max_size=6))


def chunks(text: str, cuts: Sequence[int]) -> Iterator[str]:
    """Cut a text anywhere."""
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    for start, end in itertools.pairwise(places):
        yield text[start:end]


def rows(reader: Reader, text: str, cuts: Sequence[int] = ()) -> list[Any]:
    return list(reader.rows(chunks(text, cuts), file="x"))


CUTS = st.lists(st.integers(0, 300), max_size=30)


@settings(max_examples=300, deadline=None)
@given(tables(), st.sampled_from(["\n", "\r\n"]), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), CUTS)
def test_a_table_that_python_wrote_as_csv_comes_back_with_its_lines(
    table: list[list[str]], end: str, quoting: Any, cuts: list[int]
) -> None:
    names = [f"column {i}" for i in range(len(table[0]) if table else 1)]
    if end == "\n" and any("\r" in value for values in table for value in values):
        quoting = csv.QUOTE_ALL  # Python 3.11 leaves a lone carriage return unquoted then; RFC 4180 wants it quoted
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator=end, quoting=quoting)
    writer.writerow(names)
    expected = []
    for values in table:
        expected.append((stream.getvalue().count("\n") + 1, dict(zip(names, values, strict=True))))
        writer.writerow(values)
    assert rows(CsvReader(), stream.getvalue(), cuts) == expected


@given(
    st.sampled_from(";,\t|:"),
    st.sampled_from(["sep=", "SEP="]),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(0, 2),
    CUTS,
)
def test_a_first_line_for_excel_names_the_delimiter_and_is_no_row(
    delimiter: str, word: str, end: str, blank: int, cuts: list[int]
) -> None:
    text = end * blank + end.join([f"{word}{delimiter}", delimiter.join(["a", "b"]), delimiter.join(["1", "2"]), ""])
    found = [item for item in rows(CsvReader(), text, cuts) if not isinstance(item, Finding)]
    assert found == [(blank + 3, {"a": "1", "b": "2"})]


def test_a_column_with_the_name_of_the_line_for_excel_is_a_column() -> None:
    assert rows(CsvReader(), "sep,b\n1,2\n") == [(2, {"sep": "1", "b": "2"})]
    assert rows(CsvReader(), "a,b\nsep=;,2\n") == [(2, {"a": "sep=;", "b": "2"})]


ARROW = st.recursive(
    st.sampled_from([pa.string(), pa.large_string(), pa.string_view(), pa.binary_view(), pa.int64(), "dictionary"]),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["list_", "large_list", "list_view", "large_list_view"]), inner),
        st.tuples(st.just("struct"), inner),
    ),
    max_leaves=3,
)
"""Types of columns: leaves, and a list or a struct of one. Polars writes views, pandas writes dictionaries."""


def arrow_type(shape: Any) -> pa.DataType:
    if shape == "dictionary":
        return pa.dictionary(pa.int32(), pa.string())
    if not isinstance(shape, tuple):
        return shape
    kind, inner = shape
    return pa.struct([("a", arrow_type(inner))]) if kind == "struct" else getattr(pa, kind)(arrow_type(inner))


def values_of(shape: Any) -> st.SearchStrategy[Any]:
    if not isinstance(shape, tuple):
        leaf = shape if isinstance(shape, pa.DataType) else pa.string()
        whole = (
            st.binary(max_size=20) if leaf == pa.binary_view() else st.text(st.characters(codec="utf-8"), max_size=20)
        )
        return st.none() | (st.integers(0, 9) if leaf == pa.int64() else whole)
    kind, inner = shape
    return (
        st.fixed_dictionaries({"a": values_of(inner)}) if kind == "struct" else st.lists(values_of(inner), max_size=3)
    )


@settings(max_examples=60, deadline=None)
@given(ARROW.flatmap(lambda shape: st.tuples(st.just(shape), st.lists(values_of(shape), min_size=2, max_size=5))))
def test_a_column_of_any_arrow_type_comes_back_and_can_be_selected(made: tuple[Any, list[Any]]) -> None:
    shape, values = made
    column = pa.array(values, arrow_type(shape))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, pa.schema([("x", column.type)])) as writer:
            writer.write(pa.record_batch([column], names=["x"]))
        report = Report()
        read = binary.read([path], names=["rows.arrow"], kinds=["arrow"], split="train", report=report)
        assert not report.findings
        assert read.rows["x"][:] == values
        assert read.rows.select([1, 0])["x"][:] == [values[1], values[0]]


@settings(max_examples=200, deadline=None)
@given(tables(), st.sampled_from(";\t|"), st.booleans(), st.booleans(), CUTS)
def test_a_csv_with_another_delimiter_comes_back_with_one_warning_or_an_option(
    table: list[list[str]], delimiter: str, given: bool, quoted: bool, cuts: list[int]
) -> None:
    names = [f"column{delimiter if quoted else ' '}, {i}" for i in range(max(2, len(table[0]) if table else 0))]
    if not quoted:
        names = [name.replace(",", "") for name in names]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL, delimiter=delimiter)
    stream.write("\n\r\n")
    writer.writerow(names)
    expected: list[Any] = [blank_line(1), blank_line(2)]
    for values in table:
        values = [*values, ""] if len(values) == 1 else values
        expected.append((stream.getvalue().count("\n") + 1, dict(zip(names, values, strict=True))))
        writer.writerow(values)
    found = rows(CsvReader(delimiter=delimiter if given else None), stream.getvalue(), cuts)
    if not given:
        warning = found.pop(0)
        assert (warning.code, warning.level, warning.line) == ("other-delimiter", "warning", 3)
        assert f"{delimiter!r} as its delimiter" in warning.message
        assert f"delimiter: {json.dumps(delimiter)}}}" in warning.fix
    assert found == expected


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("a,b;c", ["a", "b;c"]),
        ('"a,b";c', ["a,b", "c"]),
        ('a,"b;c"', ["a", "b;c"]),
        ('"a;b"', ["a;b"]),
        ('"a ""x"", b"\tc;d', None),
        ("a|b;c", None),
        ("a", ["a"]),
        ("a b", ["a b"]),
    ],
)
def test_the_delimiter_is_taken_from_the_first_line_outside_quotes(header: str, names: list[str] | None) -> None:
    found = rows(CsvReader(), f"{header}\n{header}\n")
    keys = [list(item[1]) for item in found if isinstance(item, tuple)]
    if names is None:
        assert [(item.code, item.level) for item in found] == [("wrong-delimiter", "error")]
    else:
        assert keys == [names]


def test_a_delimiter_of_the_options_is_not_compared_with_the_file() -> None:
    assert rows(CsvReader(delimiter=","), "a;b\nx;y\n") == [(2, {"a;b": "x;y"})]
    assert rows(CsvReader(delimiter="~"), "a~b\nx,~;\n") == [(2, {"a": "x,", "b": ";"})]
    (ragged,) = rows(CsvReader(delimiter=";"), "a;b\nx\n")
    assert (ragged.code, ragged.line, ragged.fix) == ("ragged-row", 2, "Check whether a ';' is missing.")
    for wrong in ("", "::", '"', "\n"):
        with pytest.raises(ValueError, match="one character"):
            CsvReader(delimiter=wrong)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.text(UNTABBED), min_size=2, max_size=2)), CUTS)
@example([['"', 'a "quote" left open: "'], ["a\u2028b", "c\x0bd\x85e"]], [])
def test_a_tab_separated_line_is_a_row_and_quotes_are_ordinary(table: list[list[str]], cuts: list[int]) -> None:
    text = "a\tb\n" + "".join("\t".join(values) + "\n" for values in table)
    assert rows(TsvReader(), text, cuts) == [(i, {"a": a, "b": b}) for i, (a, b) in enumerate(table, 2)]


def test_a_lone_carriage_return_in_a_tsv_is_data() -> None:
    assert rows(TsvReader(), "a\tb\r\nx\ry\tz\r\r\n") == [(2, {"a": "x\ry", "b": "z\r"})]


NUMBERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(PROSE, max_size=8)),
    lambda below: st.one_of(
        st.lists(below, max_size=3), st.dictionaries(st.text(PROSE, max_size=4), below, max_size=3)
    ),
    max_leaves=6,
)
OBJECTS = st.lists(st.dictionaries(st.text(PROSE, max_size=4), VALUES, max_size=4), max_size=6)


@settings(max_examples=200, deadline=None)
@given(OBJECTS, st.booleans(), CUTS, st.sampled_from(["\n", "\r\n", "\n\n \r\n"]))
def test_objects_written_as_json_lines_come_back_with_their_lines(
    objects: list[Any], ascii_only: bool, cuts: list[int], end: str
) -> None:
    text = "".join(json.dumps(value, ensure_ascii=ascii_only) + end for value in objects)
    step = end.count("\n")
    found = [item for item in rows(JsonLinesReader(), text, cuts) if not isinstance(item, Finding)]
    assert found == [(1 + step * i, value) for i, value in enumerate(objects)]


@settings(max_examples=300, deadline=None)
@given(OBJECTS, st.booleans(), CUTS, st.sampled_from([None, 1]), st.integers(1, 40))
def test_objects_written_as_an_array_come_back_wherever_the_text_is_cut(
    objects: list[Any], ascii_only: bool, cuts: list[int], indent: int | None, least: int
) -> None:
    text = json.dumps(objects, ensure_ascii=ascii_only, indent=indent)
    expected, line = [], 1
    for value in objects:
        line += 1 if indent else 0
        expected.append((line, value))
        line += json.dumps(value, indent=indent).count("\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finetune.data.readers.json_array._LEAST", least)
        found = rows(JsonArrayReader(), text, cuts)
    assert [item[:2] for item in found] == expected
    paths = [item[2] for item in found if len(item) > 2]
    assert paths == ([] if indent else [f"[{number}]" for number in range(len(objects))])


@settings(max_examples=200, deadline=None)
@given(OBJECTS, st.integers(0, 200), st.integers(1, 40))
def test_an_array_cut_anywhere_yields_only_whole_rows_and_one_error(objects: list[Any], cut: int, least: int) -> None:
    text = json.dumps(objects, indent=1)[:-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finetune.data.readers.json_array._LEAST", least)
        found = rows(JsonArrayReader(), text[:cut])
    good = [item[1] for item in found if not isinstance(item, Finding)]
    errors = [item for item in found if isinstance(item, Finding)]
    assert good == objects[: len(good)]
    assert [error.level for error in errors] == (["error"] if text[:cut].strip() else [])


@settings(max_examples=100, deadline=None)
@given(st.text(PROSE, max_size=60), CUTS)
def test_only_a_line_feed_ends_a_line(text: str, cuts: list[int]) -> None:
    expected = text.split("\n")
    assert list(lines(chunks(text, cuts), file="x")) == (expected if expected[-1] else expected[:-1])


@settings(max_examples=100, deadline=None)
@given(
    st.text(ANY, max_size=60), st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32", "gb18030"]), st.integers(1, 7)
)
def test_text_is_decoded_whole_wherever_a_read_ends(text: str, encoding: str, piece: int) -> None:
    text = "a" + text  # a byte order mark at the very begin is not text
    if encoding == "utf-16-le" or "\0" in text:
        text = text.replace("\0", "") + "é"
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("finetune.data.readers.text.PIECE", piece)
        path = Path(folder) / "a.txt"
        path.write_bytes(text.encode(encoding))
        assert "".join(Text(path, name="a", encoding=encoding)) == text


def test_values_that_type_guessing_spoils_survive_as_text() -> None:
    odd = [
        "007",
        "NA",
        "None",
        "null",
        "nan",
        "N/A",
        "",
        "1e5",
        "True",
        "4.50",
        "2024-01-02",
        "12345678901234567890",
        " x ",
    ]
    text = "a,b\n" + "".join(f"{value},1\n" for value in odd)
    assert [row["a"] for _, row in rows(CsvReader(), text)] == odd


def test_separators_of_other_lines_stay_inside_a_value() -> None:
    value = "a\u2028b\u2029c\x0bd\x0ce\x85f\x1cg"
    assert rows(CsvReader(), f"a,b\n{value},1\n") == [(2, {"a": value, "b": "1"})]
    escaped = json.dumps({"a": value}, ensure_ascii=False)  # \x0b and the like must be escaped in JSON, \x85 need not
    assert rows(JsonLinesReader(), escaped) == [(1, {"a": value})]


def test_a_quoted_carriage_return_and_line_end_stay_in_the_value() -> None:
    assert rows(CsvReader(), 'a,b\r\n"x\r\ny\rz\n",1\r\nlast,2') == [
        (2, {"a": "x\r\ny\rz\n", "b": "1"}),
        (5, {"a": "last", "b": "2"}),
    ]


def test_a_field_over_the_limit_of_python_s_csv_is_read() -> None:
    value = "x" * 200_000 + '"' + "y" * 200_000
    doubled = value.replace('"', '""')
    assert rows(CsvReader(), f'a,b\n"{doubled}",1\n{"z" * 300_000},2\n') == [
        (2, {"a": value, "b": "1"}),
        (3, {"a": "z" * 300_000, "b": "2"}),
    ]


def test_blank_lines_differ_from_empty_values() -> None:
    assert rows(CsvReader(), 'a\n\n""\n \n') == [blank_line(2), (3, {"a": ""}), (4, {"a": " "})]


def test_after_a_bad_row_the_next_is_read() -> None:
    found = rows(CsvReader(), 'a,b\nx,1\n"y"z,2\nv,w,3\nlast,4\n')
    assert [item.code if isinstance(item, Finding) else item[0] for item in found] == [
        2,
        "stray-quote",
        "ragged-row",
        5,
    ]


def test_integers_of_64_bits_and_numbers_keep_every_digit() -> None:
    text = '{"a": 9223372036854775807}\n{"a": -9223372036854775808}\n{"a": 0.1}\n{"a": 1e-300}\n'
    assert [row["a"] for _, row in rows(JsonLinesReader(), text)] == [2**63 - 1, -(2**63), 0.1, 1e-300]


def test_every_code_that_the_readers_yield_is_listed_with_a_meaning() -> None:
    paths = set(Path(finetune.data.__file__).parent.rglob("*.py"))
    source = "".join(path.read_text() for path in paths if path.name != "text_checks.py")  # tasks document these
    used = set(re.findall(r'code="([a-z0-9-]+)"|(?:error|_error|_unreadable)\(\s*(?:\w+,\s*)?"([a-z0-9-]+)"', source))
    names = {first or second for first, second in used} - {"blank-line"}
    assert len(names) > 20
    assert names <= CODES.keys()
    assert all(code == code.lower() and " " not in code for code in CODES)


@pytest.mark.parametrize("mark", ["sep=;", "SEP=;", '"sep=;"', "sep=;\r"])
def test_a_first_line_that_states_the_delimiter_is_followed(mark: str) -> None:
    assert rows(CsvReader(), f"{mark}\na,b;c\n1;2\n") == [(3, {"a,b": "1", "c": "2"})]
    assert rows(CsvReader(delimiter=","), f"{mark}\na,b\n1,2\n") == [(3, {"a": "1", "b": "2"})]
