"""Which modules must train whole, and which no adapter may touch."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

HEADED = frozenset({"SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"})
"""Types of PEFT whose head it trains whole, whether or not it was newly initialized."""


def trained_whole(model: Any, newly_initialized: Collection[str]) -> set[str]:
    """Return the modules that hold what was newly initialized, as PEFT names them.

    A part of the head stands for the whole head, since PEFT wraps heads whole: with RoBERTa, ``classifier.dense`` and
    ``classifier.out_proj`` give ``classifier``. A part of the body stands for itself: ``bert.pooler.dense``.
    """
    body = model.base_model_prefix
    return {name if name.startswith(f"{body}.") else name.split(".")[0] for name in newly_initialized if name}


def head(model: Any, peft_type: str | None) -> set[str]:
    """Return the modules beside the body that PEFT trains whole for a type: there, no adapter is wanted beside."""
    if peft_type not in HEADED or not hasattr(model, model.base_model_prefix):
        return set()
    return {name for name, _ in model.named_children() if name != model.base_model_prefix}
