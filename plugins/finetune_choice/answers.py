"""What a row says: its choices, and which of them is right."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any, Literal

from finetune.interfaces import Row

LabelForm = Literal["index", "letter", "text"]

WRITTEN: dict[str, str] = {
    "index": "a whole number from 0",
    "letter": "a letter from A",
    "text": "the text of one of the choices",
}
"""Form of the label → how a label is written."""


def choices_of(row: Row, columns: Sequence[str] | None) -> list[Any] | None:
    """Return the choices of a row: its list under ``choices``, or one cell of each column; None if there is no list."""
    if columns is not None:
        return [row.get(column) for column in columns]
    choices = row.get("choices")
    return list(choices) if isinstance(choices, list | tuple) else None


def position_of(label: Any, choices: Sequence[str], form: LabelForm) -> int | None:
    """Return the position of the right choice, from 0; None if the label names none.

    >>> position_of("B", ["tar", "salt"], "letter"), position_of("1", ["tar", "salt"], "index")
    (1, 1)
    >>> position_of("rope", ["tar", "salt"], "text"), position_of(2, ["tar", "salt"], "index")
    (None, None)
    """
    if form == "text":
        return list(choices).index(label) if label in choices else None
    text = str(label).strip()
    if form == "letter":
        position = string.ascii_uppercase.find(text.upper()) if len(text) == 1 else -1
    else:
        position = int(text) if text.isdecimal() else -1
    return position if 0 <= position < len(choices) else None
