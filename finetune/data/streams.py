"""Rows that are read again in each pass: pieces of a data set, their blocks, and the first pass, which surveys them.

The first pass reads with all checks of `finetune.data.table`. It learns the type of each column and which rows fit.
Later passes read the same files with that knowledge and check nothing again. No pass keeps the rows.
"""

from __future__ import annotations

import codecs
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json
from datasets import Dataset, DatasetInfo, Features, IterableDataset

from finetune.data import files
from finetune.data.dropped_rows import DroppedRows
from finetune.data.findings import Report, UnreadableError
from finetune.data.readers import binary
from finetune.data.readers.formats import Formats
from finetune.data.readers.json_lines import JsonLinesReader
from finetune.data.readers.text import Text
from finetune.data.sources import Files
from finetune.data.table import BLOCK_CHARACTERS, BLOCK_ROWS, Table, Tabulator, path_of, widened
from finetune.errors import BadData
from finetune.interfaces import Finding, Reader, Row
from finetune.recipe import Source

HEAD = 10_000
"""Rows at the beginning that stay in memory: what the checks of columns compare with the header."""
BUFFER = 2 << 20
"""Bytes that Arrow's reader of JSON lines reads together."""
LARGEST_EXACT = 2**53
"""Integers up to this one are exact in a column of numbers."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some rows of a piece, in order, and their places."""

    rows: pa.RecordBatch
    """Those that fit the table."""
    file: str | None
    """The file that they come from."""
    numbers: Array
    """Position of each row in its file, bad rows included."""
    lines: Sequence[int | None] | None = None
    """Line of each row, if its file has lines."""
    paths: Sequence[str | None] | None = None
    """Path of each row in its file, if rows share lines."""

    def place(self, index: int) -> dict[str, Any]:
        """Return ``file``, ``line``, ``row`` and ``path`` of a row."""
        place: dict[str, Any] = {"file": self.file, "row": int(self.numbers[index])}
        if self.lines is not None:
            place["line"] = self.lines[index]
        if self.paths is not None:
            place["path"] = self.paths[index]
        return place

    def slice(self, start: int, length: int) -> Block:
        """Return some of the rows."""
        stop = start + length
        if not start and length == len(self.numbers):
            return self
        return Block(
            rows=self.rows.slice(start, length),
            file=self.file,
            numbers=self.numbers[start:stop],
            lines=None if self.lines is None else self.lines[start:stop],
            paths=None if self.paths is None else self.paths[start:stop],
        )

    def chosen(self, index: Array) -> Block:
        """Return the rows at some positions."""
        if len(index) == len(self.numbers):
            return self
        return Block(
            rows=self.rows.take(pa.array(index)),
            file=self.file,
            numbers=self.numbers[index],
            lines=None if self.lines is None else [self.lines[i] for i in index],
            paths=None if self.paths is None else [self.paths[i] for i in index],
        )


class Piece:
    """A part of a data set that can be read alone, from its beginning, as often as needed."""

    file: str | None
    """Name of the file; None for a part of a data set on the Hub."""

    @abstractmethod
    def blocks(self, schema: pa.Schema) -> Iterator[Block]:
        """Yield the rows that fit, with the columns and types of a schema."""

    def state(self) -> Any:
        """Return what shows that the piece has changed since it was surveyed."""
        return None


