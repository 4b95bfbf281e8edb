"""Columns that have a meaning elsewhere, and that a task does not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from finetune.interfaces import Columns, Finding, Row
from finetune_trl.chat.rows import TOOLS

MARGIN = "margin"
"""The column of the task `reward` with how much better the chosen answer is."""
_CODE = "unread-columns"
_ADVICE = {
    TOOLS: "Tools need messages and a chat template; describe them in the text, or give the rows as messages.",
    "functions": 'Call it tools under dataset.columns, and write {"type": "function", "function": …} for each.',
    "system": "Make it the first message of the prompt: {role: system, content: …}.",
    MARGIN: "Only the task reward uses margins.",
    "weight": "Rows have no weights; the data sets of dataset.mixture have.",
    "chat_template_kwargs": "Set preprocessor.chat_template_kwargs for all rows.",
    "images": "The model gets the text alone; drop rows that are about an image.",
}
"""Column of the data sets of other libraries → what to do where it is not read."""


def check_unread(rows: Sequence[Row], reads: Columns) -> Iterator[Finding]:
    """Yield a warning for each column of a split that has a meaning for other libraries, and is not read.

    Args:
        rows: The rows of the split.
        reads: The columns that the task reads.
    """
    known = {*reads.inputs, *reads.answers, *reads.optional_answers}
    for name, advice in _ADVICE.items():
        if name in known or not len(rows) or name not in rows[0]:
            continue
        first = next((number for number, row in enumerate(rows) if not _is_empty(row.get(name))), None)
        if first is not None:
            message = f"the task does not read the column {name!r}."
            yield Finding(code=_CODE, message=message, fix=advice, level="warning", row=first, column=name)


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {})
