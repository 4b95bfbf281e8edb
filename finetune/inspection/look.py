"""Look at a data set through the readers of the library: its format, encoding, columns, splits and first rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from finetune.data import sources
from finetune.data.findings import Report, UnreadableError
from finetune.data.readers import binary
from finetune.data.readers.delimited import CsvReader, DelimitedReader
from finetune.data.readers.formats import Formats
from finetune.data.readers.json_array import JsonArrayReader
from finetune.data.readers.json_lines import JsonLinesReader
from finetune.data.readers.text import Text, likely, lines
from finetune.data.sources import ROLES, Files
from finetune.errors import BadData, listed
from finetune.inspection.columns import Column, column, is_number
from finetune.interfaces import Finding, Reader, Row
from finetune.plugins import Plugins
from finetune.recipe import Source
from finetune.recipe.options import build, document

MOST_ROWS = 20_000
"""Most rows of a split that are looked at."""
_PROBED = 200
"""Rows with which delimiters and options of readers are compared."""
_PIECES = 16
"""Pieces of a file, of about a million characters, in which its encoding is tried."""
_DELIMITERS = ",;\t|"
_BLANK = "column_"
"""How the columns of a file without a header are called until they are known."""
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "devel", "development", "eval"),
    "test": ("test", "testing"),
}
"""Split → the names that data sets give it."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look at a data set showed."""

    dataset: Mapping[str, Any]
    """The section of a recipe that reads it, without the names of its columns."""
    why: Mapping[str, str]
    """Key of the section → the reason for it."""
    rows: Mapping[str, Sequence[Row]]
    """Split → its first rows."""
    complete: bool
    """Whether these are all rows of train."""
    columns: Sequence[Column]
    """The columns of train."""
    findings: Sequence[Finding] = ()
    """What is wrong with the rows that were read of train."""
    form: str = ""
    """What the data set is: ``"a csv file"``."""

    @property
    def without_header(self) -> bool:
        """Whether the file has no header, so that the columns have no names yet."""
        return "names" in self.dataset.get("options", {})


def look(path: str, plugins: Plugins) -> Look:
    """Look at a data set.

    Args:
        path: A file, a folder, an id of the Hub, a source of a plugin or a Python function.
        plugins: Where readers and sources are looked up.

    Raises:
        BadData: It does not exist, or cannot be read at all.
    """
    formats = Formats(plugins)
    report = Report(on_bad="drop", remedy="")
    found = sources.find(Source(path=path), plugins=plugins, formats=formats, report=report)
    report.stop()
    splits, why_splits = _splits(found)
    parts = {role: found[theirs] for role, theirs in splits.items()}
    renamed: dict[str, str] = {role: theirs for role, theirs in splits.items() if role != theirs}
    dataset: dict[str, Any] = {"path": path}
    why: dict[str, str] = {}
    rows: dict[str, Sequence[Row]] = {}
    complete, findings = True, []
    form = "a folder with texts for each label" if Path(path).expanduser().is_dir() else "rows of Python"
    for role, content in parts.items():
        if not isinstance(content, Files):
            kept = list(islice(iter(content), MOST_ROWS + 1))
            rows[role] = [dict(row) for row in kept[:MOST_ROWS]]
            complete = complete and len(kept) <= MOST_ROWS
            continue
        file = _File(content.names[0], formats)
        if role == "train":
            settings, why = file.settings()
            dataset.update(settings)
            form = file.form
            if len(content.names) > 1:
                form = f"{len(content.names)} files, the first of which is {form}"
            elif Path(path).expanduser().is_dir():
                form = f"a folder with {form}"
        source = Source(**{**dataset, "path": str(content.names[0])})
        sample = file.rows(source)
        rows[role] = sample.rows
        if role == "train":
            complete, findings = sample.complete and len(content.names) == 1, sample.findings
    if renamed:
        dataset["splits"], why["splits"] = renamed, why_splits
    return Look(
        dataset=dataset, why=why, rows=rows, complete=complete, columns=columns_of(rows["train"]), findings=findings,
        form=form,
    )  # fmt: skip


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of some rows."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [column(name, [row.get(name) for row in rows]) for name in names]


