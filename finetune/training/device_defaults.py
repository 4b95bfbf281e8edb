"""Defaults of training that follow the device: a GPU computes in bfloat16 where a task says so, a CPU in float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune import models
from finetune.interfaces import Strategy, Task

CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")


@dataclass(frozen=True, kw_only=True)
class Device:
    """What trains."""

    is_accelerator: bool
    """Whether it is a GPU or the like, and not the processor."""
    has_bf16: bool = False
    """Whether an accelerator has bfloat16 instructions."""


def this_device(training: Mapping[str, Any]) -> Device:
    """Return the device on which a run with these training options trains."""
    import torch

    accelerated = torch.accelerator.is_available() and not training.get("use_cpu")
    return Device(is_accelerator=accelerated, has_bf16=accelerated and models.gpu_has_bf16())


def device_defaults(task: Task, strategy: Strategy, training: Mapping[str, Any], *, device: Device) -> dict[str, Any]:
    """Return the defaults that a task has on an accelerator, as far as device, strategy and recipe allow them.

    Args:
        task: The task.
        strategy: A strategy that cannot train with activation checkpointing leaves it off.
        training: The training options of the recipe. With ``fp16``, bfloat16 stays off.
        device: What trains.
    """
    if not device.is_accelerator:
        return {}
    found = dict(task.training_on_accelerator)
    if found.get("bf16") and (training.get("fp16") or not device.has_bf16):
        found["bf16"] = False
    for name in CHECKPOINTING:
        if found.get(name) and not strategy.trains_with_activation_checkpointing:
            found[name] = False
    return found


def notes(task: Task, training: Mapping[str, Any], arguments: Mapping[str, Any], *, device: Device) -> list[str]:
    """Return a note that names the defaults which the device gave a run.

    Args:
        task: The task.
        training: The training options of the recipe.
        arguments: Those of the run.
        device: What trains.
    """
    chosen = []
    for name in task.training_on_accelerator if device.is_accelerator else ():
        if name not in training:
            chosen.append(f"{name}: {str(arguments[name]).lower()}")
    if not chosen:
        return []
    return [f"training: {', '.join(chosen)}, the default of this task on a GPU; a recipe can say otherwise"]
