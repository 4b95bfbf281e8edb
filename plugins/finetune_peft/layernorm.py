"""LayerNorm tuning: only the normalization layers train."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from peft import LNTuningConfig

from finetune.interfaces import Base, Suggestion, Task
from finetune_peft.heads import head_modules
from finetune_peft.rates import by_size
from finetune_peft.strategy import PeftStrategy
from finetune_peft.targets import norm_modules


@dataclass(frozen=True, kw_only=True)
class LayerNormStrategy(PeftStrategy):
    """Trains the gains and biases of the normalization layers, and the head; the rest stays frozen.

    Source: Zhao et al. 2023, "Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM Finetuning".
    """

    method: ClassVar[type[LNTuningConfig]] = LNTuningConfig
    trains_sharded: ClassVar[bool] = True

    target_modules: str | tuple[str, ...] | None = None
    """Layers to train: the ends of their names, or a regular expression. None: each module whose class name contains
    `Norm`."""
    modules_to_save: tuple[str, ...] = ()
    """Further modules to train whole, besides the head and what the base model lacks."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `peft.LNTuningConfig`, verbatim."""

    def suggest(self, task: Task, base: Base) -> Suggestion:
        """Return a learning rate by the size of the model."""
        return by_size(
            base, measured=1e-2, published=1e-3, source="Ben Zaken et al. 2022 (BitFit): 1e-4 to 1e-3 for biases"
        )

    def peft_options(self, model: Any, task: Task, *, whole: Collection[str]) -> dict[str, Any]:
        """Return fields of `peft.LNTuningConfig`."""
        excluded = {*whole, *head_modules(model, task.peft_type)}
        targets = self.target_modules
        if targets is None:
            targets = tuple(norm_modules(model, exclude=excluded))
        return {
            "target_modules": list(targets) if isinstance(targets, tuple) else targets,
            "exclude_modules": sorted(excluded) or None,
        }
