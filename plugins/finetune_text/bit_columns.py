"""One column of 0 and 1 for each label, as in the data of Jigsaw: the columns as one list for each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

from finetune.interfaces import Batch, Row
from finetune_text.labels import LABEL

_WRITTEN = {"true": "1", "yes": "1", "1.0": "1", "false": "0", "no": "0", "0.0": "0"}
"""Other ways to write 0 and 1."""


def vector(row: Row, columns: Sequence[str]) -> list[str] | None:
    """Return the values of the columns as text, `0` and `1` where they say so; None if all are missing.

    >>> vector({"toxic": "1", "insult": False}, ["toxic", "insult"]), vector({"text": "Fog"}, ["toxic", "insult"])
    (['1', '0'], None)

    Args:
        row: The row.
        columns: The columns.
    """
    values = [row.get(column) for column in columns]
    return None if all(value is None for value in values) else [_bit(value) for value in values]


def vectors(examples: Batch, columns: Sequence[str]) -> list[list[str] | None]:
    """Return the same for each row of a batch, of which a column can be missing."""
    size = len(next(iter(examples.values()), ()))
    known = {column: examples[column] for column in columns if column in examples}
    return [vector({name: values[place] for name, values in known.items()}, columns) for place in range(size)]


def _bit(value: Any) -> str:
    text = "" if value is None else str(value).strip()
    return _WRITTEN.get(text.casefold(), text)


class WithVectors(Sequence[Row]):
    """Rows with the values of several columns as a list in the label column."""

    def __init__(self, examples: Sequence[Row], columns: Sequence[str]) -> None:
        self._examples = examples
        self._columns = columns

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | Sequence[Row]:
        if isinstance(place, slice):
            return WithVectors([self._examples[number] for number in range(*place.indices(len(self)))], self._columns)
        return self._row(self._examples[place])

    def __iter__(self) -> Iterator[Row]:
        return map(self._row, self._examples)

    def __len__(self) -> int:
        return len(self._examples)

    def _row(self, row: Row) -> Row:
        return {**row, LABEL: vector(row, self._columns)}
