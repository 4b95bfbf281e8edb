"""What a row says: its choices, and which of them is right."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from finetune.interfaces import Row
from finetune.kit import parse_cell

LabelForm = Literal["index", "number", "letter", "text"]

WRITTEN: dict[str, str] = {
    "index": "a whole number from 0",
    "number": "a whole number from 1",
    "letter": "a letter from A",
    "text": "the text of one of the choices",
}
"""Form of the label → how a label is written."""


def choices_of(row: Row, columns: Sequence[str] | None) -> list[Any] | None:
    """Return the choices of a row: its list under ``choices``, or one cell of each column; None if there is no list.

    The list may also stand under ``text`` of a mapping, as in ARC, or be written in a cell as JSON or as Python prints
    it.

    >>> choices_of({"choices": {"text": ["tar", "salt"], "label": ["A", "B"]}}, None)
    ['tar', 'salt']
    >>> choices_of({"choices": "['tar', 'salt']"}, None), choices_of({"choices": "tar, salt"}, None)
    (['tar', 'salt'], None)
    """
    if columns is not None:
        return [row.get(column) for column in columns]
    choices = _value(row.get("choices"))
    if isinstance(choices, Mapping):
        choices = choices.get("text")
    return list(choices) if isinstance(choices, list | tuple) else None


def names_of(row: Row) -> list[str]:
    """Return the names that a row gives its choices, as in ARC; none if it gives none.

    >>> names_of({"choices": {"text": ["tar", "salt"], "label": ["1", "2"]}}), names_of({"choices": ["tar", "salt"]})
    (['1', '2'], [])
    """
    choices = _value(row.get("choices"))
    names = choices.get("label") if isinstance(choices, Mapping) else None
    return [str(name).strip() for name in names] if isinstance(names, list | tuple) else []


def _value(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.lstrip().startswith(("[", "{")):
        return cell
    try:
        return parse_cell(cell)
    except ValueError:
        return cell


def position_of(label: Any, choices: Sequence[str], form: LabelForm, names: Sequence[str] = ()) -> int | None:
    """Return the position of the right choice, from 0; None if the label names none.

    >>> position_of("B", ["tar", "salt"], "letter"), position_of("1", ["tar", "salt"], "index")
    (1, 1)
    >>> position_of("rope", ["tar", "salt"], "text"), position_of(2, ["tar", "salt"], "number")
    (None, 1)

    Args:
        label: The label.
        choices: The choices.
        form: How the label names one of them.
        names: Names that the row gives its choices; a letter is one of them.
    """
    if form == "text":
        return list(choices).index(label) if label in choices else None
    text = _whole(label)
    if form == "letter":
        if names:
            return names.index(text) if text in names else None
        position = string.ascii_uppercase.find(text.upper()) if len(text) == 1 else -1
    else:
        position = int(text) - (form == "number") if text.isdecimal() else -1
    return position if 0 <= position < len(choices) else None


def _whole(label: Any) -> str:
    """Return a label as text; pandas writes 1.0 for 1 in a column with gaps."""
    return str(label).strip().removesuffix(".0")
