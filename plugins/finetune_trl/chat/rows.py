"""Rows of prompts and completions: their columns, and how a batch becomes rows and columns again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.interfaces import Batch, Row

PROMPT, COMPLETION = "prompt", "completion"
"""Columns of the data."""
CONVERSATIONS = "conversations"
"""The column in which ShareGPT keeps the prompt, or the whole dialogue."""
TOOLS = "tools"
"""The column with the definitions of the tools that the model may call: a list, or its JSON text."""
TOKENS_LOST, PROMPT_CUT = "tokens_lost", "prompt_cut"
"""Helper columns of the features: how many tokens `max_length` cut off, and whether the answers took over the last
tokens of the prompt."""


@dataclass(frozen=True, kw_only=True)
class PromptCompletion:
    """A prompt and its completion: two texts, or two lists of messages; any value where the row is not checked yet."""

    prompt: Any
    """None where nothing is asked, and the completion is a text that stands alone."""
    completion: Any = None
    """None where the answer is not known."""
    tools: Any = None
    """Definitions of the tools that the model may call."""


def has_messages(rows: Sequence[Row], columns: Sequence[str]) -> bool:
    """Say whether the first row that fills one of the columns fills it with messages rather than text."""
    for row in rows:
        for name in columns:
            value = row.get(name)
            if value is not None:
                return not isinstance(value, str)
    return False


def rows_of(examples: Batch) -> list[dict[str, Any]]:
    """Return a batch row by row.

    >>> rows_of({"prompt": ["Who?", "Why?"], "label": [True, False]})
    [{'prompt': 'Who?', 'label': True}, {'prompt': 'Why?', 'label': False}]
    """
    rows = []
    for values in zip(*examples.values(), strict=True):
        rows.append(dict(zip(examples, values, strict=True)))
    return rows


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return rows column by column; every row has the columns of the first."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def names_of(features: Any) -> Sequence[str]:
    """Return the column names of a batch, or of a data set."""
    return getattr(features, "column_names", None) or list(features)
