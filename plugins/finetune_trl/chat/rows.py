"""Rows and columns, and what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.interfaces import Batch, Row
from finetune_trl.preference.pairs import CHOSEN, REJECTED

TOKENS_LOST, PROMPT_CUT = "tokens_lost", "prompt_cut"
"""Helper columns of the features: tokens that `max_length` cut off; whether the prompt's end went to the answers."""


def has_messages(rows: Sequence[Row], columns: Sequence[str]) -> bool:
    """Say whether the first row that fills one of the columns fills it with messages rather than text."""
    values = (row.get(name) for row in rows for name in columns)
    return not isinstance(next((value for value in values if value is not None), ""), str)


def has_answers(rows: Sequence[Row]) -> bool:
    """Say whether any row has an answer."""
    return any(row.get(name) is not None for row in rows for name in (CHOSEN, REJECTED))


def rows_of(examples: Batch) -> list[dict[str, Any]]:
    """Return a batch row by row."""
    names = list(examples)
    return [dict(zip(names, values, strict=True)) for values in zip(*examples.values(), strict=True)]


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return rows column by column."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def names_of(features: Any) -> Sequence[str]:
    """Return the columns of a batch, or of a data set."""
    return getattr(features, "column_names", None) or list(features)