def _state_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True, kw_only=True)
class TextPiece(Piece):
    """A text file."""

    file: str
    path: Path
    reader: Reader
    encoding: str
    refused: frozenset[int] = frozenset()
    """Positions of rows that do not fit the table."""
    is_plain: bool = False
    """Whether each line is JSON that fits, so that Arrow's own reader, which is ten times as fast, reads the same."""

    def blocks(self, schema: pa.Schema) -> Iterator[Block]:
        """Yield the rows that fit."""
        done = 0
        if self.is_plain and not any(_holds_null(each.type) for each in schema):
            try:
                for batch in _json_batches(self.path, schema):
                    numbers = np.arange(done, done + len(batch))
                    lines = range(done + 1, done + len(batch) + 1)
                    yield Block(rows=batch, file=self.file, numbers=numbers, lines=lines)
                    done += len(batch)
                return
            except pa.ArrowException:
                pass  # a line that is longer than its buffer, or a number such as -0; the reader below goes on
        for block in self._read(schema):
            known = min(done, len(block.numbers))
            done -= known
            if known < len(block.numbers):
                yield block.slice(known, len(block.numbers) - known)

    def _read(self, schema: pa.Schema) -> Iterator[Block]:
        text = Text(self.path, name=self.file, encoding=self.encoding)
        rows: list[Row] = []
        lines: list[int | None] = []
        numbers: list[int] = []
        paths: list[str | None] = []
        number, mark = 0, 0
        for item in self.reader.rows(text, file=self.file):
            if type(item) is not tuple:
                number += item.level == "row"  # type: ignore[union-attr]
                continue
            if number not in self.refused:
                rows.append(item[1])
                lines.append(item[0])
                numbers.append(number)
                if len(item) > 2:
                    paths.append(path_of(item[1], item[2]))
            number += 1
            if len(rows) >= BLOCK_ROWS or text.characters - mark >= BLOCK_CHARACTERS:
                yield self._block(rows, lines, numbers, paths, schema)
                rows, lines, numbers, paths, mark = [], [], [], [], text.characters
        if rows:
            yield self._block(rows, lines, numbers, paths, schema)

    def _block(
        self,
        rows: Sequence[Row],
        lines: Sequence[int | None],
        numbers: Sequence[int],
        paths: Sequence[str | None],
        schema: pa.Schema,
    ) -> Block:
        arrays = [pa.array([row.get(each.name) for row in rows], each.type) for each in schema]
        return Block(
            rows=pa.record_batch(arrays, schema=schema),
            file=self.file,
            numbers=np.array(numbers, np.int64),
            lines=lines,
            paths=paths or None,
        )

    def state(self) -> Any:
        """Return size and time of the file."""
        return _state_of(self.path)


