"""Malformed files, each with the finding that refuses it; the tests of the readers and the campaigns use this table."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Case:
    """A file with the columns ``text`` and ``label``, and its first finding."""

    name: str
    content: bytes
    code: str
    line: int | None
    level: str = "row"
    column: str | None = None
    says: str = ""
    """What the message holds."""
    file: str = "a.csv"


HEAD = b"text,label\n"
GOOD = b"fine,1\n"


def table(*names: str) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({name: ["x", "y"] for name in names}), stream)
    return stream.getvalue()


def archive(*names: str, mimetype: str = "") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        if mimetype:
            file.writestr("mimetype", mimetype)
        for name in names:
            file.writestr(name, "x")
    return stream.getvalue()


def tar(name: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        file.addfile(tarfile.TarInfo(name))
    return stream.getvalue()


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)


def disguised(file: str) -> list[Case]:
    """Return files that are no text."""
    sheet = "vnd.oasis.opendocument.spreadsheet"
    given = {
        "a workbook": (
            archive("[Content_Types].xml", "xl/workbook.xml"),
            "is an Excel workbook. Save its sheet as CSV",
        ),
        "an ods": (archive("content.xml", mimetype=f"application/{sheet}"), "OpenDocument spreadsheet. Save its"),
        "a docx": (archive("word/document.xml"), "is an Office document. Export the rows"),
        "a zip": (archive("data/", "data/train.csv"), "is a zip archive. Unpack it"),
        "a zip of many": (archive("a", "b", "c", "d"), "It contains a, b, c …."),
        "an empty zip": (archive(), "is a zip archive. Unpack it, and give the path of the file inside. It is empty."),
        "a cut zip": (b"PK\x03\x04\xff\xfe\xfd", "it is damaged. Copy it again."),
        "an xls": (OLE + "Workbook".encode("utf-16-le"), "is an old Excel workbook. Save its sheet"),
        "a doc": (OLE + "WordDocument".encode("utf-16-le"), "is an old Office document"),
        "a tar": (tar("train.csv"), "is a tar archive. Unpack it"),
        "a bz2": (bz2.compress(GOOD), "is a bzip2 archive"),
        "a bz2 of the fastest level": (bz2.compress(GOOD, 1), "is a bzip2 archive"),
        "an xz": (lzma.compress(GOOD), "is an xz archive"),
        "a parquet": (table("text", "label"), "is a parquet file. Set dataset.format: parquet."),
    }
    cases = []
    for name, (content, says) in given.items():
        cases.append(Case(f"{name} as {file}", content, "unknown-format", None, level="error", file=file, says=says))
    return cases


CSV = [
    Case("more fields", HEAD + GOOD + b"a,b,1\n" + GOOD, "ragged-row", 3, says="3 fields, the header has 2"),
    Case("fewer fields", HEAD + GOOD * 2 + b"alone\n", "ragged-row", 4, column="label", says="the row has 1 field,"),
    Case("every row one more", HEAD + b"0,fine,1\n" * 3, "ragged-row", 2),
    Case("ragged after a quoted line end", HEAD + b'"a\r\nb",1\n' + b"a,b,c\n", "ragged-row", 4),
    Case("ragged after blank lines", HEAD + b"\n\r\n\n" + b"a,b,c\n", "ragged-row", 5),
    Case("NUL", HEAD + GOOD + b"a\0b,1\n", "nul", 3, column="text"),
    Case("unclosed quote", HEAD + GOOD + b'"open,1\n' + GOOD, "unclosed-quote", 3, level="error"),
    Case(
        "unclosed quote and a later one", HEAD + b'"open,1\nx,"y"\n', "unclosed-quote", 2, level="error", says="line 3"
    ),
    Case("stray quotes", HEAD + b'"a "b" c",1\n', "stray-quote", 2, says="follows a closing quote"),
    Case("quote in an unquoted field", HEAD + GOOD + b'5" wide,1\n', "stray-quote", 3),
    Case("lone carriage return", HEAD + b"a\rb,1\n", "bare-carriage-return", 2),
    Case("old Mac", b"text,label\rfine,1\rfine,0\r", "bare-carriage-return", 1, level="error", says="Mac"),
    Case("duplicate column", b"text,label,text\n", "duplicate-column", 1, level="error", column="text"),
    Case("duplicate after blank", b"\ntext,label,text\n", "duplicate-column", 2, level="error", column="text"),
    Case(
        "two delimiters",
        b"text;label|1\nfine;1|1\n",
        "wrong-delimiter",
        1,
        level="error",
        says='dataset.options: {delimiter: ";"}',
    ),
    Case(
        "space in the header",
        b"text, label\nfine,1\n",
        "missing-column",
        None,
        level="error",
        column="label",
        says='{" label": label}',
    ),
    Case(
        "case in the header",
        b"Text,label\nfine,1\n",
        "missing-column",
        None,
        level="error",
        column="text",
        says="{Text: text}",
    ),
    Case(
        "no header, a number",
        b"fine,1\nbad,0\n",
        "no-header",
        None,
        level="error",
        says="contains '1', which looks like a value (found: fine, 1). "
        "Name its columns in order, such as dataset.options: {names: [text, label]}.",
    ),
    Case(
        "no header, a value again",
        b"fine,good\nslow,bad\nnice,good\n",
        "no-header",
        None,
        level="error",
        says="its first line contains 'good'",
    ),
    Case("no header in a tsv", b"fine\t-1.5\nbad\t0\n", "no-header", None, level="error", file="a.tsv", says="'-1.5'"),
    Case("other names", b"review,stars\nfine,good\n", "missing-column", None, level="error", column="text"),
    Case("one name fits", b"text,2\nfine,2\n", "missing-column", None, level="error", column="label"),
    Case("numbers as keys", b'[{"0": "fine", "1": "good"}]', "missing-column", None, level="error", file="a.json"),
    Case("header only", HEAD, "no-rows", None, level="error"),
    Case("nothing", b"", "no-rows", None, level="error"),
    Case("nothing in an array", b"", "no-rows", None, level="error", file="a.json", says="the file is empty"),
    Case("only blank lines in an array", b"\n \n", "no-rows", None, level="error", file="a.json"),
    Case("nothing in a file without a suffix", b"", "no-rows", None, level="error", file="train"),
    Case("only blank lines", b"\n\n", "no-rows", None, level="error"),
    Case("stray quote in the header", b'te"xt,label\nfine,1\n', "stray-quote", 1, level="error"),
    Case(
        "latin-1", HEAD + GOOD + "café,1\n".encode("latin-1"), "wrong-encoding", 3, level="error", says="byte 21 (0xe9)"
    ),
    Case("cut character", HEAD + GOOD + "é".encode()[:1], "wrong-encoding", 3, level="error"),
    Case(
        "UTF-16",
        "text,label\nfine,1\n".encode("utf-16"),
        "wrong-encoding",
        1,
        level="error",
        says="dataset.encoding: utf-16",
    ),
    Case(
        "UTF-16 without mark",
        "text,label\nfine,1\n".encode("utf-16-le"),
        "wrong-encoding",
        1,
        level="error",
        says="utf-16-le",
    ),
    *disguised("a.csv"),
    Case("by the preprocessor", HEAD + b'"a\n\nb",1\nno,bad\n', "bad-label", 5, column="label"),
]
GZ = [
    Case("tar.gz", gzip.compress(tar("a.csv")), "unknown-format", None, level="error", file="a.csv.gz", says="a tar"),
    Case(
        "truncated gz",
        gzip.compress(HEAD + GOOD * 99_999)[:-40],
        "truncated-gzip",
        None,
        level="error",
        file="a.csv.gz",
    ),
    Case("plain named gz", HEAD + GOOD, "not-gzip", None, level="error", file="a.csv.gz"),
    Case("gz named plain", gzip.compress(HEAD + GOOD), "unnamed-gzip", None, level="error"),
    Case(
        "corrupt gz",
        gzip.compress(HEAD + GOOD)[:-8] + b"12345678",
        "corrupt-gzip",
        None,
        level="error",
        file="a.csv.gz",
    ),
]
OTHER = [*disguised("a.xlsx"), *disguised("a.json"), *disguised("train")]
TSV = [
    Case("ragged tsv", b"text\tlabel\nfine\t1\nfine\n", "ragged-row", 3, column="label", file="a.tsv"),
    Case("comma tsv", b"text,label\nfine,1\n", "wrong-delimiter", 1, level="error", says="format: csv", file="a.tsv"),
]
ROW = b'{"text": "fine", "label": 1}\n'
JSONL = [
    Case("bad line", ROW + b'{"text": fine}\n' + ROW, "bad-json", 2, says="column 10", file="a.jsonl"),
    Case("cut line", ROW + b"\n" + ROW + b'{"text": "fi', "bad-json", 4, says="ends too early", file="a.jsonl"),
    Case(
        "comma after the object",
        ROW + b'{"text": "a", "label": 1},\n',
        "bad-json",
        2,
        says="comma before the end",
        file="a.jsonl",
    ),
    Case(
        "comma in the object",
        ROW + b'{"text": "a", "label": 1,}\n',
        "bad-json",
        2,
        says="comma before the end",
        file="a.jsonl",
    ),
    Case(
        "comma in a list",
        ROW + b'{"text": "a", "label": [1,]}\n',
        "bad-json",
        2,
        says="comma before the end",
        file="a.jsonl",
    ),
    Case("single quotes", ROW + b"{'text': 'a', 'label': 1}\n", "bad-json", 2, says="single quotes", file="a.jsonl"),
    Case(
        "Python's True",
        ROW + b'{"text": "a", "label": True}\n',
        "bad-json",
        2,
        says="True is Python, not JSON",
        file="a.jsonl",
    ),
    Case("raw tab", ROW + b'{"text": "a\tb", "label": 1}\n', "bad-json", 2, says="unescaped control", file="a.jsonl"),
    Case("deep", ROW + b'{"text": ' + b"[" * 100_000 + b"\n", "bad-json", 2, says="nested too deeply", file="a.jsonl"),
    Case("array in lines", b"[\n" + ROW + b"]\n", "bad-json", 1, says="dataset.format: json", file="a.jsonl"),
    Case("a list", ROW + b"[1, 2]\n", "not-an-object", 2, file="a.jsonl"),
    Case("an empty object", ROW + b"{}\n", "not-an-object", 2, file="a.jsonl"),
    Case(
        "a key twice",
        ROW + b'{"text": "a", "label": 1, "text": "b"}\n',
        "duplicate-key",
        2,
        column="text",
        file="a.jsonl",
    ),
    Case("NaN", ROW + b'{"text": "a", "label": NaN}\n', "not-a-number", 2, file="a.jsonl"),
    Case("Infinity", ROW + b'{"text": "a", "label": -Infinity}\n', "not-a-number", 2, file="a.jsonl"),
    Case(
        "65 bits",
        ROW + b'{"text": "a", "label": 9223372036854775808}\n',
        "number-too-large",
        2,
        says="Write it as text",
        file="a.jsonl",
    ),
    Case(
        "a million digits",
        ROW + b'{"text": "a", "label": ' + b"9" * 10**6 + b"}\n",
        "number-too-large",
        2,
        file="a.jsonl",
    ),
    Case("1e999", ROW + b'{"text": "a", "label": 1e999}\n', "number-too-large", 2, file="a.jsonl"),
    Case(
        "lone surrogate", ROW + b'{"text": "\\ud800", "label": 1}\n', "lone-surrogate", 2, column="text", file="a.jsonl"
    ),
    Case("escaped NUL", ROW + b'{"text": "a\\u0000", "label": 1}\n', "nul", 2, column="text", file="a.jsonl"),
    Case("missing key", ROW * 2 + b'{"text": "a"}\n' + ROW, "missing-key", 3, column="label", file="a.jsonl"),
    Case(
        "number to text",
        ROW + b'{"text": "a", "label": "one"}\n',
        "type-changed",
        2,
        column="label",
        says="the value is text, but other rows have an integer",
        file="a.jsonl",
    ),
    Case(
        "number to boolean", ROW + b'{"text": "a", "label": true}\n', "type-changed", 2, column="label", file="a.jsonl"
    ),
    Case(
        "list to object",
        b'{"text": "a", "label": [1]}\n{"text": "a", "label": {"b": 1}}\n',
        "type-changed",
        2,
        column="label",
        says="the value is an object, but other rows have a list of integers",
        file="a.jsonl",
    ),
    Case(
        "deep inside",
        b'{"text": "a", "label": {"b": [1]}}\n{"text": "a", "label": {"b": ["1"]}}\n',
        "type-changed",
        2,
        column="label.b",
        file="a.jsonl",
    ),
    Case(
        "a list that mixes",
        b'{"text": "a", "label": [1, "b"]}\n' + ROW,
        "type-changed",
        1,
        column="label",
        file="a.jsonl",
    ),
    Case(
        "a great integer among numbers",
        ROW.replace(b"1}", b"1.5}") + ROW.replace(b"1}", b"9007199254740993}"),
        "number-too-large",
        2,
        column="label",
        file="a.jsonl",
    ),
]
ONE = b'{"text": "fine",\n "label": 1}'
JSON = [
    Case("truncated between", b"[" + ONE + b",\n" + ONE, "truncated-json", 4, level="error", file="a.json"),
    Case(
        "truncated inside",
        b"[" + ONE + b",\n" + ONE[:-4],
        "truncated-json",
        4,
        level="error",
        says="line 3",
        file="a.json",
    ),
    Case("truncated in a string", b"[" + ONE + b",\n" + ONE[:12], "truncated-json", 3, level="error", file="a.json"),
    Case(
        "trailing comma",
        b"[" + ONE + b",\n\n]",
        "bad-json",
        2,
        level="error",
        says="comma before the end",
        file="a.json",
    ),
    Case("text after the end", b"[" + ONE + b"]\n{}", "text-after-end", 3, level="error", file="a.json"),
    Case("no comma", b"[" + ONE + b"\n" + ONE + b"]", "bad-json", 3, level="error", file="a.json"),
    Case(
        "bad element", b"[" + ONE + b",\n{'a': 1}]", "bad-json", 3, level="error", says="single quotes", file="a.json"
    ),
    Case("array of numbers", b"[" + ONE + b",\n12]", "not-an-object", 3, file="a.json"),
    Case("NaN in an array", b"[" + ONE + b',\n{"text": "a",\n"label": NaN}]', "not-a-number", 3, file="a.json"),
    Case("empty array", b"[ ]", "no-rows", None, level="error", file="a.json"),
    Case(
        "wrapper",
        b'{"rows": ' + ONE + b"}",
        "not-an-array",
        1,
        level="error",
        says="one object with the keys 'rows', without a list of rows",
        file="a.json",
    ),
    Case("lines named json", ROW * 2, "not-an-array", 1, level="error", says="JSON lines", file="a.json"),
]
BINARY = [
    Case("truncated parquet", table("text", "label")[:-30], "corrupt-file", None, level="error", file="a.parquet"),
    Case("no parquet", HEAD + GOOD, "corrupt-file", None, level="error", file="a.parquet"),
    Case("no arrow", HEAD + GOOD, "corrupt-file", None, level="error", file="a.arrow"),
    Case("empty parquet", b"", "corrupt-file", None, level="error", file="a.parquet"),
]


def arrow(table: pa.Table) -> bytes:
    """Return a table as an Arrow stream."""
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


def nested(levels: int) -> pa.Array:
    """Return a column of lists inside each other."""
    kind = pa.string()
    for _ in range(levels):
        kind = pa.list_(kind)
    return pa.nulls(2, kind)


MANY = [f"c{number}" for number in range(20_000)]
DEEP = pa.table({"text": ["x", "y"], "label": ["1", "0"], "tree": nested(55)})


def json_lines(*rows: object) -> bytes:
    """Return objects as JSON Lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def named(name: str) -> list[Case]:
    """Return files with a column whose name no table can have."""
    escaped = json.dumps(name).encode()
    fine = {"text": ["x", "y"], "label": ["1", "0"], name: ["1", "2"]}
    line = b'{"text": "a", "label": 1, %s: 2}\n' % escaped
    below = b'{"text": "a", "label": {%s: 2}}\n' % escaped
    says, code = f"control character U+{ord(name[1]):04X}", "bad-column-name"
    return [
        Case(f"{says} in a csv", f"text,label,{name}\nx,1,2\n".encode(), code, 1, "error", says=says),
        Case(f"{says} in a tsv", f"text\tlabel\t{name}\nx\t1\t2\n".encode(), code, 1, "error", None, says, "a.tsv"),
        Case(f"{says} in lines", ROW + line, "unsupported-type", 2, says=says, file="a.jsonl"),
        Case(f"{says} in an array", b"[" + line + b"]", "unsupported-type", 1, says=says, file="a.json"),
        Case(f"{says} in an object", below, "unsupported-type", 1, column="label", says=says, file="a.jsonl"),
        Case(f"{says} in parquet", as_parquet(pa.table(fine)), code, None, "error", None, says, "a.parquet"),
        Case(f"{says} in arrow", arrow(pa.table(fine)), code, None, "error", None, says, "a.arrow"),
    ]


