"""What `max_length` and the limit of generation make unreachable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.interfaces import Limit, Predictions
from finetune.kit import GENERATION_DEFAULTS

WHOLE = "whole_length"
"""Feature column: the tokens of a row, or of its longest answer with the prompt, before it is cut."""


def row_limits(predictions: Predictions) -> list[Limit]:
    """Return the preprocessor's `max_length` with the tokens of each row; none for features without these."""
    features: Any = predictions.features
    longest = getattr(predictions.preprocessor, "max_length", None)
    if longest is None or WHOLE not in features.column_names:
        return []
    return [Limit(option="preprocessor.max_length", value=longest, lengths=features[WHOLE][:], what="rows")]


def answer_limits(lengths: Sequence[int], generation: Mapping[str, Any]) -> list[Limit]:
    """Return the recipe's `max_new_tokens`, or its default, with the tokens of each right answer."""
    longest = {**GENERATION_DEFAULTS, **generation}["max_new_tokens"]
    return [Limit(option="generation.max_new_tokens", value=longest, lengths=lengths)]
