"""The columns of a split while it is read: their names, their kinds, and what does not fit them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from finetune.data.kinds import (
    MOST_KEYS,
    SCALARS,
    ClashError,
    Kind,
    UnsupportedError,
    arrow,
    described,
    kind_of,
    merge,
    refuse_key,
    widest,
)
from finetune.interfaces import Finding, Row

Found = dict[int, list[Finding]]
"""Position in the block → what is wrong with that row."""


class ColumnTypes:
    """Learns the columns of a split from its rows, block by block."""

    def __init__(self, *, needed: frozenset[str]) -> None:
        self.needed = needed
        """Columns, by their names in the file, whose absence from a row makes it bad."""
        self.first: dict[str, None] = {}
        """Keys of the first row."""
        self.kinds: dict[str, Kind] = {}
        """Every column, in order of appearance."""
        self._gaps: set[str] = set()
        self._given_up: set[str] = set()
        self._arrays: dict[str, pa.Array] = {}

    def schema(self) -> pa.Schema:
        """Return the Arrow schema as it stands."""
        return pa.schema([(name, arrow(kind)) for name, kind in self.kinds.items()])

    def batch(self, rows: Sequence[Row]) -> pa.RecordBatch:
        """Return rows that both checks passed as an Arrow batch."""
        arrays = self._arrays or {
            name: pa.array([row.get(name) for row in rows], arrow(kind)) for name, kind in self.kinds.items()
        }
        return pa.record_batch(list(arrays.values()), schema=self.schema())

    def check_keys(self, rows: Sequence[Row], header: bool) -> Found:
        """Return the rows whose keys are not the first row's; new keys become columns."""
        found: Found = {}
        for i, row in enumerate(rows[:1] if header else rows):
            if row.keys() == self.first.keys():
                continue
            findings = list(self._new_keys(row))
            if all(finding.level == "warning" for finding in findings):
                findings += self._missing_keys(row)
            if findings:
                found[i] = findings
        return found

    def check_values(self, rows: Sequence[Row]) -> Found:
        """Return the rows whose values do not fit their columns; kinds are widened where that loses nothing."""
        found: Found = {}
        columns = {name: [row.get(name) for row in rows] for name in self.kinds}
        for name, values in columns.items():
            self._settle(name, values, found)
        bad = [i for i, findings in found.items() if any(finding.level == "row" for finding in findings)]
        self._arrays = {}
        for name, values in columns.items():
            for i in bad:
                values[i] = None
            array = self._stored(name, values, found)
            if array is not None:
                self._arrays[name] = array
        if bad or len(self._arrays) < len(columns):
            self._arrays = {}  # some rows are to go: `batch` makes them anew
        return found

    def _new_keys(self, row: Row) -> Iterator[Finding]:
        if not row:
            yield Finding(code="not-an-object", message="an object without a single key")
            return
        try:
            for key in row:
                refuse_key(key)
        except UnsupportedError as error:
            yield Finding(code="unsupported-type", message=str(error), fix="Name columns by plain text.")
            return
        new = [key for key in row if key not in self.kinds]
        begins = not self.first
        for key in new:
            self.kinds[key] = "null"
            if begins:
                self.first[key] = None
            else:
                message = f"the key {key!r} appears here first; earlier rows are read as None"
                yield Finding(code="extra-key", message=message, fix="Is it misspelt?", level="warning", column=key)

    def _missing_keys(self, row: Row) -> Iterator[Finding]:
        for key in self.first:
            if key not in row:
                bad = key in self.needed
                yield Finding(
                    code="missing-key",
                    message=f"the key {key!r} is missing" + ("" if bad else "; it is read as None"),
                    fix="Write it in every row, as null where there is no value." if bad else "",
                    level="row" if bad else "warning",
                    column=key,
                )

    def _settle(self, name: str, values: list[Any], found: Found) -> None:
        """Widen the kind of a column so that it holds the values; a value that no kind holds is found."""
        types = set(map(type, values))
        if types <= SCALARS.keys():
            try:
                kind = self.kinds[name]
                for of in types:
                    kind = merge(kind, SCALARS[of])
            except ClashError:
                pass  # one by one, to say which
            else:
                self.kinds[name] = kind
                return
        if name not in self._given_up:
            self._settle_each(name, values, found)
        if name in self._given_up:
            self.kinds[name] = "null"
            values[:] = [None] * len(values)

    def _settle_each(self, name: str, values: Sequence[Any], found: Found) -> None:
        kind = self.kinds[name]
        for i, value in enumerate(values):
            gaps: dict[str, None] = {}
            try:
                kind = merge(kind, kind_of(value, name, gaps), name, gaps)
            except (ClashError, UnsupportedError) as error:
                found.setdefault(i, []).append(_misfit(error, name=name, value=value))
                continue
            for path in [path for path in gaps if path not in self._gaps]:
                self._gaps.add(path)
                message = f"some objects have the key {path!r} and others do not, where it is read as None"
                gap = Finding(code="missing-nested-key", message=message, level="warning", column=path)
                found.setdefault(i, []).append(gap)
            if gaps and widest(kind) > MOST_KEYS:
                self._given_up.add(name)
                message = f"nested objects have more than {MOST_KEYS:,} different keys"
                fix = 'Store a mapping as a list: [{"key": …, "value": …}, …].'
                finding = Finding(code="too-many-keys", message=message, fix=fix, level="error", column=name)
                found.setdefault(i, []).append(finding)
                break
        self.kinds[name] = kind

    def _stored(self, name: str, values: Sequence[Any], found: Found) -> pa.Array | None:
        """Return the values as Arrow stores them; what it cannot store, or should not, is found."""
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


def _misfit(error: ClashError | UnsupportedError, *, name: str, value: Any) -> Finding:
    if isinstance(error, ClashError):
        message = f"{described(error.new)}, where rows before have {described(error.old)}"
        fix = "A column has one type."
        return Finding(code="type-changed", message=message, fix=fix, column=error.path or name, value=str(value))
    fix = "Rows hold text, numbers, booleans, None, lists and mappings of them."
    return Finding(code="unsupported-type", message=str(error), fix=fix, column=name, value=str(value))


def _unstorable(value: Any, kind: Kind) -> tuple[str, str, str] | None:
    """Say why Arrow cannot, or should not, store a value: code, message, fix."""
    try:
        array = pa.array([value], arrow(kind))
    except UnicodeEncodeError:
        return "lone-surrogate", "half of a surrogate pair, which is no character", "Was an emoji cut in two?"
    except (OverflowError, pa.ArrowInvalid):
        return "number-too-large", f"a column of {described(kind)} cannot hold it exactly", "Quote it as text."
    return None if without_nul(array) else ("nul", "a NUL character", "Remove it; it comes from a damaged file.")


def without_nul(array: pa.Array) -> bool:
    """Say that no text in an array holds a NUL character."""
    kind = array.type
    if pa.types.is_struct(kind):
        return all(without_nul(array.field(i)) for i in range(kind.num_fields))
    if pa.types.is_list(kind):
        return without_nul(array.values)
    if not pa.types.is_string(kind):
        return True
    data = array.buffers()[2]
    return data is None or b"\0" not in data.to_pybytes()
