"""Low-rank updates beside frozen weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from peft import LoraConfig

from finetune.interfaces import Task
from finetune_peft.heads import head
from finetune_peft.strategy import PeftStrategy
from finetune_peft.targets import has_transposed_weights, low_rank


@dataclass(frozen=True, kw_only=True)
class LoraStrategy(PeftStrategy):
    """Trains two thin matrices beside each chosen weight, and the head; the rest stays as it is.

    The options are those of `peft.LoraConfig`, by its names.

    Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
    """

    method: ClassVar[type[LoraConfig]] = LoraConfig

    r: int = 8
    """Rank of the update: columns of the thin matrices."""
    lora_alpha: float = 16
    """Scale of the update: it is multiplied by `lora_alpha / r`."""
    lora_dropout: float = 0.0
    """Dropout before the update."""
    target_modules: str | tuple[str, ...] | None = None
    """Modules to update: ends of their names, a regular expression, or `all-linear`; None for PEFT's choice for the
    model (queries and values of the attention, mostly)."""
    use_dora: bool = False
    """DoRA: the length of each weight's columns trains apart from their direction, which the matrices turn.
    Source: Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation"."""
    use_rslora: bool = False
    """rsLoRA: the scale is `lora_alpha / sqrt(r)`, so that a high rank is not scaled away.
    Source: Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA"."""
    modules_to_save: tuple[str, ...] = ()
    """Modules to train whole, beside the head and whatever the base model lacks."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `peft.LoraConfig`, verbatim: `{bias: lora_only}`."""

    def options(self, model: Any, task: Task, *, whole: Collection[str]) -> dict[str, Any]:
        """Return fields of `peft.LoraConfig`."""
        given: Any = self.target_modules
        if given is None and "target_parameters" not in self.config:
            given = low_rank(model)
        return {
            "r": self.r,
            "lora_alpha": self.lora_alpha,
            "lora_dropout": self.lora_dropout,
            "target_modules": list(given) if isinstance(given, tuple) else given,
            "use_dora": self.use_dora,
            "use_rslora": self.use_rslora,
            "exclude_modules": sorted({*whole, *head(model, task.peft_type)}) or None,
            "fan_in_fan_out": has_transposed_weights(model),
        }
