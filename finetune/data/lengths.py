"""Features that are longer than the texts that a model was made for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from finetune import models
from finetune.data.features import Features
from finetune.interfaces import Finding, Preprocessor

CODE = "longer-than-context"
_OPTIONS = ("max_length", "max_source_length")
"""Options of preprocessors that limit the length of features."""


def check(part: Features, *, config: Any, preprocessor: Preprocessor, split: str) -> Iterator[Finding]:
    """Yield a finding if the longest feature of a split has more tokens than the model has positions.

    Args:
        part: The features of the split.
        config: The configuration of the model.
        preprocessor: Its option is named in the fix.
        split: Name of the split.
    """
    positions = models.context_length(config)
    if positions is None or part.longest <= positions:
        return
    fix = "Make the texts shorter"
    for option in _OPTIONS:
        if hasattr(preprocessor, option):
            fix = f"Set preprocessor.{option} to {positions} or less"
            break
    yield Finding(
        code=CODE,
        message=f"features have up to {part.longest:,} tokens, but the model was made for {positions:,} positions.",
        fix=f"{fix}, or use a model for longer texts.",
        level="warning",
        split=split,
    )
