"""Write rows to an Arrow table on disk, block by block: one type for each column, and the place of each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from datasets import Dataset

from finetune.data import storage
from finetune.data.columns import ColumnTypes
from finetune.data.findings import SHOWN, Report, UnreadableError, nearest
from finetune.data.kinds import plain
from finetune.interfaces import Finding, ReadRow, Row

BLOCK_ROWS = 10_000
BLOCK_CHARACTERS = 16 << 20
"""A block is written once it has this many rows or characters."""

_PLACES = pa.schema([("file", pa.int32()), ("line", pa.int64()), ("row", pa.int64()), ("path", pa.string())])


class Writer(Protocol):
    """Takes the good rows of a table, block by block."""

    def write(self, batch: pa.RecordBatch, places: Sequence[Any]) -> None:
        """Take a block with the places of its rows."""

    def finish(self, schema: pa.Schema) -> Dataset | None:
        """Return the rows that were kept, with the final types; None without rows."""

    def places(self) -> StoredPlaces | None:
        """Return the places of all rows, if they were kept."""


class Broken(Protocol):
    """Takes the entries of `dropped.jsonl`."""

    def append(self, entry: Mapping[str, Any], /) -> None:
        """Add an entry."""

    def __iter__(self) -> Iterator[Mapping[str, Any]]: ...


class Measured(Protocol):
    """A source of rows that counts the characters it has read."""

    characters: int


class StoredPlaces(Protocol):
    """File, line, row and path of each row of a table; ``file`` is a position in `Table.files`."""

    @property
    def table(self) -> pa.Table:
        """The places."""


@dataclass(frozen=True)
class HeldPlaces:
    """Places in memory."""

    table: pa.Table


@dataclass(frozen=True)
class PlaceFile:
    """Places in a file; another process gets the path of the file."""

    path: Path

    @cached_property
    def table(self) -> pa.Table:
        """The places, memory-mapped."""
        return pa.ipc.open_stream(pa.memory_map(str(self.path))).read_all()

    def __reduce__(self) -> Any:
        return PlaceFile, (self.path,)


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of a split that could be read, and their places."""

    rows: Dataset | None
    """None if no row could be read."""
    places: StoredPlaces | None = None
    """Where each row is; None if the place of a row is its position in its file."""
    files: tuple[str, ...] = ()
    """Files that the rows come from."""
    sizes: tuple[int, ...] = ()
    """Number of rows of each file, bad ones included."""
    read: int
    """Number of rows, bad ones included."""
    bad: int = 0
    """Number of rows that could not be read."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """Numbers of removed ``blank_lines`` and ``byte_order_marks``."""
    broken: Iterable[Mapping[str, Any]] = ()
    """Entries of `dropped.jsonl` for the bad rows, if bad rows are dropped."""
    sound: bool = True
    """Whether no error was found."""
    header: bool = False
    """Whether the names of the columns come from the first line of a file."""

    def unsound(self) -> Table:
        """Return the table as one in which an error was found."""
        return replace(self, sound=False, bad=0, broken=(), notes={})

    def place(self, position: int) -> dict[str, Any]:
        """Return ``file``, ``line``, ``row`` (its position in its file, from 0) and ``path`` of a row."""
        if self.places is None:
            for name, size in zip(self.files, self.sizes, strict=True):
                if position < size:
                    return {"row": position, "file": name}
                position -= size
            return {"row": position, "file": None}
        place = {name: self.places.table.column(name)[position].as_py() for name in _PLACES.names}
        return {**place, "file": None if place["file"] is None else self.files[place["file"]]}


@dataclass(kw_only=True)
class _Block:
    rows: list[Row] = field(default_factory=list)
    lines: list[int | None] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    paths: list[str | None] = field(default_factory=list)

    def without(self, bad: Collection[int]) -> _Block:
        keep = [i for i in range(len(self.rows)) if i not in bad]
        return _Block(
            rows=[self.rows[i] for i in keep],
            lines=[self.lines[i] for i in keep],
            numbers=[self.numbers[i] for i in keep],
            paths=[self.paths[i] for i in keep],
        )


class Tabulator:
    """Makes one `Table` from the rows of one or more files, or of Python code.

    Args:
        split: Name of the split.
        report: Takes the findings.
        needed: Columns, by their names in the file, that every row must have.
        used: Columns that the task reads; None for all. See `ColumnTypes`.
        writer: Takes the good rows; None to write them to a file.
        broken: Takes the entries of `dropped.jsonl`; None for a list.
    """

    def __init__(
        self,
        *,
        split: str,
        report: Report,
        needed: Collection[str] = (),
        used: frozenset[str] | None = None,
        writer: Writer | None = None,
        broken: Broken | None = None,
    ) -> None:
        self.split = split
        self.report = report
        self.refused: list[list[int]] = []
        """For each file, the positions of the rows that a reader yielded and that do not fit the table."""
        self._bad = 0
        self._notes: Counter[str] = Counter()
        self._broken: Broken = [] if broken is None else broken
        self._files: list[str] = []
        self._sizes: list[int] = []
        self._header = False
        self._columns = ColumnTypes(needed=frozenset(needed), used=used)
        self._writer: Writer = writer or TableWriter(storage.folder())
        self._errors = report.levels["error"]

    @property
    def count(self) -> int:
        """Number of rows so far."""
        return sum(self._sizes)

    def read(
        self,
        items: Iterable[ReadRow | tuple[None, Row] | Finding],
        *,
        measured: Measured,
        file: str | None,
        header: bool,
    ) -> None:
        """Add the rows of one file.

        Args:
            items: What a reader yields.
            measured: Counts the characters that the reader has read.
            file: Name of the file; None for Python code.
            header: Whether all rows have the same keys.
        """
        if file is not None:
            self._files.append(file)
        self._sizes.append(0)
        self.refused.append([])
        self._header = self._header or header
        block = _Block()
        mark = measured.characters
        stopped: Finding | None = None
        first = True
        try:
            for item in items:
                if type(item) is not tuple:
                    self._found(item)  # type: ignore[arg-type]
                    continue
                if first and header and self._differs(item):
                    break
                first = False
                block.rows.append(item[1])
                block.lines.append(item[0])
                block.numbers.append(self._sizes[-1])
                block.paths.append(path_of(item[1], item[2]) if len(item) > 2 else None)
                self._sizes[-1] += 1
                if len(block.rows) >= BLOCK_ROWS or measured.characters - mark >= BLOCK_CHARACTERS:
                    self._add(block, header=header)
                    block, mark = _Block(), measured.characters
                    if self._columns.is_full:
                        break
        except UnreadableError as error:
            stopped = error.finding
        self._add(block, header=header)
        if stopped and not self._columns.is_full:
            self._found(stopped)

    def note(self, what: str) -> None:
        """Count something that was removed, such as a byte order mark."""
        self._notes[what] += 1

    def finish(self) -> Table:
        """Return the table."""
        try:
            rows = self._writer.finish(self._columns.schema())
        except pa.ArrowInvalid as error:
            rows = None
            message = f"a column mixes numbers with integers that a number cannot hold exactly ({error})."
            fix = "Write the integers as text, in quotes."
            self.report.error("number-too-large", message, fix=fix, split=self.split)
        return Table(
            rows=rows,
            places=self._writer.places(),
            files=tuple(self._files),
            sizes=tuple(self._sizes),
            read=self.count,
            bad=self._bad,
            notes=self._notes,
            broken=self._broken,
            sound=self.report.levels["error"] == self._errors,
            header=self._header,
        )

    def _found(self, finding: Finding) -> None:
        """Add a finding of a reader. A bad row counts as read; a blank line is counted in the data report only."""
        if finding.code == "blank-line":
            self._notes["blank_lines"] += 1
            return
        placed = self._placed(finding, line=finding.line, path=finding.path)
        if finding.level == "row":
            placed = replace(placed, row=self._sizes[-1])
            self._sizes[-1] += 1
            self._drop([placed], example={})
        self.report.add(placed)

    def _placed(self, finding: Finding, *, line: int | None, path: str | None, row: int | None = None) -> Finding:
        file = finding.file or (self._files[-1] if self._files else None)
        return replace(finding, file=file, line=line, row=row, path=path, split=self.split)

    def _differs(self, item: Any) -> bool:
        """Report a header that lacks columns of earlier files."""
        missing = [name for name in self._columns.first if name not in item[1]]
        others = item[1].keys() - self._columns.kinds.keys()
        for name in missing[:SHOWN]:
            close = nearest(name, others)
            hint = f" Did you mean {close!r}?" if close else ""
            message = f"column {name!r} of {self._files[0]} is missing in this file.{hint}"
            fix = "All files of a split must have the same columns."
            self.report.error("columns-differ", message, fix=fix, file=self._files[-1], column=name, split=self.split)
        return bool(missing)

    def _add(self, block: _Block, *, header: bool) -> None:
        """Check a block, report its bad rows, and write the others."""
        if block.rows:
            block = self._report(block, self._columns.check_keys(block.rows, header))
        if self._columns.is_full:
            return
        if block.rows:
            block = self._report(block, self._columns.check_values(block.rows))
        if block.rows:
            file = len(self._files) - 1 if self._files else None
            files = pa.array([file] * len(block.rows), pa.int32())
            places = [files, pa.array(block.lines, pa.int64()), block.numbers, pa.array(block.paths, pa.string())]
            self._writer.write(self._columns.batch(block.rows), places)

    def _report(self, block: _Block, found: Mapping[int, Sequence[Finding]]) -> _Block:
        """Report the findings, and return the block without the bad rows."""
        bad = set()
        for i in sorted(found):
            placed = []
            for finding in found[i]:
                placed.append(self._placed(finding, line=block.lines[i], path=block.paths[i], row=block.numbers[i]))
                self.report.add(placed[-1])
            if any(finding.level == "row" for finding in placed):
                bad.add(i)
                self.refused[-1].append(block.numbers[i])
                self._drop(placed, example=block.rows[i])
        return block.without(bad) if bad else block

    def _drop(self, findings: Sequence[Finding], *, example: Row) -> None:
        self._bad += 1
        if self.report.drops:
            self._broken.append(dropped(findings, example=example))


def dropped(findings: Sequence[Finding], *, example: Row) -> dict[str, Any]:
    """Return the entry of `dropped.jsonl` for one row."""
    first = findings[0]
    bad = [finding for finding in findings if finding.level == "row"]
    return {
        "split": first.split,
        "file": first.file,
        "line": first.line,
        "path": first.path,
        "row": first.row,
        "codes": sorted({finding.code for finding in bad}),
        "messages": [finding.message for finding in bad],
        "example": dict(example),
    }


def path_of(row: Row, path: str) -> str:
    """Return the path of a row with its id, if it has one.

    >>> path_of({"id": "q7"}, "[4]"), path_of({"text": "tar"}, "[4]")
    ("[4] (id 'q7')", '[4]')
    """
    name = row.get("id")
    return path if name in (None, "") else f"{path} (id {str(name)!r})"


class PythonRows:
    """Rows that are given in Python; they have no lines."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._rows = rows
        self.characters = 0

    def __iter__(self) -> Iterator[tuple[None, Row] | Finding]:
        for row in self._rows:
            if isinstance(row, Mapping):
                try:
                    example = plain(row)
                    self.characters += _weight(example)
                except RecursionError:
                    yield Finding(code="unsupported-type", message="a value of the row is nested too deeply.")
                    continue
                yield None, example
            else:
                message = f"a row has the type {type(row).__name__}. It must be a mapping: {{column: value, …}}."
                yield Finding(code="not-an-object", message=message, value=str(row))


