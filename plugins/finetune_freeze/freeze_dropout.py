"""Switch dropout off in frozen modules, so that they compute as in evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def disable_dropout_of(model: Any) -> None:
    """Switch dropout off in the frozen modules of the body, even while the trainer has the model in training mode."""
    for module in frozen_modules(model.base_model):
        module.register_forward_pre_hook(_set_evaluation_mode)


def frozen_modules(module: Any) -> Iterator[Any]:
    """Yield the outermost modules without any trainable parameter."""
    trainable = [parameter.requires_grad for parameter in module.parameters()]
    if not any(trainable):
        yield module
    elif not all(trainable):
        for child in module.children():
            yield from frozen_modules(child)


def _set_evaluation_mode(module: Any, arguments: Any) -> None:
    # in a hook, because the trainer calls train() on the whole model before each step
    if module.training:
        module.eval()
