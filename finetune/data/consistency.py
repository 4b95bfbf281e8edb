"""The columns that change what a model reads, such as a second text: all rows must have them as those of train do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from finetune.interfaces import Finding

CODE = "input-differs"


def use_of(values: Iterable[Any]) -> str:
    """Return how many values are there: `all`, `some` or `none`.

    >>> use_of(["tar", "salt"]), use_of(["tar", None]), use_of([None, ""])
    ('all', 'some', 'none')
    """
    there = {is_there(value) for value in values}
    if there == {True}:
        return "all"
    return "some" if True in there else "none"


def is_there(value: Any) -> bool:
    """Return whether a cell has a value; an empty cell of a csv file is empty text."""
    return value is not None and value != ""


def check(column: str, values: Sequence[Any], *, train: str, file: str | None) -> Iterator[Finding]:
    """Yield where the rows of one split have a column in another way than train.

    Args:
        column: The column.
        values: Its values, None in each row if the column does not exist.
        train: How many rows of train have a value; see `use_of`.
        file: The file of the split, if it is a single one.
    """
    if train == "all":
        missing = [row for row, value in enumerate(values) if not is_there(value)]
        if len(missing) == len(values):
            yield Finding(
                code=CODE, level="error", column=column, file=file,
                message=f"every row of train has a value in {column!r}, and no row here has one: the model would read "
                "another kind of input than it learns from.", fix=f"Add the column {column!r}.",
            )  # fmt: skip
            return
        for row in missing:
            yield Finding(
                code=CODE, level="row", row=row, column=column, fix="Add the value, or drop the row.",
                message="the row has no value, and every row of train has one.",
            )  # fmt: skip
    if train == "none":
        extra = [row for row, value in enumerate(values) if is_there(value)]
        if extra:
            yield Finding(
                code=CODE, level="error", row=extra[0], column=column, value=str(values[extra[0]]),
                message=f"{len(extra):,} of {len(values):,} rows have a value in {column!r}, and no row of train has "
                "one: the model would read another kind of input than it learns from.",
                fix=f"Remove or rename the column {column!r}.",
            )  # fmt: skip