def as_parquet(table: pa.Table) -> bytes:
    """Return a table as a parquet file."""
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def wide() -> list[Case]:
    """Return files with more columns, keys or levels than a table can have."""
    many, code = dict.fromkeys(MANY, 1), "too-many-columns"
    new_keys = [{"text": "a", "label": 1, name: 1} for name in MANY[:3_000]]
    new_nested = [{"text": "a", "label": {name: 1}} for name in MANY[:3_000]]
    schema = pa.schema([(name, pa.int8()) for name in MANY])
    empty = pa.Table.from_arrays([pa.array([], pa.int8())] * len(MANY), schema=schema)
    keys, columns = "too-many-keys", "there are 20,000 columns"
    deep = b'{"text": "a", "label": ' + b"[" * 55 + b"1" + b"]" * 55 + b"}\n"
    deeper = b'{"text": "a", "label": 1, "tree": ' + b"[" * 900 + b"]" * 900 + b"}\n"
    return [
        Case("wide csv", ",".join(MANY).encode() + b"\n", code, 1, "error", says=columns),
        Case("wide tsv", b"\n" + "\t".join(MANY).encode() + b"\n", code, 2, "error", says=columns, file="a.tsv"),
        Case("wide lines", json_lines(many), code, 1, "error", says=columns, file="a.jsonl"),
        Case("wide array", b"[\n" + json_lines(many) + b"]", code, 2, "error", says=columns, file="a.json"),
        Case("wide arrow", arrow(empty), code, None, "error", says=columns, file="a.arrow"),
        Case("new keys", json_lines(*new_keys), keys, 1_002, "error", column="c1001", file="a.jsonl"),
        Case("new nested keys", json_lines(*new_nested), keys, 1_001, "error", column="label", file="a.jsonl"),
        Case("a wide object", json_lines({"text": "a", "label": many}), keys, 1, "error", "label", file="a.jsonl"),
        Case("55 levels", deep, "unsupported-type", 1, column="label", says="more than 50 lists", file="a.jsonl"),
        Case("900 levels", ROW + deeper, "bad-json", 2, says="nested too deeply", file="a.jsonl"),
        Case("deep arrow", arrow(DEEP), "unsupported-type", None, "error", "tree", file="a.arrow"),
        Case(
            "a column twice in parquet",
            as_parquet(pa.Table.from_arrays([pa.array(["x"])] * 3, names=["text", "label", "text"])),
            "duplicate-column", None, "error", "text", file="a.parquet",
        ),
    ]  # fmt: skip


CASES = [*CSV, *GZ, *TSV, *OTHER, *JSONL, *JSON, *BINARY, *named("a\0b"), *named("a\x1fb"), *wide()]
