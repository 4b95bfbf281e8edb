"""Find the modules that train whole, and the ones that get no adapter."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

HEAD_TASK_TYPES = frozenset({"SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"})
"""PEFT's task types whose head it trains whole, even if the head came with the base model."""


def newly_initialized_modules(model: Any, newly_initialized: Collection[str]) -> set[str]:
    """Return the modules that hold newly initialized weights, as PEFT's `modules_to_save` names them.

    A part of the head stands for the whole head, because PEFT wraps a head as one module: with RoBERTa,
    ``classifier.dense`` and ``classifier.out_proj`` give ``classifier``. A part of the body stands for itself:
    ``bert.pooler.dense``.
    """
    body = model.base_model_prefix
    modules: set[str] = set()
    for name in newly_initialized:
        is_in_body = name.startswith(f"{body}.")
        if name:
            modules.add(name if is_in_body else name.split(".")[0])
    return modules


def head_modules(model: Any, peft_type: str | None) -> set[str]:
    """Return the modules outside the body that PEFT trains whole for a task type; they get no adapter."""
    body = model.base_model_prefix
    if peft_type not in HEAD_TASK_TYPES or not hasattr(model, body):
        return set()
    return {name for name, _ in model.named_children() if name != body}
