"""Learned scales of activations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from peft import IA3Config

from finetune.interfaces import Task
from finetune_peft.heads import head
from finetune_peft.strategy import PeftStrategy
from finetune_peft.targets import has_transposed_weights, scaled


@dataclass(frozen=True, kw_only=True)
class IA3Strategy(PeftStrategy):
    """Trains one number for each key, each value and each inner activation of the feed-forward networks, and the head.

    Fewer parameters than any other method here that reaches every layer; they want a high learning rate (1e-2, say).

    Source: Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
    section 3.3.
    """

    method: ClassVar[type[IA3Config]] = IA3Config

    target_modules: str | tuple[str, ...] | None = None
    """Modules to scale: ends of their names, or a regular expression; None for keys, values and feed-forward layers."""
    feedforward_modules: tuple[str, ...] | None = None
    """Those of them that are scaled at their input rather than their output; None with `target_modules` None."""
    modules_to_save: tuple[str, ...] = ()
    """Modules to train whole, beside the head and whatever the base model lacks."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `peft.IA3Config`, verbatim."""

    def options(self, model: Any, task: Task, *, whole: Collection[str]) -> dict[str, Any]:
        """Return fields of `peft.IA3Config`."""
        named = self.target_modules
        chosen: dict[str, Any] = scaled(model)
        if named is not None:
            inputs = list(self.feedforward_modules or ())
            chosen = {"target_modules": list(named) if isinstance(named, tuple) else named}
            chosen["feedforward_modules"] = inputs
        return {
            **chosen,
            "exclude_modules": sorted({*whole, *head(model, task.peft_type)}) or None,
            "fan_in_fan_out": has_transposed_weights(model),
        }
