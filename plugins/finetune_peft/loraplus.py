"""LoRA+: the matrix B of each update learns faster than A."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from finetune.kit import decay_parameter_names
from finetune_peft.strategy import PeftStrategy

FAST = (".lora_B.", ".lora_embedding_B.")
"""Parts of the names of the parameters that learn faster."""


class LoraPlus(PeftStrategy):
    """A strategy with the option `loraplus_lr_ratio`."""

    loraplus_lr_ratio: float | None

    def __post_init__(self) -> None:
        super().__post_init__()
        ratio = self.loraplus_lr_ratio
        if ratio is not None and not (math.isfinite(ratio) and ratio > 0):
            raise ValueError(f"loraplus_lr_ratio must be a number above 0, not {ratio}.")

    def parameter_groups(self, model: Any, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]] | None:
        """Return the optimizer's groups: A and all else with the learning rate, B with more; None without LoRA+.

        Biases and norms have no weight decay, as the trainer does it.

        Source: Hayou et al. 2024, "LoRA+: Efficient Low Rank Adaptation of Large Models", section 4.
        """
        if self.loraplus_lr_ratio is None:
            return None
        return list(_groups(model, self.loraplus_lr_ratio, learning_rate, weight_decay))


def _groups(model: Any, ratio: float, learning_rate: float, weight_decay: float) -> Iterator[dict[str, Any]]:
    decayed = decay_parameter_names(model)
    members: dict[tuple[bool, bool], list[Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (any(part in name for part in FAST), name in decayed)
            members.setdefault(key, []).append(parameter)
    for (is_fast, decays), parameters in sorted(members.items(), key=lambda item: item[0]):
        yield {
            "params": parameters,
            "lr": learning_rate * (ratio if is_fast else 1),
            "weight_decay": weight_decay if decays else 0.0,
        }