def _weight(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_weight, value.values()))
    return sum(map(_weight, value)) if isinstance(value, list) else 8


class TableWriter:
    """Writes blocks as Arrow streams, starts a new one if a type is widened, and joins them at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: list[Path] = []
        self._schema: pa.Schema | None = None
        self._stream: Any = None
        self._places = pa.ipc.new_stream(str(folder / "places.arrow"), _PLACES)

    def write(self, batch: pa.RecordBatch, places: Sequence[Any]) -> None:
        """Add a block with the places of its rows."""
        if self._stream is None or not batch.schema.equals(self._schema):
            self._close()
            self._parts.append(self._folder / f"part-{len(self._parts)}.arrow")
            self._schema = batch.schema
            self._stream = pa.ipc.new_stream(str(self._parts[-1]), batch.schema)
        self._stream.write_batch(batch)
        self._places.write_batch(pa.record_batch(places, schema=_PLACES))

    def finish(self, schema: pa.Schema) -> Dataset | None:
        """Return all rows, memory-mapped.

        Raises:
            pyarrow.ArrowInvalid: A column of numbers cannot hold an integer exactly.
        """
        path = self._joined(schema)
        return Dataset.from_file(str(path)) if path else None

    def _joined(self, schema: pa.Schema) -> Path | None:
        """Return the file with all rows."""
        self._close()
        self._places.close()
        if not self._parts:
            return None
        if len(self._parts) == 1 and schema.equals(self._schema):
            return self._parts[0]
        path = self._folder / "rows.arrow"
        with pa.ipc.new_stream(str(path), schema) as stream:
            for part in self._parts:
                with pa.memory_map(str(part)) as source:
                    for batch in pa.ipc.open_stream(source):
                        stream.write_batch(widened(batch, schema))
                part.unlink()
        return path

    def places(self) -> PlaceFile:
        """Return the places of all rows."""
        return PlaceFile(self._folder / "places.arrow")

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()


class MemoryWriter:
    """Keeps blocks in memory, so that a process that predicts a few rows again and again writes no files."""

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._places: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch, places: Sequence[Any]) -> None:
        """Add a block with the places of its rows."""
        self._batches.append(batch)
        self._places.append(pa.record_batch(places, schema=_PLACES))

    def finish(self, schema: pa.Schema) -> Dataset | None:
        """Return all rows.

        Raises:
            pyarrow.ArrowInvalid: A column of numbers cannot hold an integer exactly.
        """
        if not self._batches:
            return None
        return Dataset(pa.Table.from_batches([widened(batch, schema) for batch in self._batches]))

    def places(self) -> HeldPlaces:
        """Return the places of all rows."""
        return HeldPlaces(pa.Table.from_batches(self._places, _PLACES))


def widened(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a block of an earlier schema with the types of the final one."""
    columns = []
    for wanted in schema:
        if wanted.name not in batch.schema.names:
            columns.append(pa.nulls(len(batch), wanted.type))
            continue
        column = batch.column(wanted.name)
        flat = not pa.types.is_nested(wanted.type)
        if column.type != wanted.type:
            column = column.cast(wanted.type) if flat else pa.array(column.to_pylist(), wanted.type)
        columns.append(column)
    return pa.record_batch(columns, schema=schema)
