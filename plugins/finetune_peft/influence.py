"""Check that what a method of PEFT added reaches the outputs and gets gradients, before a run spends time on it."""

from __future__ import annotations

from typing import Any

import torch

from finetune.errors import Incompatible
from finetune.kit import evaluation_mode
from finetune_peft.merging import random_batch


def check_influence(model: Any, *, kind: str) -> None:
    """Check that the parameters of an adapter can train: one forward and one backward pass on four random texts.

    A model without memory for its weights, as `finetune plan` makes it, is not checked.

    Args:
        model: As PEFT wrapped it.
        kind: PEFT's type, for messages.

    Raises:
        Incompatible: The type added no parameter that trains, or none gets a gradient, or one is not finite.
    """
    added = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and ".modules_to_save." not in name:
            added[name] = parameter
    if not added:
        raise Incompatible(
            f"strategy: {kind} added no parameter that trains to {type(model.get_base_model()).__name__}, so only the "
            "head would train. Name the modules to adapt with target_modules, or use another type."
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        return
    _backward(model, kind)
    gradients = [parameter.grad for parameter in added.values() if parameter.grad is not None]
    model.zero_grad(set_to_none=True)
    if not any(bool(gradient.any()) for gradient in gradients):
        raise Incompatible(
            f"strategy: no parameter that {kind} added to {type(model.get_base_model()).__name__} gets a gradient, so "
            "training would change nothing but the head. Name other modules with target_modules, or use another type."
        )
    if not all(bool(gradient.isfinite().all()) for gradient in gradients):
        raise Incompatible(
            f"strategy: {kind} gives {type(model.get_base_model()).__name__} gradients that are not finite. Use other "
            "options, or another type."
        )


def _backward(model: Any, kind: str) -> None:
    """Compute the gradients of the outputs for random texts.

    Raises:
        Incompatible: The model cannot compute with what was added.
    """
    batch = random_batch(model)
    try:
        with evaluation_mode(model), torch.enable_grad():
            outputs = model(**batch)
            total: Any = sum(
                value.float().square().sum()
                for value in outputs.values()
                if isinstance(value, torch.Tensor) and value.is_floating_point() and value.requires_grad
            )
            if not isinstance(total, int):  # the sum of none
                total.backward()
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError, NotImplementedError) as error:
        name = type(model.get_base_model()).__name__
        raise Incompatible(f"strategy: {name} cannot compute with {kind}: {error}") from error
