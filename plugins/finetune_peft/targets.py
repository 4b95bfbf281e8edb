"""Find the modules that a method adapts if the recipe names none: PEFT's table first, then the model's structure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from peft.utils.constants import (
    TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
    TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
)
from torch import nn
from transformers.pytorch_utils import Conv1D

from finetune.errors import Incompatible

ATTENTION = (("query", "value"), ("q_proj", "v_proj"), ("q_lin", "v_lin"), ("query_proj", "value_proj"), ("q", "v"))
"""The names of the query and value projections, one pair for each kind of model."""
IA3_LAYOUTS: Mapping[tuple[str, ...], str] = {
    ("key", "value", "output.dense"): "output.dense",
    ("k_proj", "v_proj", "down_proj"): "down_proj",
    ("k_proj", "v_proj", "fc2"): "fc2",
    ("k_lin", "v_lin", "ffn.lin2"): "ffn.lin2",
    ("key", "value", "ffn_output"): "ffn_output",
}
"""Keys, values and second feed-forward layer → the one of them that IA3 scales at its input."""


def lora_targets(model: Any) -> list[str] | None:
    """Return the modules that LoRA updates; None if PEFT knows them.

    Raises:
        Incompatible: The attention layout is unknown to PEFT and to this module.
    """
    if model.config.model_type in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING:
        return None
    return list(_find_layout(model, ATTENTION))


def ia3_targets(model: Any) -> dict[str, Any]:
    """Return IA3's `target_modules` and `feedforward_modules`; nothing if PEFT knows them.

    Raises:
        Incompatible: The attention layout is unknown to PEFT and to this module.
    """
    if model.config.model_type in TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING:
        return {}
    layout = _find_layout(model, list(IA3_LAYOUTS))
    return {"target_modules": list(layout), "feedforward_modules": [IA3_LAYOUTS[layout]]}


def norm_modules(model: Any, *, exclude: Collection[str]) -> list[str]:
    """Return the full name of every normalization layer that is outside the excluded modules.

    Raises:
        Incompatible: There is none.
    """
    excluded = tuple(f"{name}." for name in exclude)
    norms: list[str] = []
    for name, module in model.named_modules():
        is_norm = "Norm" in type(module).__name__
        has_parameters = any(True for _ in module.parameters())
        if is_norm and has_parameters and not f"{name}.".startswith(excluded):
            norms.append(name)
    if not norms:
        raise Incompatible(
            f"strategy: {type(model).__name__} has no module whose class name contains 'Norm'. "
            "Name its normalization layers under strategy.target_modules."
        )
    return norms


def has_transposed_weights(model: Any) -> bool:
    """Say whether a model stores its weights as GPT-2 does: inputs × outputs."""
    return any(isinstance(module, Conv1D) for module in model.modules())


def _find_layout(model: Any, layouts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the first layout whose names all occur among the model's linear layers."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    for layout in layouts:
        if all(_has_module(linear, suffix) for suffix in layout):
            return layout
    raise Incompatible(
        f"strategy: the attention layout of {type(model).__name__} is unknown. Name modules under "
        f"strategy.target_modules; it has, for example, {', '.join(linear[:4])}."
    )


def _has_module(names: Iterable[str], suffix: str) -> bool:
    return any(f".{name}".endswith(f".{suffix}") for name in names)
