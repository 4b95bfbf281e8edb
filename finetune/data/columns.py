"""The columns of a split while it is read: their names and kinds, and the values that do not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from finetune.data.kinds import (
    MOST_COLUMNS,
    MOST_KEYS,
    SCALARS,
    ClashError,
    Kind,
    UnsupportedError,
    arrow,
    count_keys,
    described,
    kind_of,
    merge,
    plural,
    refuse_key,
)
from finetune.interfaces import Finding, Row

Found = dict[int, list[Finding]]
"""Position in the block → findings of that row."""

_NAMED = 20
"""Most keys that a row lacks and that have a finding of their own."""


def too_many_columns(number: int) -> Finding:
    """Return the finding of a table with more columns than `MOST_COLUMNS`."""
    return Finding(
        code="too-many-columns",
        message=f"there are {number:,} columns. A table can have at most {MOST_COLUMNS:,}.",
        fix="Write a file with the columns that the task reads, or put several values into one column, as a list.",
        level="error",
    )


def bad_name(name: str, control: str) -> Finding:
    """Return the finding of a column whose name holds a control character, given as ``U+0000``."""
    return Finding(
        code="bad-column-name",
        message=f"the name of the column {name!r} contains the control character {control}.",
        fix="Remove it. It usually comes from a damaged file.",
        level="error",
    )


class ColumnTypes:
    """Learns the columns of a split from its rows, block by block.

    Args:
        needed: Columns, by their names in the file, that every row must have.
        used: Columns that the task reads; None for all. A value in another column never makes a row
            bad: a column whose values do not fit is left out.
    """

    def __init__(self, *, needed: frozenset[str], used: frozenset[str] | None = None) -> None:
        self.needed = needed
        """A row that lacks one of these columns is bad."""
        self.used = used
        self.first: dict[str, None] = {}
        """Keys of the first row."""
        self.kinds: dict[str, Kind] = {}
        """Kind of every column, in order of appearance."""
        self.is_full = False
        """Whether there are too many columns to read on."""
        self._gaps: set[str] = set()
        self._late = 0
        self._given_up: set[str] = set()
        self._left_out: set[str] = set()
        self._arrays: dict[str, pa.Array] = {}

    def schema(self) -> pa.Schema:
        """Return the Arrow schema of the rows so far."""
        return pa.schema([(name, arrow(kind)) for name, kind in self.kinds.items()])

    def batch(self, rows: Sequence[Row]) -> pa.RecordBatch:
        """Return rows that passed both checks as an Arrow batch."""
        arrays = list(self._arrays.values())
        if not arrays:
            for name, kind in self.kinds.items():
                arrays.append(pa.array([row.get(name) for row in rows], arrow(kind)))
        return pa.record_batch(arrays, schema=self.schema())

    def check_keys(self, rows: Sequence[Row], header: bool) -> Found:
        """Return findings of the rows whose keys differ from those of the first row; new keys become columns."""
        found: Found = {}
        for i, row in enumerate(rows[:1] if header else rows):
            if row and row.keys() == self.first.keys():
                continue
            findings = list(self._new_keys(row))
            if all(finding.level == "warning" for finding in findings):
                findings += self._missing_keys(row)
            if findings:
                found[i] = findings
            if self.is_full:
                break
        return found

    def check_values(self, rows: Sequence[Row]) -> Found:
        """Return findings of the values that do not fit their columns; a kind is widened if that loses nothing."""
        found: Found = {}
        columns = {name: [row.get(name) for row in rows] for name in self.kinds}
        for name in list(columns):
            own: Found = {}
            self._settle(name, columns[name], own)
            if not self._accept(name, own, found):
                del columns[name]
        bad = [i for i, findings in found.items() if any(finding.level == "row" for finding in findings)]
        self._arrays = {}
        for name in list(columns):
            values = columns[name]
            for i in bad:
                values[i] = None
            own = {}
            array = self._stored(name, values, own)
            if not self._accept(name, own, found):
                del columns[name]
            elif array is not None:
                self._arrays[name] = array
        if bad or len(self._arrays) < len(columns):
            self._arrays = {}  # bad rows will be removed, so `batch` must build the arrays again
        return found

    def _accept(self, name: str, own: Found, found: Found) -> bool:
        """Add the findings of one column, or leave the column out with a warning if the task does not read it."""
        wrong = [(i, finding) for i in sorted(own) for finding in own[i] if finding.level != "warning"]
        is_used = self.used is None or name in self.used
        if is_used or not wrong:
            for i, findings in own.items():
                found.setdefault(i, []).extend(findings)
            return True
        i, first = wrong[0]
        self._left_out.add(name)
        del self.kinds[name]
        message = f"{first.message} The task does not read this column, so it is left out."
        found.setdefault(i, []).append(replace(first, code="column-left-out", message=message, fix="", level="warning"))
        return False

    def _new_keys(self, row: Row) -> Iterator[Finding]:
        if not row:
            yield Finding(code="not-an-object", message="the object has no keys.", fix="Remove the row.")
            return
        is_first_row = not self.first
        if is_first_row and len(row) > MOST_COLUMNS:
            self.is_full = True
            yield too_many_columns(len(row))
            return
        try:
            for key in row:
                refuse_key(key)
        except UnsupportedError as error:
            yield Finding(
                code="unsupported-type", message=str(error), fix="Rename the key. A column name must be valid text."
            )
            return
        for key in row:
            if key in self.kinds or key in self._left_out:
                continue
            self._late += not is_first_row
            if self._late > MOST_KEYS:
                self.is_full = True
                message = f"more than {MOST_KEYS:,} keys appear only after the first row."
                fix = 'All rows of a file need the same keys. Store a mapping as a list: [{"key": …, "value": …}, …].'
                yield Finding(code="too-many-keys", message=message, fix=fix, level="error", column=key)
                return
            self.kinds[key] = "null"
            if is_first_row:
                self.first[key] = None
                continue
            message = f"the key {key!r} appears here for the first time; earlier rows get None."
            fix = "Check its spelling."
            yield Finding(code="extra-key", message=message, fix=fix, level="warning", column=key)

    def _missing_keys(self, row: Row) -> Iterator[Finding]:
        missing = [key for key in self.first if key not in row]
        unread = [key for key in missing if key not in self.needed]
        for key in missing:
            if key in self.needed:
                message = f"the key {key!r} is missing."
                fix = "Write the key in every row, with null if there is no value."
                yield Finding(code="missing-key", message=message, fix=fix, column=key)
        if len(unread) > _NAMED:
            message = f"{len(unread):,} keys of the first row are missing, such as {unread[0]!r}; the row gets None."
            yield Finding(code="missing-key", message=message, level="warning", column=unread[0])
            return
        for key in unread:
            message = f"the key {key!r} is missing; the row gets None."
            yield Finding(code="missing-key", message=message, level="warning", column=key)

    def _settle(self, name: str, values: list[Any], found: Found) -> None:
        """Widen the kind of a column so that it holds the values; report the values that no kind can hold."""
        types = set(map(type, values))
        if types <= SCALARS.keys():
            try:
                kind = self.kinds[name]
                for of in types:
                    kind = merge(kind, SCALARS[of])
            except ClashError:
                pass  # check the values one by one, to report which
            else:
                self.kinds[name] = kind
                return
        if name not in self._given_up:
            self._settle_each(name, values, found)
        if name in self._given_up:
            self.kinds[name] = "null"
            values[:] = [None] * len(values)

    def _settle_each(self, name: str, values: Sequence[Any], found: Found) -> None:
        kind = before = self.kinds[name]
        for i in range(len(values)) if kind != "null" else _most_first(values):
            value = values[i]
            gaps: dict[str, None] = {}
            try:
                kind = merge(kind, kind_of(value, name, gaps), name, gaps)
            except (ClashError, UnsupportedError) as error:
                found.setdefault(i, []).append(_misfit(error, name=name, value=value))
                continue
            for path in gaps:
                if path in self._gaps:
                    continue
                self._gaps.add(path)
                message = f"some objects do not have the key {path!r}; they get None."
                gap = Finding(code="missing-nested-key", message=message, level="warning", column=path)
                found.setdefault(i, []).append(gap)
            if kind is before:
                continue
            before, most = kind, MOST_KEYS if gaps else MOST_COLUMNS
            if count_keys(kind) > most:
                self._given_up.add(name)
                message = f"nested objects have more than {most:,} different keys."
                fix = 'Store a mapping as a list: [{"key": …, "value": …}, …].'
                finding = Finding(code="too-many-keys", message=message, fix=fix, level="error", column=name)
                found.setdefault(i, []).append(finding)
                break
        self.kinds[name] = kind

    def _stored(self, name: str, values: Sequence[Any], found: Found) -> pa.Array | None:
        """Return the values as an Arrow array, or None with findings of the values that it cannot or must not store."""
        kind = self.kinds[name]
        try:
            array = pa.array(values, arrow(kind))
        except (OverflowError, UnicodeEncodeError, pa.ArrowException):
            array = None
        if array is not None and without_nul(array):
            return array
        for i, value in enumerate(values):
            wrong = _unstorable(value, kind)
            if wrong:
                code, message, fix = wrong
                finding = Finding(code=code, message=message, fix=fix, column=name, value=repr(value))
                found.setdefault(i, []).append(finding)
        return None


def _most_first(values: Sequence[Any]) -> list[int]:
    """Return the positions of values, those of the most common type first, which the column then has.

    >>> _most_first(["", 0.5, 1, None])
    [1, 2, 0, 3]
    """
    types = ["number" if type(value) in (int, float) else type(value) for value in values]
    counts = Counter(of for of in types if of is not type(None))
    if len(counts) < 2:
        return list(range(len(values)))
    most, _ = counts.most_common(1)[0]
    return sorted(range(len(values)), key=lambda i: types[i] != most)


def _misfit(error: ClashError | UnsupportedError, *, name: str, value: Any) -> Finding:
    if isinstance(error, ClashError):
        message = f"the value is {described(error.new)}, but other rows have {described(error.old)}."
        fix = "All values of a column must have the same type."
        return Finding(code="type-changed", message=message, fix=fix, column=error.path or name, value=str(value))
    fix = "Rows can hold text, numbers, booleans, None, and lists and mappings of these."
    return Finding(code="unsupported-type", message=str(error), fix=fix, column=name, value=str(value))


def _unstorable(value: Any, kind: Kind) -> tuple[str, str, str] | None:
    """Return why Arrow cannot or must not store a value, as code, message and fix; None if it can."""
    try:
        array = pa.array([value], arrow(kind))
    except UnicodeEncodeError:
        message = "the text contains half of a surrogate pair, which is not a character."
        return "lone-surrogate", message, "An emoji may have been cut in two. Write the whole text again."
    except (OverflowError, pa.ArrowInvalid):
        message = f"a column of {plural(kind)} cannot hold the number exactly."
        return "number-too-large", message, "Write it as text, in quotes."
    if without_nul(array):
        return None
    return "nul", "the text contains a NUL character.", "Remove it. It usually comes from a damaged file."


def without_nul(array: pa.Array) -> bool:
    """Return whether no text in an array contains a NUL character."""
    kind = array.type
    if pa.types.is_struct(kind):
        return all(without_nul(array.field(i)) for i in range(kind.num_fields))
    if pa.types.is_list(kind):
        return without_nul(array.values)
    if not pa.types.is_string(kind):
        return True
    data = array.buffers()[2]
    return data is None or b"\0" not in data.to_pybytes()
