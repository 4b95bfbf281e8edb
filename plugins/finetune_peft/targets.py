"""Which modules a method changes where nobody names them: PEFT's choice, else what the model's structure tells."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from peft.utils.constants import (
    TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
    TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
)
from torch import nn
from transformers.pytorch_utils import Conv1D

from finetune.errors import Incompatible

ATTENTION = (("query", "value"), ("q_proj", "v_proj"), ("q_lin", "v_lin"), ("query_proj", "value_proj"), ("q", "v"))
"""What projections to queries and values are called, in one kind of model or another."""
SCALED: Mapping[tuple[str, ...], str] = {
    ("key", "value", "output.dense"): "output.dense",
    ("k_proj", "v_proj", "down_proj"): "down_proj",
    ("k_proj", "v_proj", "fc2"): "fc2",
    ("k_lin", "v_lin", "ffn.lin2"): "ffn.lin2",
    ("key", "value", "ffn_output"): "ffn_output",
}
"""Keys, values and the second layer of the feed-forward network → which of them is scaled at its input."""


def low_rank(model: Any) -> list[str] | None:
    """Return the modules beside which thin matrices train; None for PEFT's choice.

    Raises:
        Incompatible: Neither PEFT nor we know what the model's attention is called.
    """
    if model.config.model_type in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING:
        return None
    return list(_first(model, ATTENTION))


def scaled(model: Any) -> dict[str, Any]:
    """Return IA3's `target_modules` and `feedforward_modules`; nothing for PEFT's choice.

    Raises:
        Incompatible: Neither PEFT nor we know what the model's attention is called.
    """
    if model.config.model_type in TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING:
        return {}
    found = _first(model, list(SCALED))
    return {"target_modules": list(found), "feedforward_modules": [SCALED[found]]}


def norms(model: Any, *, apart_from: Collection[str]) -> list[str]:
    """Return every normalisation layer by its full name, those inside some modules left out.

    Raises:
        Incompatible: There is none.
    """
    outside = tuple(f"{name}." for name in apart_from)
    found = [
        name
        for name, module in model.named_modules()
        if "Norm" in type(module).__name__ and not f"{name}.".startswith(outside) and list(module.parameters())
    ]
    if not found:
        raise Incompatible(
            f"strategy: {type(model).__name__} has no module whose class is called a norm. "
            "Name its norms under strategy.target_modules."
        )
    return found


def has_transposed_weights(model: Any) -> bool:
    """Say whether a model keeps its weights as GPT-2 does: inputs by outputs."""
    return any(isinstance(module, Conv1D) for module in model.modules())


def _first(model: Any, choices: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    names = [f".{name}" for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    for choice in choices:
        if all(any(name.endswith(f".{wanted}") for name in names) for wanted in choice):
            return choice
    raise Incompatible(
        f"strategy: nobody knows what the attention of {type(model).__name__} is called. Name modules under "
        f"strategy.target_modules; it has, for example, {', '.join(name[1:] for name in names[:4])}."
    )
