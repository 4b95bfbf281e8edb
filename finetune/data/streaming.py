"""Train as a stream: the rows of a split that are read again in each pass, and never kept.

It stands in the place of a `finetune.data.splits.Split`, so the same checks give the same findings.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from finetune.data import leaks, storage
from finetune.data.dropped_rows import DroppedRows
from finetune.data.findings import Report
from finetune.data.fingerprints import fingerprint
from finetune.data.splits import Rule, Split, refuse_part
from finetune.data.streams import Block, Survey, described
from finetune.data.table import Table, TableWriter, dropped
from finetune.interfaces import Finding, Preprocessor, Row
from finetune.recipe import Source

SAMPLE = 10_000
"""Rows of a streamed train split that are drawn at random for what needs features of train: token counts, baselines,
the score on train."""
MOST_HELD_OUT = 100_000
"""Most rows that are split off from a stream by rule: they are scored in memory."""
_BLOCK = 1_000
"""Rows of a block of `StreamedSplit.blocks`; the fingerprint depends on it."""
_RECENT = 4
"""Blocks whose places stay at hand."""
_PENDING = 1_000
"""Bad rows whose findings are collected before they are written."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class StreamedSplit:
    """The train split of a stream: a `Split` whose rows are read again in each pass."""

    table: Table
    """Files and counts; its rows are the first ones only."""
    columns: Dataset
    """The first rows, with the names of the task; it tells names and types."""
    survey: Survey
    count: int
    """Rows of this split."""
    read: int
    """Rows of this split, including those that could not be read."""
    constants: Mapping[str, str] = field(default_factory=dict)
    rule: Rule | None = None
    """Which rows belong to validation instead; these are also in `gone`."""
    gone: Array = field(default_factory=lambda: np.empty(0, np.int64))
    """Positions, among all rows that can be read, of those that do not belong to this split; in order."""
    recent: deque[tuple[int, Array, Block]] = field(default_factory=lambda: deque(maxlen=_RECENT), repr=False)
    """The last blocks: position of the first row in this split, positions among all rows, and rows."""
    found: dict[int, tuple[int, dict[str, Any], Row]] = field(default_factory=dict, repr=False)
    """Rows that were looked up: position in this split → position among all rows, place, and row."""
    left_out: int = 0
    from_train: int = 0

    @property
    def index(self) -> range:
        """Positions of the rows in this split."""
        return range(self.count)

    @property
    def rows(self) -> StreamedRows:
        """The rows, which are read whenever they are iterated."""
        return StreamedRows(self)

    def pieces(self, order: Sequence[int] | None = None) -> Iterator[tuple[Array, Block]]:
        """Yield the rows of this split with their positions among all rows, block by block.

        Args:
            order: Numbers of the pieces of the data set in the order in which they are read.
        """
        for start, block in self.survey.blocks(order):
            named = replace(block, rows=self._named(block.rows))
            positions = np.arange(start, start + len(block.numbers))
            kept = np.ones(len(positions), bool)
            first, last = np.searchsorted(self.gone, [start, start + len(positions)])
            kept[self.gone[first:last] - start] = False
            index = np.flatnonzero(kept)
            if len(index):
                yield positions[index], named.chosen(index)

    def _named(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows with the names of the task, and with the constant columns."""
        columns = list(rows.columns)
        names = self.columns.column_names
        for name in names[len(columns) :]:
            columns.append(pa.array([self.constants[name]] * len(rows), pa.string()))
        return pa.record_batch(columns, names=names)

    def blocks(self, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield Arrow tables of a thousand rows; see `Split.blocks`."""
        rest: pa.Table | None = None
        for _, block in self.pieces():
            batch = block.rows if names is None else block.rows.select(list(names))
            table = pa.Table.from_batches([batch])
            if rest is not None and len(rest):
                table = pa.concat_tables([rest, table]).combine_chunks()
            whole = len(table) - len(table) % _BLOCK
            for start in range(0, whole, _BLOCK):
                yield table.slice(start, _BLOCK)
            rest = table.slice(whole)
        if rest is not None and len(rest):
            yield rest

    def iterate(self) -> Iterator[Row]:
        """Yield the rows, and keep the last blocks at hand."""
        start = 0
        for positions, block in self.pieces():
            if not any(first == start for first, _, _ in self.recent):
                self.recent.append((start, positions, block))
            yield from block.rows.to_pylist()
            start += len(positions)

    def at(self, row: int) -> tuple[int, dict[str, Any], Row]:
        """Return the position of a row among all rows, its place, and the row itself."""
        for start, positions, block in self.recent:
            if start <= row < start + len(positions):
                index = row - start
                return int(positions[index]), block.place(index), block.rows.slice(index, 1).to_pylist()[0]
        if row not in self.found:
            self.look_up([row])
        return self.found[row]

    def is_at_hand(self, row: int) -> bool:
        """Return whether a row is in the last blocks."""
        return any(start <= row < start + len(positions) for start, positions, _ in self.recent)

    def look_up(self, rows: Iterable[int]) -> None:
        """Read some rows again, in one pass."""
        wanted = deque(sorted(set(rows)))
        start = 0
        for positions, block in self.pieces():
            while wanted and wanted[0] < start + len(positions):
                index = wanted.popleft() - start
                row = block.rows.slice(index, 1).to_pylist()[0]
                self.found[start + index] = (int(positions[index]), block.place(index), row)
            start += len(positions)
            if not wanted:
                return

    def place(self, row: int) -> dict[str, Any]:
        """Return ``file``, ``line``, ``row`` and ``path`` of a row."""
        return self.at(row)[1]

    def located(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield findings in an order in which the places of their rows are at hand: those of earlier rows at the end.

        The rows of the latter are read again, in one pass for all. Warnings stay in their order.
        """
        late: list[tuple[Finding, list[int]]] = []
        for finding in findings:
            rows = [row for row in (finding.row, finding.other) if row is not None]
            keeps_order = not late or finding.level != "warning"
            if keeps_order and all(map(self.is_at_hand, rows)):
                yield finding
            else:
                late.append((finding, rows))
        self.look_up(row for _, rows in late for row in rows)
        for finding, _ in late:
            yield finding
        self.found.clear()

    def collector(self, *, drops: bool) -> StreamedBadRows:
        """Return what collects the bad rows of the split."""
        return StreamedBadRows(self, drops=drops)

    def without(self, bad: StreamedBadRows) -> StreamedSplit:
        """Return the split without its bad rows."""
        gone = np.union1d(self.gone, np.array(bad.positions, np.int64))
        count = self.count - (len(gone) - len(self.gone))
        return replace(self, gone=gone, count=count, recent=deque(maxlen=_RECENT), found={})

    def finished(self) -> StreamedSplit:
        """Return the split without what the checks kept at hand, small enough to be sent to another process."""
        return replace(self, recent=deque(maxlen=_RECENT), found={}, table=replace(self.table, broken=()))


class StreamedRows(Sequence[Row]):
    """The rows of a stream as a sequence. Each iteration reads the data again."""

    def __init__(self, split: StreamedSplit) -> None:
        self._split = split
        self.column_names = split.columns.column_names
        self.features = split.columns.features

    def __len__(self) -> int:
        return self._split.count

    def __iter__(self) -> Iterator[Row]:
        return self._split.iterate()

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        place = range(len(self))[index]
        return self._split.at(place)[2]


class StreamedBadRows:
    """The bad rows of a stream: their entries of `dropped.jsonl` are written as they pass."""

    def __init__(self, split: StreamedSplit, *, drops: bool) -> None:
        self.positions = array("q")
        """Positions of the bad rows among all rows."""
        self._split = split
        self._drops = drops
        self._any = False
        self._pending: dict[int, tuple[list[Finding], Row]] = {}
        self._written: set[int] = set()
        self._entries = DroppedRows()

    def __bool__(self) -> bool:
        return self._any

    def add(self, row: int, finding: Finding) -> None:
        """Add a finding of a bad row."""
        self._any = True
        if not self._drops:
            return
        position, _, example = self._split.at(row)
        if position in self._written:
            return
        if row not in self._pending:
            if len(self._pending) >= _PENDING:
                self._write()
            self._pending[row] = ([], example)
            self.positions.append(position)
        self._pending[row][0].append(finding)

    def _write(self) -> None:
        entries = []
        for row, (findings, example) in self._pending.items():
            entries.append(dropped(findings, example=example))
            self._written.add(self._split.at(row)[0])
        self._entries.extend(entries)
        self._pending = {}

    def entries(self) -> Iterable[Mapping[str, Any]]:
        """Yield the entries of `dropped.jsonl`."""
        self._write()
        return self._entries


def streamed(split: Split, survey: Survey, constants: Mapping[str, str]) -> StreamedSplit:
    """Return the stream of a split, of which only the first rows are there."""
    rows = sum(survey.sizes)
    return StreamedSplit(
        table=split.table,
        columns=split.columns,
        survey=survey,
        count=rows,
        read=split.read,
        constants=constants,
    )


def rule_of(source: Source, preprocessor: Preprocessor, names: Collection[str]) -> Rule:
    """Return the rule by which validation is split off.

    Args:
        source: Can name the column.
        preprocessor: Names the columns of the task: its group, so that one stays together, or else its inputs, so that
            duplicates do.
        names: The columns that the data have.
    """
    needs = preprocessor.needs()
    columns = list(needs.required)
    if source.split_by is not None:
        columns = [source.split_by]
    elif needs.group is not None and needs.group in names:
        columns = [needs.group]
    columns = [name for name in columns if name in names]
    return Rule(columns=tuple(columns or names), share=source.validation_size)


def part(train: StreamedSplit, rule: Rule, *, most: int | None, report: Report) -> tuple[StreamedSplit, Split] | None:
    """Split a stream by a rule into train and validation, whose rows are kept; None if that is reported as impossible.

    Args:
        train: The rows to split.
        rule: Which rows belong to validation.
        most: The limit of validation that the recipe sets; None if it sets none.
        report: Takes the finding.
    """
    writer = TableWriter(storage.folder())
    files = {name: number for number, name in enumerate(train.table.files)}
    schema: pa.Schema | None = None
    size = 0
    held_out = []
    for positions, whole in train.pieces():
        index = np.flatnonzero(rule.holds(whole.rows))
        if not len(index):
            continue
        held_out.append(positions[index])
        block = whole.chosen(index)
        schema = schema or block.rows.schema
        length = len(block.numbers)
        size += length
        if size > MOST_HELD_OUT and most is None:
            message = (
                f"validation_size {rule.share:g} splits off more than {MOST_HELD_OUT:,} rows, and they are scored in "
                "memory."
            )
            fix = "Set a smaller dataset.validation_size, or dataset.limit: {validation: 10000}."
            report.error("too-much-held-out", message, fix=fix, split="train")
            return None
        places = [
            pa.array([None if block.file is None else files[block.file]] * length, pa.int32()),
            pa.array(block.lines or [None] * length, pa.int64()),
            pa.array(block.numbers, pa.int64()),
            pa.array(block.paths or [None] * length, pa.string()),
        ]
        writer.write(block.rows, places)
    if schema is None or size == train.count:
        refuse_part(train.table, rows=train.count, size=rule.share, what="rows with different values", report=report)
        return None
    written = writer.finish(schema)
    assert written is not None
    rows = described(written.data.table, train.columns.features)
    table = replace(train.table, rows=rows, places=writer.places(), bad=0, broken=(), notes={})
    validation = Split(table=table, columns=rows, index=np.arange(size), read=size, from_train=size)
    rest = replace(train, rule=rule, gone=np.concatenate(held_out), count=train.count - size, read=train.read - size)
    return rest, validation


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What one pass over the kept rows of a stream gives."""

    sample: Dataset
    """Rows drawn at random, in their order; all rows if there are no more than `SAMPLE`."""
    fingerprint: str
    leakage: Mapping[str, Mapping[str, Any]] | None
    """See `finetune.data.leaks.leakage`; None if the sample is complete, so that it can be computed from it."""


def summarize(
    train: StreamedSplit, held_out: Mapping[str, Dataset], preprocessor: Preprocessor, *, seed: int
) -> Summary:
    """Read the kept rows of a stream once: fingerprint, sample, and rows that held-out splits hold too."""
    sample = _Sample(size=SAMPLE, seed=seed)
    search = leaks.StreamedSearch(held_out, preprocessor, train.columns.column_names) if train.count > SAMPLE else None
    observed = _Observed(train, [each.add for each in (sample, search) if each is not None])
    digest = fingerprint(observed)
    rows = sample.table(train.columns.data.schema)
    return Summary(
        sample=described(rows, train.columns.features),
        fingerprint=digest,
        leakage=search.found() if search is not None else None,
    )


class _Observed:
    """A split whose blocks others see as they pass."""

    def __init__(self, split: StreamedSplit, observers: Sequence[Any]) -> None:
        self.columns = split.columns
        self._split, self._observers = split, observers

    def blocks(self, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the blocks."""
        for block in self._split.blocks(names):
            for see in self._observers:
                see(block)
            yield block


class _Sample:
    """Draws rows from a stream: each gets a random number, and those with the smallest ones stay."""

    def __init__(self, *, size: int, seed: int) -> None:
        self._size = size
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._blocks: list[pa.Table] = []
        self._numbers: list[Array] = []
        self._limit = 1.0

    def add(self, block: pa.Table) -> None:
        """Look at the next rows."""
        numbers = self._random.random(len(block))
        index = np.flatnonzero(numbers < self._limit)
        if len(index):
            self._blocks.append(block.take(pa.array(index)))
            self._numbers.append(numbers[index])
        if sum(map(len, self._numbers)) > 2 * self._size:
            self._shrink()

    def _shrink(self) -> None:
        numbers = np.concatenate(self._numbers)
        if len(numbers) > self._size:
            self._limit = float(np.partition(numbers, self._size)[self._size])
        index = np.flatnonzero(numbers < self._limit)
        self._blocks = [pa.concat_tables(self._blocks).take(pa.array(index)).combine_chunks()]
        self._numbers = [numbers[index]]

    def table(self, schema: pa.Schema) -> pa.Table:
        """Return the rows."""
        if not self._blocks:
            return schema.empty_table()
        self._shrink()
        return self._blocks[0]
