"""IA3: learned scales of activations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from peft import IA3Config

from finetune.interfaces import Base, Suggestion, Task
from finetune_peft.heads import head_modules
from finetune_peft.rates import by_size
from finetune_peft.strategy import PeftStrategy
from finetune_peft.targets import has_transposed_weights, ia3_targets


@dataclass(frozen=True, kw_only=True)
class IA3Strategy(PeftStrategy):
    """Trains one number for each key, each value and each inner activation of the feed-forward networks, and the head.

    It trains fewer parameters than any other of these methods that reaches every layer. Use a high learning rate, such
    as 1e-2.

    Source: Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
    section 3.3.
    """

    method: ClassVar[type[IA3Config]] = IA3Config
    trains_sharded: ClassVar[bool] = True

    target_modules: str | tuple[str, ...] | None = None
    """Modules to scale: the ends of their names, or a regular expression. None: keys, values and feed-forward
    layers."""
    feedforward_modules: tuple[str, ...] | None = None
    """Those of `target_modules` that are scaled at their input, not their output; only together with it."""
    modules_to_save: tuple[str, ...] = ()
    """Further modules to train whole, besides the head and what the base model lacks."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `peft.IA3Config`, verbatim."""

    def suggest(self, task: Task, base: Base) -> Suggestion:
        """Return a learning rate by the size of the model."""
        return by_size(base, measured=3e-2, published=3e-3, source="Liu et al. 2022, section 3.3")

    def peft_options(self, model: Any, task: Task, *, whole: Collection[str]) -> dict[str, Any]:
        """Return fields of `peft.IA3Config`."""
        if self.target_modules is None:
            targets = ia3_targets(model)
        else:
            named = self.target_modules
            targets = {
                "target_modules": list(named) if isinstance(named, tuple) else named,
                "feedforward_modules": list(self.feedforward_modules or ()),
            }
        excluded = {*whole, *head_modules(model, task.peft_type)}
        return {
            **targets,
            "exclude_modules": sorted(excluded) or None,
            "fan_in_fan_out": has_transposed_weights(model),
        }