def _splits(found: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """Return split of the run → split of the source, and why; splits with other names are left out."""
    splits: dict[str, str] = {}
    for role in ROLES:
        name = next((name for name in _SPLITS[role] if name in found), None)
        if name is not None:
            splits[role] = name
    why = "the data set gives its splits these names"
    if "train" not in splits:
        rest = [name for name in found if name not in splits.values()]
        if len(rest) != 1:
            raise BadData(
                f"it is unclear which split to train on: {listed(sorted(found))}. Give the file itself, or name the "
                "splits in a recipe: dataset.path: {train: FILE, test: FILE}."
            )
        splits["train"] = rest[0]
        why = f"{rest[0]} is the only split that can be train"
    return {role: splits[role] for role in ROLES if role in splits}, why


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """The first rows of a file, and what is wrong with others."""

    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    complete: bool = True

    @property
    def share(self) -> float:
        """Share of the rows that can be read; 0 if the file cannot."""
        bad = sum(finding.level == "row" for finding in self.findings)
        if any(finding.level == "error" for finding in self.findings):
            return 0.0
        return len(self.rows) / (len(self.rows) + bad) if self.rows else 0.0

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self.rows[0]) if self.rows else 0


class _File:
    """One file, and how it is best read."""

    def __init__(self, name: str, formats: Formats) -> None:
        self.name = name
        self.path = Path(name).expanduser()
        self.formats = formats
        self.form = "a file"
        self.encoding = "utf-8"

    def settings(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the keys of the section `dataset` that the file needs, and why.

        Raises:
            BadData: The file cannot be read.
        """
        kind = self.formats.binary(self.path.name, None)
        if kind:
            self.form = f"a {kind} file"
            return {}, {}
        settings: dict[str, Any] = {}
        why: dict[str, str] = {}
        self.encoding = self._encoding()
        if self.encoding != "utf-8":
            settings["encoding"], why["encoding"] = self.encoding, f"the bytes of the file are text in {self.encoding}"
        reader, name, reason = self._reader()
        if name:
            settings["format"], why["format"] = name, reason
        options: dict[str, Any] = {}
        if isinstance(reader, DelimitedReader):
            options, reason = self._table(reader)
            if reason:
                why["options"] = reason
        else:
            options, reason = self._options(reader)
            if reason:
                why["options"] = reason
        if options:
            settings["options"] = options
        self.form = self._describe(reader)
        return settings, why

    def rows(self, source: Source) -> _Sample:
        """Return the first rows of the file, read as a recipe says."""
        kind = self.formats.binary(self.path.name, source.format)
        if kind:
            kept: list[Row] = []
            for batch in binary.file_blocks(self.path, kind):
                kept += batch.to_pylist()
                if len(kept) > MOST_ROWS:
                    break
            return _Sample(rows=kept[:MOST_ROWS], complete=len(kept) <= MOST_ROWS)
        self.encoding = source.encoding
        try:
            reader = self.formats.reader(
                self.path, name=self.name, given=source.format, encoding=source.encoding, options=source.options
            )
        except UnreadableError as error:
            raise _bad(error) from error
        return self._read(reader, most=MOST_ROWS)

    def _read(self, reader: Reader, *, most: int = _PROBED) -> _Sample:
        """Return the first rows of the file, read by a reader."""
        rows: list[Row] = []
        findings: list[Finding] = []
        try:
            for item in reader.rows(Text(self.path, name=self.name, encoding=self.encoding), file=self.name):
                if isinstance(item, Finding):
                    findings.append(item)
                else:
                    rows.append(item[1])
                if len(rows) > most or len(findings) > most:
                    break
        except UnreadableError as error:
            findings.append(error.finding)
        return _Sample(rows=rows[:most], findings=findings, complete=len(rows) <= most)

    def _encoding(self) -> str:
        """Return the encoding of the file.

        Raises:
            BadData: The file is no text.
        """
        try:
            with self.path.open("rb") as file:
                guess = likely(file.read(1 << 16))
        except OSError:
            guess = None
        tried = dict.fromkeys(["utf-8", *([guess] if guess else []), "cp1252", "latin-1"])
        for encoding in tried:
            try:
                for _ in islice(Text(self.path, name=self.name, encoding=encoding), _PIECES):
                    pass
            except UnreadableError as error:
                if error.finding.code != "wrong-encoding":
                    raise _bad(error) from error
                continue
            return encoding
        raise AssertionError("every byte is a character of latin-1")

    def _reader(self) -> tuple[Reader, str, str]:
        """Return the reader of the file, the name of its format if the recipe must name it, and why."""
        head = next(iter(Text(self.path, name=self.name, encoding=self.encoding)), "")[:4096]
        try:
            reader = self.formats.reader(self.path, name=self.name, given=None, encoding=self.encoding)
        except UnreadableError as error:
            if error.finding.code != "unknown-format":
                raise _bad(error) from error
            return self._guessed(head, error)
        is_broken = isinstance(reader, JsonArrayReader) and self._read(reader).share == 0
        if is_broken and self._read(JsonLinesReader()).share == 1:
            return JsonLinesReader(), "jsonl", "each line of the file is an object"
        if isinstance(reader, DelimitedReader):
            if not isinstance(reader, CsvReader) and self._read(reader).share == 0 and self._is_table():
                return CsvReader(), "csv", "its columns are not separated by tabs"
            return reader, "", ""
        is_plain = self._read(reader).width == 1  # else the reader finds more in a line than a text
        if is_plain and self.path.name.lower().removesuffix(".gz").endswith(".txt") and self._is_table(plain="\t;|"):
            return CsvReader(), "csv", "every line has as many columns"
        return reader, "", ""

    def _guessed(self, head: str, error: UnreadableError) -> tuple[Reader, str, str]:
        """Return the reader of a file whose suffix says nothing."""
        names = []
        begin = head.lstrip("\ufeff \t\r\n")
        if begin.startswith("{"):
            names = ["jsonl", "json"]
        elif begin.startswith("["):
            names = ["json"]
        elif self._is_table():
            names = ["csv"]
        names += [name for name in self.formats.names if name not in ("csv", "tsv", "json", "jsonl", *names)]
        for name in names:
            if self.formats.binary(self.path.name, name):
                continue
            reader = self.formats.reader(self.path, name=self.name, given=name, encoding=self.encoding)
            if (name in ("json", "jsonl", "csv") or reader.recognises(head)) and self._read(reader).share >= 0.8:
                return reader, name, "the suffix of the file says nothing, and its lines are in this format"
        raise _bad(error) from error

    def _is_table(self, plain: str = _DELIMITERS) -> bool:
        """Return whether all of the first lines have as many columns, more than one, with the same delimiter."""
        for delimiter in plain:
            sample = self._read(CsvReader(delimiter=delimiter))
            if sample.width > 1 and sample.share == 1 and len(sample.rows) >= 2:
                return True
        return False

    def _table(self, reader: DelimitedReader) -> tuple[dict[str, Any], str]:
        """Return the options of a file of columns, and why."""
        options: dict[str, Any] = {}
        reasons = []
        if isinstance(reader, CsvReader):
            best, most = "", (0.0, 0)
            for delimiter in _DELIMITERS:
                sample = self._probed(CsvReader(delimiter=delimiter))
                if sample.width > 1 and (round(sample.share, 1), 0) > (most[0], 0):
                    best, most = delimiter, (round(sample.share, 1), sample.width)
            if best and best != ",":
                options["delimiter"] = best
                reasons.append(f"{_spelled(best)} separate the columns")
            reader = build(CsvReader, options, where="dataset.options")
        names = self._names(reader)
        if names:
            options["names"] = names
            reasons.append("the first line is a row, not the names of the columns")
        return options, "; ".join(reasons)

    def _probed(self, reader: DelimitedReader) -> _Sample:
        """Return the first rows of a file, also if its first line cannot be a header."""
        sample = self._read(reader)
        if sample.share or not sample.findings:
            return sample
        width = self._width(reader)
        return self._read(_named(reader, width)) if width else sample

    def _width(self, reader: DelimitedReader) -> int:
        """Return how many columns the first line has."""
        text = Text(self.path, name=self.name, encoding=self.encoding)
        delimiter = reader.given or ("," if reader.quotes else "\t")
        for record in reader.records(lines(text, file=self.name), delimiter=delimiter, file=self.name):
            if not isinstance(record, Finding):
                return len(record[1])
        return 0

    def _names(self, reader: DelimitedReader) -> list[str]:
        """Return names for the columns if the file has no header; an empty list if it has one."""
        sample = self._read(reader)
        refused = {finding.code for finding in sample.findings if finding.level == "error"}
        if "duplicate-column" in refused:
            width = self._width(reader)
            if width < 2:
                return []
            below = self._read(_named(reader, width))
            first = [str(value) for value in below.rows[0].values()] if below.rows else []
            if not first or not _looks_like_data(first, below.rows[1:]):
                return []
            return list(below.rows[0])
        if not sample.rows or not _looks_like_data(list(sample.rows[0]), sample.rows):
            return []
        return [f"{_BLANK}{number}" for number in range(1, sample.width + 1)]

    def _options(self, reader: Reader) -> tuple[dict[str, Any], str]:
        """Return the one option of a reader, true or false, without which rows cannot be read."""
        plain = self._read(reader)
        if plain.share > 0.95:
            return {}, ""
        for option in document(type(reader)):
            if not isinstance(option.default, bool):
                continue
            options = {option.name: not option.default}
            share = self._read(build(type(reader), options, where="dataset.options")).share
            if share > plain.share + 0.05:
                bad = sum(finding.level == "row" for finding in plain.findings)
                return options, f"without it, {bad} of the first rows cannot be read"
        return {}, ""

    def _describe(self, reader: Reader) -> str:
        """Return what the file is."""
        for name in self.formats.names:
            if name in ("parquet", "arrow"):
                continue
            if type(self.formats.reader(self.path, name=self.name, given=name, encoding=self.encoding)) is type(reader):
                return f"a file in the format {name}"
        return "a file"


def _named(reader: DelimitedReader, width: int) -> DelimitedReader:
    """Return a reader of a file with some columns and without a header."""
    names = tuple(f"{_BLANK}{number}" for number in range(1, width + 1))
    options: dict[str, Any] = {"names": names}
    if isinstance(reader, CsvReader):
        options["delimiter"] = reader.delimiter
    return type(reader)(**options)


def _looks_like_data(first: Sequence[str], rows: Iterable[Row]) -> bool:
    """Return whether the first line of a file looks like a row: like the values below it, and not like their names."""
    kept = list(rows)
    for name, values in zip(first, _by_column(kept), strict=False):
        text = name.strip()
        if is_number(text) and values and sum(map(is_number, values)) > 0.9 * len(values):
            return True
        long = sum(len(value.split()) >= 4 for value in values) > len(values) / 2
        if long and len(text.split()) >= 6:
            return True
        often = 1 if len(values) < 20 else max(2, len(values) // 50)
        if text and values.count(name) >= often and not is_number(text):
            return True
    return False


def _by_column(rows: Sequence[Row]) -> Iterator[list[str]]:
    for name in rows[0] if rows else ():
        yield [str(row[name]) for row in rows]


def _spelled(delimiter: str) -> str:
    return {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}[delimiter]


def _bad(error: UnreadableError) -> BadData:
    finding = error.finding
    return BadData(f"{finding.file}: {finding.message} {finding.fix}", findings=[finding], counts={finding.code: 1})
