"""LoRA: low-rank updates of frozen weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from peft import LoraConfig

from finetune.interfaces import Base, Suggestion, Task
from finetune_peft.heads import head_modules
from finetune_peft.loraplus import LoraPlus
from finetune_peft.rates import ten_times
from finetune_peft.targets import has_transposed_weights, lora_targets


@dataclass(frozen=True, kw_only=True)
class LoraStrategy(LoraPlus):
    """Trains a low-rank update of each chosen weight, and the head; the rest stays frozen.

    The options have the names of `peft.LoraConfig`.

    Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
    """

    memory_rank: ClassVar[int] = 1
    method: ClassVar[type[LoraConfig]] = LoraConfig
    trains_sharded: ClassVar[bool] = True

    r: int = 8
    """Rank of the update."""
    lora_alpha: float = 16
    """Scale of the update: it is multiplied by `lora_alpha / r`."""
    lora_dropout: float = 0.0
    """Dropout before the update."""
    target_modules: str | tuple[str, ...] | None = None
    """Modules to update: the ends of their names, a regular expression, or `all-linear`. None: PEFT's choice for the
    model, mostly queries and values of the attention."""
    use_dora: bool = False
    """DoRA: magnitude and direction of each weight's columns train separately; the update changes the direction.
    Source: Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation"."""
    use_rslora: bool = False
    """rsLoRA: the scale is `lora_alpha / sqrt(r)`, so that updates of a high rank are not scaled down too much.
    Source: Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA"."""
    loraplus_lr_ratio: float | None = None
    """LoRA+: how many times the learning rate of A is that of B, such as 16. None: both have the same.
    Source: Hayou et al. 2024, "LoRA+: Efficient Low Rank Adaptation of Large Models"."""
    modules_to_save: tuple[str, ...] = ()
    """Further modules to train whole, besides the head and what the base model lacks."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `peft.LoraConfig`, verbatim: `{bias: lora_only}`."""

    def suggest(self, task: Task, base: Base) -> Suggestion:
        """Return ten times the learning rate of full fine-tuning."""
        return ten_times(base)

    def search_space(self) -> Mapping[str, Any]:
        """Return the ranks around the default. Hu et al. 2021, table 6: a rank of 4 to 64 is often enough."""
        return {"r": [4, 8, 16, 32]}

    def peft_options(self, model: Any, task: Task, *, whole: Collection[str]) -> dict[str, Any]:
        """Return fields of `peft.LoraConfig`."""
        targets: Any = self.target_modules
        if targets is None and "target_parameters" not in self.config:
            targets = lora_targets(model)
        excluded = {*whole, *head_modules(model, task.peft_type)}
        return {
            "r": self.r,
            "lora_alpha": self.lora_alpha,
            "lora_dropout": self.lora_dropout,
            "target_modules": list(targets) if isinstance(targets, tuple) else targets,
            "use_dora": self.use_dora,
            "use_rslora": self.use_rslora,
            "exclude_modules": sorted(excluded) or None,
            "fan_in_fan_out": has_transposed_weights(model),
        }
