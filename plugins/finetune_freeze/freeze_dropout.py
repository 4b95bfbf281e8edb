"""What is frozen computes as in evaluation: without dropout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def disable_dropout_of(model: Any) -> None:
    """Switch dropout off in what is frozen of the body, whatever mode the trainer puts the model in."""
    for part in frozen_parts(model.base_model):
        part.register_forward_pre_hook(_evaluate)


def frozen_parts(module: Any) -> Iterator[Any]:
    """Yield the outermost modules in which nothing trains."""
    trains = [parameter.requires_grad for parameter in module.parameters()]
    if not any(trains):
        yield module
    elif not all(trains):
        for child in module.children():
            yield from frozen_parts(child)


def _evaluate(module: Any, arguments: Any) -> None:
    # The trainer calls train() on the whole model before each step.
    if module.training:
        module.eval()