def _json_batches(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file of JSON lines as Arrow reads them.

    Raises:
        pyarrow.ArrowException: It cannot read a line.
    """
    options = pa_json.ReadOptions(use_threads=False, block_size=BUFFER)
    parse = pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    compression = "gzip" if path.name.lower().endswith(".gz") else None
    with (
        pa.input_stream(str(path), compression=compression) as stream,
        pa_json.open_json(stream, read_options=options, parse_options=parse) as reader,
    ):
        for batch in reader:
            batch.validate(full=True)
            yield batch.select(schema.names)


def _holds_null(kind: pa.DataType) -> bool:
    """Return whether a list or an object holds nothing but null, which pyarrow 26 reads into a broken array."""
    below = [kind.field(number).type for number in range(kind.num_fields)]
    return any(pa.types.is_null(each) or _holds_null(each) for each in below)


@dataclass(frozen=True, kw_only=True)
class BinaryPiece(Piece):
    """A parquet or arrow file."""

    file: str
    path: Path
    kind: str

    def blocks(self, schema: pa.Schema) -> Iterator[Block]:
        """Yield all rows."""
        start = 0
        for batch in binary.file_blocks(self.path, self.kind):
            rows = batch.select(schema.names).cast(schema)
            yield Block(rows=rows, file=self.file, numbers=np.arange(start, start + len(rows)))
            start += len(rows)

    def state(self) -> Any:
        """Return size and time of the file."""
        return _state_of(self.path)


@dataclass(frozen=True, kw_only=True)
class HubPiece(Piece):
    """A part of an iterable data set of `datasets`, such as a file of a data set on the Hub."""

    data: IterableDataset
    first: int
    """Rows of the data set before this part."""
    file: str | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as they are."""
        for table in self.data.with_format("arrow").iter(batch_size=BLOCK_ROWS):
            for batch in table.combine_chunks().to_batches():
                yield binary.plain(batch)

    def blocks(self, schema: pa.Schema) -> Iterator[Block]:
        """Yield all rows."""
        start = self.first
        for batch in self.batches():
            rows = batch.select(schema.names).cast(schema)
            yield Block(rows=rows, file=None, numbers=np.arange(start, start + len(rows)))
            start += len(rows)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the first pass learned of a split."""

    table: Table
    """Files, counts and findings of the split. Its rows are the first ones only."""
    pieces: tuple[Piece, ...] = ()
    schema: pa.Schema | None = None
    """Columns and final types."""
    features: Features | None = None
    """The same as `datasets` describes them."""
    sizes: tuple[int, ...] = ()
    """Rows of each piece that fit."""
    states: tuple[Any, ...] = ()
    """State of each piece; see `Piece.state`."""

    def blocks(self, order: Sequence[int] | None = None) -> Iterator[tuple[int, Block]]:
        """Yield all blocks, each with the position of its first row among all rows that fit.

        Args:
            order: Numbers of the pieces in the order in which they are read; None for that of the first pass.

        Raises:
            BadData: A file has changed since the first pass.
        """
        starts = np.cumsum([0, *self.sizes]).tolist()
        for number in range(len(self.pieces)) if order is None else order:
            piece, start = self.pieces[number], starts[number]
            try:
                if piece.state() != self.states[number]:
                    raise _changed(piece)
                for block in piece.blocks(self.schema):
                    yield start, block
                    start += len(block.numbers)
            except (UnreadableError, pa.ArrowException, OSError, KeyError) as error:
                raise _changed(piece) from error
            if start != starts[number + 1]:
                raise _changed(piece)


def _changed(piece: Piece) -> BadData:
    where = piece.file or "the data set on the Hub"
    message = f"{where} has changed while it was read. Start again once no other program writes it."
    finding = Finding(code="source-failed", message=message, level="error", file=piece.file)
    return BadData(message, findings=[finding], counts={finding.code: 1})


@dataclass
class _Head:
    """Takes the blocks of the first pass: keeps the first rows, and counts all."""

    counts: list[int] = field(default_factory=list)
    """Rows of each file."""
    _kept: list[pa.RecordBatch] = field(default_factory=list)
    _largest: dict[str, int] = field(default_factory=dict)

    def write(self, batch: pa.RecordBatch, places: Sequence[Any]) -> None:
        """Count a block."""
        file = places[0][0].as_py() or 0
        while len(self.counts) <= file:
            self.counts.append(0)
        self.counts[file] += len(batch)
        have = sum(map(len, self._kept))
        if have < HEAD:
            self._kept.append(batch.slice(0, HEAD - have))
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if pa.types.is_int64(column.type):
                ends = pc.min_max(column).as_py()
                size = max(abs(ends["min"] or 0), abs(ends["max"] or 0))
                self._largest[name] = max(self._largest.get(name, 0), size)

    def finish(self, schema: pa.Schema) -> Dataset | None:
        """Return the first rows.

        Raises:
            pyarrow.ArrowInvalid: A column of numbers cannot hold an integer exactly.
        """
        for each in schema:
            if pa.types.is_floating(each.type) and self._largest.get(each.name, 0) > LARGEST_EXACT:
                raise pa.ArrowInvalid(f"Integer value {self._largest[each.name]} is outside of the range exactly")
        if not self._kept:
            return None
        return Dataset(pa.Table.from_batches([widened(batch, schema) for batch in self._kept], schema=schema))

    def places(self) -> None:
        """Return None: later passes read the places again."""
        return


def survey(
    content: Any,
    *,
    split: str,
    source: Source,
    formats: Formats,
    needed: frozenset[str],
    used: frozenset[str] | None,
    report: Report,
) -> Survey:
    """Read a split for the first time, and report the findings as `finetune.data.files.read` does.

    Args:
        content: Its files, or a data set of `datasets`.
        split: Its name.
        source: Says format and encoding.
        formats: The installed formats.
        needed: Columns, by their names in the files, that every row must have.
        used: Columns that the task reads; None for all.
        report: Takes the findings.

    Raises:
        BadData: The rows are given in Python.
    """
    if isinstance(content, Dataset):
        content = content.to_iterable_dataset()
    if isinstance(content, IterableDataset):
        return _survey_hub(content, split=split, report=report)
    if not isinstance(content, Files):
        raise BadData(
            "dataset.streaming reads files and data sets of `datasets`, and these rows are given in Python. Write them "
            "to a file, or leave dataset.streaming out."
        )
    paths = [Path(name).expanduser() for name in content.names]
    errors = report.levels["error"]
    kinds = files.kinds_of(content, paths, split=split, source=source, formats=formats, report=report)
    if kinds is None:
        return Survey(table=Table(rows=None, read=0, files=content.names, sound=False))
    if kinds:
        return _survey_binary(content, paths, kinds, split=split, errors=errors, report=report)
    return _survey_text(
        content, paths, split=split, source=source, formats=formats, needed=needed, used=used, report=report
    )


def _survey_text(
    content: Files,
    paths: Sequence[Path],
    *,
    split: str,
    source: Source,
    formats: Formats,
    needed: frozenset[str],
    used: frozenset[str] | None,
    report: Report,
) -> Survey:
    errors = report.levels["error"]
    head = _Head()
    tabulator = Tabulator(split=split, report=report, needed=needed, used=used, writer=head, broken=DroppedRows())
    readers: list[Reader] = []
    for path, name in zip(paths, content.names, strict=True):
        reader = files.tabulate(tabulator, path, name=name, source=source, formats=formats)
        if reader is not None:
            readers.append(reader)
    table = tabulator.finish()
    if not paths or report.levels["error"] > errors or table.rows is None:
        return Survey(table=table.unsound() if report.levels["error"] > errors else table)
    sizes = head.counts + [0] * (len(paths) - len(head.counts))
    is_utf8 = codecs.lookup(source.encoding).name == "utf-8" and not table.notes
    pieces = []
    for number, (path, name, reader) in enumerate(zip(paths, content.names, readers, strict=True)):
        pieces.append(
            TextPiece(
                file=name,
                path=path,
                reader=reader,
                encoding=source.encoding,
                refused=frozenset(tabulator.refused[number]),
                is_plain=is_utf8 and type(reader) is JsonLinesReader and sizes[number] == table.sizes[number],
            )
        )
    return _surveyed(table, pieces, sizes)


def _survey_binary(
    content: Files, paths: Sequence[Path], kinds: Sequence[str], *, split: str, errors: int, report: Report
) -> Survey:
    sizes = [0] * len(paths)
    kept: list[pa.RecordBatch] = []
    for number, batch in binary.blocks(paths, names=content.names, kinds=kinds, split=split, report=report):
        sizes[number] += len(batch)
        have = sum(map(len, kept))
        if have < HEAD:
            kept.append(batch.slice(0, HEAD - have))
    rows = _dataset(kept, file=content.names[0], split=split, report=report)
    is_sound = report.levels["error"] == errors
    table = Table(rows=rows, files=content.names, sizes=tuple(sizes), read=sum(sizes), sound=is_sound)
    if rows is None or not is_sound:
        return Survey(table=table)
    pieces = []
    for path, name, kind in zip(paths, content.names, kinds, strict=True):
        pieces.append(BinaryPiece(file=name, path=path, kind=kind))
    return _surveyed(table, pieces, sizes)


def _dataset(batches: Sequence[pa.RecordBatch], *, file: str | None, split: str, report: Report) -> Dataset | None:
    if not batches:
        return None
    try:
        return Dataset(pa.Table.from_batches(batches))
    except ValueError as error:
        binary.refuse_metadata(error, file=file or split, split=split, report=report)
        return None


def _survey_hub(data: IterableDataset, *, split: str, report: Report) -> Survey:
    pieces: list[HubPiece] = []
    sizes: list[int] = []
    kept: list[pa.RecordBatch] = []
    schema: pa.Schema | None = None
    for index in range(data.num_shards):
        piece = HubPiece(data=data.shard(num_shards=data.num_shards, index=index), first=sum(sizes))
        size = 0
        for batch in piece.batches():
            schema = schema or batch.schema
            differs = binary.difference(schema, batch.schema)
            if differs:
                message = f"{differs} in earlier rows (row {sum(sizes) + size:,})."
                fix = "All rows of a split must have the same columns with the same types."
                report.error("columns-differ", message, fix=fix, split=split)
                return Survey(table=Table(rows=None, read=sum(sizes) + size, sound=False))
            size += len(batch)
            have = sum(map(len, kept))
            if have < HEAD:
                kept.append(batch.select(schema.names).cast(schema).slice(0, HEAD - have))
        pieces.append(piece)
        sizes.append(size)
    rows = _dataset(kept, file=None, split=split, report=report)
    if rows is not None and data.features is not None:
        rows = described(rows.data.table, data.features)
    table = Table(rows=rows, read=sum(sizes), sound=not report.levels["error"])
    return Survey(table=table) if rows is None else _surveyed(table, pieces, sizes)


def _surveyed(table: Table, pieces: Sequence[Piece], sizes: Sequence[int]) -> Survey:
    rows = table.rows
    assert rows is not None
    return Survey(
        table=table,
        pieces=tuple(pieces),
        schema=rows.data.schema,
        features=rows.features,
        sizes=tuple(sizes),
        states=tuple(piece.state() for piece in pieces),
    )


def as_dataset(data: IterableDataset) -> Dataset:
    """Return the rows of an iterable data set as a data set in memory."""
    batches = list(HubPiece(data=data, first=0).batches())
    if not batches:
        return Dataset.from_dict({})
    table = pa.Table.from_batches(batches)
    return Dataset(table) if data.features is None else described(table, data.features)


def described(table: pa.Table, features: Features) -> Dataset:
    """Return rows as a data set whose columns `datasets` describes in this way, such as with the names of labels."""
    return Dataset(table, info=DatasetInfo(features=features))


def identity_of(survey: Survey) -> list[list[Any]]:
    """Return names and sizes of the files in their order, which must not change when a run resumes."""
    found: list[list[Any]] = []
    for piece, state, rows in zip(survey.pieces, survey.states, survey.sizes, strict=True):
        found.append([rows] if piece.file is None else [Path(piece.file).name, state[0]])
    return found
