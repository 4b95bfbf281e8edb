"""Columns that belong together: a series such as `option1`, `option2` or `A`, `B`, or one column of 0 and 1 each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finetune.inspection.columns import Column
from finetune.inspection.names import is_id, words
from finetune.interfaces import Values

_MOST_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_NUMBERED = re.compile(r"(?P<begin>.*?)_?(?P<mark>\d{1,2}|[a-z])")
_LEAST = 2
"""Fewest columns of a group."""


@dataclass(frozen=True)
class Group:
    """Several columns of the data for one option of a task."""

    columns: tuple[str, ...]
    score: float
    by_name: bool
    why: str


def group(values: Values, columns: Sequence[Column]) -> Group | None:
    """Return the columns that hold such values and belong together; None if there are fewer than two.

    Args:
        values: What each column holds, and with what the names of a series begin.
        columns: The columns of the data.
    """
    return _series(values, columns) if values.names else _alike(values, columns)


def _series(values: Values, columns: Sequence[Column]) -> Group | None:
    """Return the longest series whose names begin as they should."""
    best: Group | None = None
    for position, begin in enumerate(values.names):
        found = _members(begin, columns)
        fits = [column.fit(values.kind) for column in found]
        if len(found) < _LEAST or not all(fit.score for fit in fits):
            continue
        if best is None or len(found) > len(best.columns):
            share = sum(fit.score for fit in fits) / len(fits)
            similar = 0.9 - 0.2 * position / len(values.names)
            why = f"{len(found)} columns, the first with {fits[0].why}"
            names = tuple(column.name for column in found)
            best = Group(columns=names, score=0.5 * similar + 0.5 * share, by_name=True, why=why)
    return best


def _members(begin: str, columns: Sequence[Column]) -> list[Column]:
    """Return the columns whose names are a beginning and a letter or a number, each the next one.

    The series begins at `a`, 0 or 1, and ends before the first that is missing.
    """
    marked: dict[str, Column] = {}
    for column in columns:
        match = _NUMBERED.fullmatch(words(column.name))
        if match and match["begin"] == begin:
            marked.setdefault(match["mark"], column)
    best: list[Column] = []
    for order in _orders():
        found = []
        for mark in order:
            if mark not in marked:
                break
            found.append(marked[mark])
        best = max(best, found, key=len)
    return best


def _orders() -> Iterator[list[str]]:
    yield list(_MOST_LETTERS)
    for first in (0, 1):
        yield [str(number) for number in range(first, first + len(_MOST_LETTERS))]


def _alike(values: Values, columns: Sequence[Column]) -> Group | None:
    """Return all columns with such values that do not identify a row."""
    found = [column for column in columns if column.fit(values.kind).score and not is_id(column.name)]
    if len(found) < _LEAST:
        return None
    names = tuple(column.name for column in found)
    score = 0.75 if len(found) > _LEAST else 0.6
    why = f"{len(found)} columns with {found[0].fit(values.kind).why}"
    return Group(columns=names, score=score, by_name=False, why=why)
