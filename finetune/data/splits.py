"""The rows of a split: renamed columns, required columns, a validation split from train, a limit."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from datasets import Dataset

from finetune.data import strata
from finetune.data.findings import Report, nearest
from finetune.data.table import Table, dropped
from finetune.errors import listed
from finetune.interfaces import Finding, Preprocessor
from finetune.progress import suppress_progress_bars

_BLOCK = 1_000
_COMPARED = 10_000
"""Rows whose values are compared with the header."""
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?")


class Blocks(Protocol):
    """What gives its rows block by block: a `Split`, or a stream."""

    @property
    def columns(self) -> Dataset:
        """Rows whose columns are those of the blocks."""

    def blocks(self, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield Arrow tables of a thousand rows; see `Split.blocks`."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Some rows of a table, in order."""

    table: Table
    columns: Dataset
    """All rows of the table, with renamed columns."""
    index: np.ndarray[Any, Any]
    """Positions of this split's rows in the table."""
    read: int
    """Rows of this split, including those that could not be read."""
    left_out: int = 0
    """Rows left out by a limit."""
    from_train: int = 0
    """Rows that were split off from train."""
    lists_given: bool = False
    """Whether bad rows are listed with the columns and names of the data, not with those of the task."""

    @property
    def given(self) -> Split:
        """The same rows with the columns and names of the data."""
        assert self.table.rows is not None
        return replace(self, columns=self.table.rows)

    @property
    def rows(self) -> Dataset:
        """The rows as a data set."""
        whole = len(self.index) == len(self.columns)
        return self.columns if whole else self.columns.select(self.index)

    def blocks(self, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield Arrow tables of a thousand rows. The index ascends, so this is faster than through `rows`.

        Args:
            names: Columns to read; None for all.
        """
        columns = self.columns if names is None else self.columns.select_columns(list(names))
        columns = columns.with_format("arrow")
        for start in range(0, len(self.index), _BLOCK):
            index = self.index[start : start + _BLOCK]
            first, last = int(index[0]), int(index[-1])
            block = columns[first : last + 1]
            yield block if len(block) == len(index) else block.take(pa.array(index - first))

    def place(self, row: int) -> dict[str, Any]:
        """Return ``file``, ``line``, ``row`` and ``path`` of a row; see `Table.place`."""
        return self.table.place(int(self.index[row]))

    def located(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield findings in an order in which the places of their rows are at hand."""
        yield from findings

    def collector(self, *, drops: bool) -> BadRows:
        """Return what collects the bad rows of the split.

        Args:
            drops: Whether they are dropped, and so need all their findings.
        """
        return BadRows(self, drops=drops)

    def without(self, bad: BadRows) -> Split:
        """Return the split without its bad rows."""
        return replace(self, index=np.delete(self.index, sorted(bad.found)))


class BadRows:
    """The bad rows of a split, and their findings."""

    def __init__(self, split: Split, *, drops: bool) -> None:
        self.found: dict[int, list[Finding]] = {}
        """Position in the split → its findings."""
        self._split = split
        self._drops = drops

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(self, row: int, finding: Finding) -> None:
        """Add a finding of a bad row."""
        kept = self.found.setdefault(row, [])
        if self._drops or not kept:
            kept.append(finding)

    def entries(self) -> Iterable[Mapping[str, Any]]:
        """Yield the entries of `dropped.jsonl`, in the order of the rows."""
        rows = (self._split.given if self._split.lists_given else self._split).rows
        for row in sorted(self.found):
            yield dropped(self.found[row], example=rows[row])


def renamed(
    table: Table,
    *,
    split: str,
    columns: Mapping[str, str],
    may_be_missing: frozenset[str],
    either: bool,
    report: Report,
) -> Dataset:
    """Return the rows of a table with renamed columns, and report the columns that cannot be renamed.

    Args:
        table: The rows.
        split: Name of the split.
        columns: Name in the table → name for the task.
        may_be_missing: Names for the task that may be missing, such as answers during prediction.
        either: Whether a column may also have the name for the task already, as in a file to predict.
        report: Takes the findings.
    """
    rows = table.rows
    assert rows is not None
    names = rows.column_names
    file = table.files[0] if table.files else None
    wanted = {}
    for theirs, ours in columns.items():
        if theirs in names:
            wanted[theirs] = ours
        elif ours not in may_be_missing and not (either and ours in names):
            close = nearest(theirs, names)
            hint = f" Did you mean {close!r}?" if close else ""
            message = f"dataset.columns renames {theirs!r}, but there is no such column.{hint}"
            fix = f"The columns are: {listed(names)}."
            report.error("unknown-rename", message, fix=fix, split=split, file=file, column=theirs)
    after = [wanted.get(name, name) for name in names]
    for ours in sorted(name for name, times in Counter(after).items() if times > 1):
        theirs = next(name for name, new in wanted.items() if new == ours)
        message = f"dataset.columns renames {theirs!r} to {ours!r}, but that column already exists."
        fix = f"Rename {ours!r} as well: {{{ours}: {ours}_before}}."
        report.error("rename-clash", message, fix=fix, split=split, file=file, column=theirs)
        wanted.pop(theirs)
    return rows.rename_columns(wanted) if wanted else rows


def filled(rows: Dataset, constants: Mapping[str, str], *, split: str, report: Report) -> Dataset:
    """Return rows with the constant columns added, and report a constant whose column already exists."""
    for name, text in constants.items():
        if name in rows.column_names:
            message = f"dataset.constants gives the column {name!r}, but the data already has it."
            report.error("constant-exists", message, fix="Rename one of them.", split=split, column=name)
        else:
            with suppress_progress_bars():
                rows = rows.add_column(name, [text] * len(rows))
    return rows


def require(
    rows: Dataset,
    *,
    split: str,
    table: Table,
    preprocessor: Preprocessor,
    answers: bool,
    can_leave_out: bool,
    lost: Collection[str],
    report: Report,
) -> bool:
    """Return whether the rows have all columns that the task needs, and report the missing ones.

    Args:
        rows: The rows of a split.
        split: Name of the split.
        table: Names the file, for findings.
        preprocessor: Names the columns.
        answers: Whether the columns of the answers are needed too.
        can_leave_out: Whether the run can do without the split; the fix then says how.
        lost: Missing columns that are already reported, because their rename failed.
        report: Takes the findings.
    """
    names = rows.column_names
    needs = preprocessor.needs()
    needed = (*needs.required, *(needs.answers if answers else ()))
    missing = [name for name in needed if name not in names and name not in lost]
    finds_none = bool(needed) and not set(needed) & set(names)
    data = _data_in_header(rows) if table.header and finds_none else None
    if data is not None:
        message = f"the file seems to have no header: its first line contains {data!r}, which looks like a value."
        blanks = ", ".join([*needed, *(f"column_{number}" for number in range(len(needed) + 1, len(names) + 1))])
        fix = (
            f"Name its columns in order, such as dataset.options: {{names: [{blanks}]}}. "
            "If there is a header, rename its columns under dataset.columns."
        )
        report.error("no-header", message, fix=fix, split=split, file=table.files[0], value=listed(names))
        return False
    for name in missing:
        close = nearest(name, [other for other in names if other not in needed])
        message = f"column {name!r} is missing. The columns are: {listed(list(map(repr, names)))}."
        fix = f"Rename it under dataset.columns: {{{_as_key(close or 'NAME')}: {name}}}."
        if can_leave_out and name in needs.answers:
            fix += f" To leave the split out: dataset.splits: {{{split}: null}}."
        file = table.files[0] if table.files else None
        report.error("missing-column", message, fix=fix, split=split, file=file, column=name)
    return not missing


def _data_in_header(rows: Dataset) -> str | None:
    """Return the first name of a column that looks like a value: a number, or a value of the column in a later row."""
    names: list[str] = rows.column_names
    for name in names:
        if _NUMBER.fullmatch(name.strip()):
            return name
    first = rows.select(range(min(len(rows), _COMPARED)))
    for name in names:
        if name in first[name][:]:
            return name
    return None


def _as_key(name: str) -> str:
    """Return a name as a key of YAML, in quotes if needed."""
    return name if name.isidentifier() else json.dumps(name, ensure_ascii=False)


def no_answer(split: Blocks, train: Blocks, answers: Sequence[str]) -> str | None:
    """Return the value that every row of a split has instead of an answer: ``-1``, ``null`` or ``''``.

    None if a row has an answer, or if rows of train have the same value, because it is then an answer.

    Args:
        split: A held-out split.
        train: The rows to compare with.
        answers: The columns of the answers.
    """
    first: str | None = None
    for name in answers:
        values = _values(split, name)
        marker = _marker(next(values, None))
        if marker is None or any(_marker(value) != marker for value in values):
            return None
        if marker != "null" and any(_marker(value) == marker for value in _values(train, name)):
            return None
        first = first or marker
    return first


def _values(split: Blocks, name: str) -> Iterator[Any]:
    for block in split.blocks([name]):
        yield from block.column(name).to_pylist()


def _marker(value: Any) -> str | None:
    """Return how messages show a value that stands for no answer, or None if it is an answer."""
    if isinstance(value, list) and value:
        inside = {_marker(below) for below in value}
        return inside.pop() if len(inside) == 1 else None
    if value is None:
        return "null"
    if isinstance(value, str):
        return {"": "''", "-1": "-1"}.get(value.strip())
    return "-1" if value == -1 else None


def part(
    train: Split, *, size: float, preprocessor: Preprocessor, seed: int, report: Report
) -> tuple[Split, Split] | None:
    """Split train at random into train and validation; None if there are too few rows, which is reported.

    Rows of a group, equal texts and near duplicates stay in the same split. Labels are spread evenly, and each keeps a
    row in train. The same rows and seed give the same splits on every machine.

    Args:
        train: The rows to split.
        size: Share of the rows that go to validation.
        preprocessor: Names the group, the columns to compare, and the labels.
        seed: Seed of the split.
        report: Takes the findings.
    """
    count = len(train.index)
    wanted = max(round(count * size), 1)
    group = preprocessor.needs().group
    units = strata.units_of(train, preprocessor, largest=max(wanted // 2, 2))
    labels = strata.labels_of(train, preprocessor)
    together = int(units.max(initial=-1)) + 1 < count
    if labels is not None:
        drawn = strata.choose(labels, units, wanted, seed=seed)
        if drawn.only_left and drawn.mask.any() and not train.table.bad:  # else a bad row may have the label
            report.add(_only_in_train(drawn.only_left))
        chosen = drawn.mask
    elif together:
        chosen = _whole_groups(units, wanted, np.random.Generator(np.random.PCG64(seed)))
    else:
        chosen = np.isin(np.arange(count), np.random.Generator(np.random.PCG64(seed)).permutation(count)[:wanted])
    what = "rows"
    if group is not None and group in train.columns.column_names:
        what = f"groups (rows with the same {group!r} stay together)"
    elif labels is not None:
        what = "rows that have a label in common"
    elif together:
        what = "rows with different texts"
    return _parted(train, chosen, size, what=what, report=report)


def _only_in_train(labels: Sequence[Any]) -> Finding:
    """Return the warning about labels of which no row was split off."""
    one = len(labels) == 1
    return Finding(
        code="label-only-in-train",
        level="warning",
        message=f"{'a label has' if one else f'{len(labels):,} labels have'} too few rows for both splits, so "
        f"{'it stays' if one else 'they stay'} in train: {strata.listed_labels(labels)}.",
        fix="The scores of validation say nothing about them. Add rows with them, or a validation split.",
        split="train",
    )


def _parted(
    train: Split, chosen: np.ndarray[Any, Any], size: float, *, what: str, report: Report
) -> tuple[Split, Split] | None:
    """Return train and validation; None if one would have no rows, which is reported."""
    if not chosen.any() or chosen.all():
        refuse_part(train.table, rows=len(train.index), size=size, what=what, report=report)
        return None
    index = train.index[chosen]
    table = replace(train.table, bad=0, broken=(), notes={})
    validation = replace(train, index=index, read=len(index), from_train=len(index), table=table)
    return replace(train, index=train.index[~chosen], read=train.read - len(index)), validation


def refuse_part(table: Table, *, rows: int, size: float, what: str, report: Report) -> None:
    """Report that train cannot be split, unless its bad rows are the cause, and are reported."""
    if not table.bad or report.drops:
        message = f"{rows:,} rows have too few {what} to split {size:.0%} from train for validation."
        fix = "Provide a validation split, or set dataset.validation_size: 0."
        report.error("cannot-split", message, fix=fix, split="train")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Which rows belong to a held-out split: those whose hash is below a share of all hashes.

    A row is always on the same side, whatever the order and the number of rows, files and processes. Rows with equal
    values in the columns are on one side.
    """

    columns: tuple[str, ...]
    """The columns whose values are hashed."""
    share: float
    """The share of the hashes, and so about that of the rows."""

    def holds(self, block: pa.Table | pa.RecordBatch) -> np.ndarray[Any, Any]:
        """Return for each row of a block whether it belongs to the held-out split."""
        values = [map(as_text, block.column(name).to_pylist()) for name in self.columns]
        digests = []
        for texts in zip(*values, strict=True):
            content = "\x1f".join(texts).encode("utf-8", "surrogatepass")
            digests.append(hashlib.blake2b(content, digest_size=8).digest())
        return np.frombuffer(b"".join(digests), dtype=">u8") < np.uint64(int(self.share * 2**64))


def part_by_rule(train: Split, rule: Rule, *, report: Report) -> tuple[Split, Split] | None:
    """Split train by a rule into train and validation; None if one would have no rows, which is reported."""
    masks = [rule.holds(block) for block in train.blocks(rule.columns)]
    return _parted(train, np.concatenate(masks), rule.share, what="rows with different values", report=report)


def limited(split: Split, most: int, *, preprocessor: Preprocessor, seed: int) -> Split:
    """Return at most `most` rows of a split, drawn at random, in their order; labels keep their shares."""
    count = len(split.index)
    if count <= most:
        return split
    labels = strata.labels_of(split, preprocessor)
    if labels is not None:
        kept = np.flatnonzero(strata.keep(labels, most, seed=seed))
    else:
        random = np.random.Generator(np.random.PCG64(seed))
        kept = np.sort(random.choice(count, size=most, replace=False))
    return replace(split, index=split.index[kept], left_out=count - most)


def without_lost_labels(
    split: Split, *, role: str, train: Split, before: Split, preprocessor: Preprocessor, report: Report
) -> Split:
    """Return a held-out split without the rows whose labels a limit removed from train, with a warning.

    Args:
        split: The held-out rows.
        role: Name of the split.
        train: The rows of train after the limit.
        before: The rows of train before it.
        preprocessor: Names the labels.
        report: Takes the warning.
    """
    own, left, whole = (strata.labels_of(part, preprocessor) for part in (split, train, before))
    if own is None or left is None or whole is None:
        return split
    known = {name for names in left for name in names}
    every = {name for names in whole for name in names}
    kept = strata.rows_without(own, known, every)
    if kept.all() or not kept.any():
        return split
    lost = list(dict.fromkeys(name for names in own for name in names if name in every - known))
    gone = len(kept) - int(kept.sum())
    report.add(
        Finding(
            code="label-left-out",
            level="warning",
            message=f"after dataset.limit, train has no row with {strata.listed_labels(lost)}. {gone:,} rows of {role} "
            f"with {'it' if len(lost) == 1 else 'them'} are left out.",
            fix="To keep them, raise the limit of train.",
            split=role,
        )
    )
    return replace(split, index=split.index[kept], left_out=split.left_out + gone)


def as_text(value: Any) -> str:
    """Return a value as text; equal values have equal texts."""
    if isinstance(value, str):
        return "t" + value
    return json.dumps(value, sort_keys=True, default=repr)


def _whole_groups(numbers: np.ndarray[Any, Any], wanted: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return a mask of rows to split off: units in random order, each that still fits, and at least one."""
    sizes = np.bincount(numbers)
    taken: list[int] = []
    left = wanted
    order: Sequence[int] = random.permutation(len(sizes)).tolist()
    for number in order:
        if sizes[number] <= left:
            taken.append(number)
            left -= int(sizes[number])
    return np.isin(numbers, taken or [int(sizes.argmin())])
