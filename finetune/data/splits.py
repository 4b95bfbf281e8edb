"""Which rows of a table a split has: renames, requirements, a parted validation, a limit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from finetune.data.findings import Report, nearest
from finetune.data.table import Table
from finetune.interfaces import Preprocessor
from finetune.progress import suppress_progress_bars

_BLOCK = 1_000


@dataclass(frozen=True, kw_only=True)
class Split:
    """Some rows of a table, in order."""

    table: Table
    columns: Dataset
    """All rows of the table, columns renamed."""
    index: np.ndarray[Any, Any]
    """Positions in the table of the rows that this split has."""
    read: int
    """Rows that came to this split, the ones that could not be read included."""
    left_out: int = 0
    """Rows left out by a limit."""
    parted: int = 0
    """Rows that came from train."""

    @property
    def rows(self) -> Dataset:
        """The rows, as a data set without bookkeeping."""
        whole = len(self.index) == len(self.columns)
        return self.columns if whole else self.columns.select(self.index)

    def blocks(self, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield a thousand rows at a time as Arrow holds them; cheaper than through `rows`, as the index ascends."""
        columns = self.columns if names is None else self.columns.select_columns(list(names))
        columns = columns.with_format("arrow")
        for start in range(0, len(self.index), _BLOCK):
            index = self.index[start : start + _BLOCK]
            first, last = int(index[0]), int(index[-1])
            block = columns[first : last + 1]
            yield block if len(block) == len(index) else block.take(pa.array(index - first))

    def without(self, bad: Mapping[int, object]) -> Split:
        """Return the split without the rows at some positions of the split."""
        return replace(self, index=np.delete(self.index, sorted(bad)))


def renamed(table: Table, *, split: str, columns: Mapping[str, str], spared: frozenset[str], report: Report) -> Dataset:
    """Return a table's rows with our names; what cannot be renamed is reported.

    ``spared`` are columns of ours whose absence does not matter, such as answers while predicting.
    """
    rows = table.rows
    assert rows is not None
    names = rows.column_names
    file = table.files[0] if table.files else None
    wanted = {}
    for theirs, ours in columns.items():
        if theirs in names:
            wanted[theirs] = ours
        elif ours not in spared:
            close = nearest(theirs, names)
            hint = f" Did you mean {close!r}?" if close else ""
            message = f"dataset.columns renames {theirs!r}, which is not there.{hint} There are: {', '.join(names)}"
            report.error("unknown-rename", message, split=split, file=file, column=theirs)
    after = [wanted.get(name, name) for name in names]
    for ours in sorted({name for name in after if after.count(name) > 1}):
        theirs = next(name for name, new in wanted.items() if new == ours)
        message = f"dataset.columns renames {theirs!r} to {ours!r}, which is there already"
        fix = f"Rename {ours!r} as well: {{{ours}: {ours}_before}}."
        report.error("rename-clash", message, fix=fix, split=split, file=file, column=theirs)
        wanted.pop(theirs)
    return rows.rename_columns(wanted) if wanted else rows


def filled(rows: Dataset, constants: Mapping[str, str], *, split: str, report: Report) -> Dataset:
    """Return rows with further columns that hold one text each; a column that is there already is reported."""
    for name, text in constants.items():
        if name in rows.column_names:
            message = f"column {name!r} is there already, and dataset.constants gives it too"
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
    lost: Collection[str],
    report: Report,
) -> bool:
    """Say whether the columns that the task needs are there; report the ones that are not.

    ``lost`` are the ones whose absence a failed rename has told already.
    """
    names = rows.column_names
    needs = preprocessor.needs()
    needed = (*needs.required, *(needs.answers if answers else ()))
    missing = [name for name in needed if name not in names and name not in lost]
    for name in missing:
        close = nearest(name, [other for other in names if other not in needed])
        message = f"column {name!r} is missing; there are: {', '.join(map(repr, names))}"
        fix = f"Rename it under dataset.columns: {{{_as_key(close or 'theirs')}: {name}}}."
        file = table.files[0] if table.files else None
        report.error("missing-column", message, fix=fix, split=split, file=file, column=name)
    return not missing


def _as_key(name: str) -> str:
    """Return a name as YAML takes it for a key."""
    return name if name.isidentifier() else json.dumps(name, ensure_ascii=False)


def part(train: Split, *, size: float, group: str | None, seed: int, report: Report) -> tuple[Split, Split] | None:
    """Return train and validation, parted at random; equal values of the column ``group`` are never parted.

    The same rows and seed give the same parts, on every machine.
    """
    count = len(train.index)
    wanted = round(count * size)
    random = np.random.Generator(np.random.PCG64(seed))
    if group is not None and group in train.columns.column_names:
        chosen = _whole_groups(group_numbers(train, group), max(wanted, 1), random)
        what = f"groups (rows with one {group!r} stay together)"
    else:
        chosen = np.isin(np.arange(count), random.permutation(count)[: max(wanted, 1)])
        what = "rows"
    if not chosen.any() or chosen.all():
        if not train.table.bad or report.drops:  # else the bad rows are the cause, and are told
            message = f"{count:,} rows have too few {what} to part {size:.0%} from train for validation"
            fix = "Give a validation split, or set dataset.validation_size: 0."
            report.error("cannot-part", message, fix=fix, split="train")
        return None
    ours, theirs = train.index[~chosen], train.index[chosen]
    parted = replace(
        train,
        index=theirs,
        read=len(theirs),
        parted=len(theirs),
        table=replace(train.table, bad=0, broken=(), notes={}),
    )
    return replace(train, index=ours, read=train.read - len(theirs)), parted


def limited(split: Split, most: int, *, seed: int) -> Split:
    """Return at most so many rows of a split, drawn at random, order kept."""
    count = len(split.index)
    if count <= most:
        return split
    random = np.random.Generator(np.random.PCG64(seed))
    kept = np.sort(random.choice(count, size=most, replace=False))
    return replace(split, index=split.index[kept], left_out=count - most)


def group_numbers(split: Split, group: str) -> np.ndarray[Any, Any]:
    """Return the number of each row's group, in order of first appearance."""
    numbers: dict[bytes, int] = {}
    found = []
    for block in split.blocks([group]):
        for value in block.column(group).to_pylist():
            digest = hashlib.blake2b(spelt(value).encode(), digest_size=16).digest()
            found.append(numbers.setdefault(digest, len(numbers)))
    return np.array(found, dtype=np.int64)


def spelt(value: Any) -> str:
    """Return a value as text, the same for equal values."""
    if isinstance(value, str):
        return "t" + value
    return json.dumps(value, sort_keys=True, default=repr)


def _whole_groups(numbers: np.ndarray[Any, Any], wanted: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return which rows to part: whole groups in random order, each that still fits; at least one."""
    sizes = np.bincount(numbers)
    taken: list[int] = []
    left = wanted
    order: Sequence[int] = random.permutation(len(sizes)).tolist()
    for number in order:
        if sizes[number] <= left:
            taken.append(number)
            left -= int(sizes[number])
    return np.isin(numbers, taken or [int(sizes.argmin())])
