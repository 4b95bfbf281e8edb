"""Malformed files: each is refused before any model is loaded, with code, file, line, column and level."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from malformed_files import CASES, GOOD, HEAD, ONE, ROW, Case

from finetune.data import CODES, from_rows, load
from finetune.data.findings import one_line
from finetune.data.kinds import MOST_COLUMNS
from finetune.errors import BadData
from finetune.interfaces import Batch, Columns, Finding, Preprocessor, Row
from finetune.plugins import discover
from finetune.recipe import Source

PLUGINS = discover()


@dataclass(frozen=True, kw_only=True)
class Texts(Preprocessor):
    def needs(self) -> Columns:
        return Columns(required=("text",), answers=("label",))

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        for i, row in enumerate(examples):
            if row["label"] == "bad":
                yield Finding(code="bad-label", message="this label is bad", row=i, column="label", value=row["label"])

    def features(self, examples: Batch, tokenizer: Any) -> Batch:
        return {}


def refused(source: Source) -> BadData:
    with pytest.raises(BadData) as caught:
        load(source, Texts(), plugins=PLUGINS, seed=0)
    return caught.value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_a_malformed_file_is_refused_with_its_place(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.file
    path.write_bytes(case.content)
    error = refused(Source(path=str(path), validation_size=0))
    finding = next(finding for finding in error.findings if finding.level != "warning")
    assert (finding.code, finding.line, finding.level) == (case.code, case.line, case.level)
    assert finding.file == str(path)
    if case.column:
        assert finding.column == case.column
    assert case.says in one_line(finding)
    assert finding.code in CODES or finding.code == "bad-label"
    assert error.exit_code == 2
    assert str(path) in str(error)
    assert finding.value is None or len(finding.value) <= 80


def test_a_file_without_a_header_is_named_even_if_its_columns_are_renamed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"fine,good\nslow,bad\nnice,good\n")
    error = refused(Source(path=str(tmp_path / "a.csv"), columns={"review": "text", "stars": "label"}))
    assert error.counts == {"unknown-rename": 2, "no-header": 1}


def test_at_least_a_hundred_malformed_files_are_tried() -> None:
    assert len(CASES) >= 100


def test_a_table_of_the_most_columns_is_read(tmp_path: Path) -> None:
    names = ["text", "label", *(f"c{number}" for number in range(MOST_COLUMNS - 2))]
    row = ",".join(["tar", *["1"] * (MOST_COLUMNS - 1)])
    (tmp_path / "a.csv").write_text(f"{','.join(names)}\n{row}\n")
    source = Source(path=str(tmp_path / "a.csv"), validation_size=0)
    assert load(source, Texts(), plugins=PLUGINS, seed=0).splits["train"].column_names == names


@pytest.mark.parametrize(("levels", "says"), [(60, "more than 50 lists"), (5_000, "nested too deeply")])
def test_rows_of_python_that_are_nested_too_deeply_are_refused(levels: int, says: str) -> None:
    label: Any = 1
    for _ in range(levels):
        label = [label]
    with pytest.raises(BadData, match=says):
        from_rows({"train": [{"text": "tar", "label": label}]}, Texts())


def test_many_keys_that_a_row_lacks_are_one_finding(tmp_path: Path) -> None:
    first = {"text": "a", "label": 1, **{f"c{number}": 1 for number in range(30)}}
    rows = [first, {"text": "b", "label": 0}, {"text": "c", "label": 0}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = load(Source(path=str(tmp_path / "a.jsonl"), validation_size=0), Texts(), plugins=PLUGINS, seed=0)
    assert found.counts == {"missing-key": 2}
    assert "30 keys of the first row are missing, such as 'c0'" in found.findings[0].message


def test_20_findings_of_a_code_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(HEAD + GOOD + b"a\n" * 50 + b"a,b,c\n" * 3)
    error = refused(Source(path=str(tmp_path / "a.csv")))
    assert error.counts == {"ragged-row": 53}
    assert [finding.line for finding in error.findings] == list(range(3, 23))


def test_all_problems_of_all_splits_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(HEAD + b"a\n" + b"x,bad\n")
    (tmp_path / "b.jsonl").write_bytes(ROW + b"{,}\n")
    (tmp_path / "c.csv").write_bytes(b"text\nx\n")
    paths = {"train": "a.csv", "validation": "b.jsonl", "test": "c.csv"}
    error = refused(Source(path={split: str(tmp_path / name) for split, name in paths.items()}))
    assert {(f.split, f.code, f.line) for f in error.findings} == {
        ("train", "ragged-row", 2),
        ("train", "bad-label", 3),
        ("validation", "bad-json", 2),
        ("test", "missing-column", None),
    }


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_a_record_over_the_limit_is_refused_without_reading_it_all(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("text", "delimited", "json_array"):
        monkeypatch.setattr(f"finetune.data.readers.{module}.LONGEST", 3 << 20)
    opening = {"a.csv": HEAD + GOOD + b"x" * 9, "a.jsonl": ROW + b' {"text": "', "a.json": b"[" + ONE + b',{"text": "'}[
        name
    ]
    (tmp_path / name).write_bytes(opening + b"x" * (20 << 20))
    error = refused(Source(path=str(tmp_path / name)))
    assert [(f.code, f.line) for f in error.findings] == [("record-too-long", {"a.csv": 3}.get(name, 2))]


def test_an_open_quote_stops_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.data.readers.delimited.LONGEST", 1 << 20)
    (tmp_path / "a.csv").write_bytes(HEAD + GOOD + b'"open,1\n' + GOOD * 200_000)
    error = refused(Source(path=str(tmp_path / "a.csv")))
    assert [(f.code, f.line) for f in error.findings] == [("record-too-long", 3)]


def test_flipped_bytes_in_a_parquet_page_with_checksums_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"row number {i}" for i in range(1_000)]
    pq.write_table(pa.table({"text": texts, "label": texts}), path, write_page_checksum=True, compression="none")
    content = bytearray(path.read_bytes())
    place = content.index(b"row number 500")
    content[place : place + 3] = b"cow"
    path.write_bytes(content)
    assert [f.code for f in refused(Source(path=str(path))).findings] == ["corrupt-file"]


def test_the_likely_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(HEAD + "Größe,1\n".encode())
    assert "set dataset.encoding: utf-8" in str(refused(Source(path=str(path), encoding="ascii")))
    path.write_bytes(HEAD + "“Größe”,1\n".encode("cp1252"))
    assert "set dataset.encoding: cp1252" in str(refused(Source(path=str(path))))
    path.write_bytes(b"\xef\xbb\xbf" + HEAD + GOOD)
    assert "probably utf-8" in str(refused(Source(path=str(path), encoding="cp1252")))


def test_an_encoding_that_python_does_not_know_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(HEAD + GOOD)
    for encoding in ("utf-9", "base64"):
        assert encoding in str(refused(Source(path=str(tmp_path / "a.csv"), encoding=encoding)))
