"""Prefix tuning: learned keys and values before those of the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from peft import PrefixTuningConfig

from finetune.interfaces import Base, Suggestion, Task
from finetune_peft.rates import by_size
from finetune_peft.virtual import VirtualTokensStrategy, encode_prefix_once, encoder_width


@dataclass(frozen=True, kw_only=True)
class PrefixStrategy(VirtualTokensStrategy):
    """Trains keys and values of virtual tokens, to which every layer attends before the text, and the head.

    Source: Li and Liang 2021, "Prefix-Tuning: Optimizing Continuous Prompts for Generation".
    """

    method: ClassVar[type[PrefixTuningConfig]] = PrefixTuningConfig
    trains_with_activation_checkpointing: ClassVar[bool] = False  # it switches off the cache that holds the prefix

    prefix_projection: bool = False
    """Make keys and values with a network of two layers, which trains in their place and is not saved. Training starts
    more steadily, with many more trainable parameters."""
    encoder_hidden_size: int | None = None
    """Inner width of that network; None for the model's hidden size."""
    init_weights: Literal["zero"] | None = None
    """Start from zeros; None for random values."""

    def suggest(self, task: Task, base: Base) -> Suggestion:
        """Return a learning rate by the size of the model."""
        return by_size(base, measured=3e-2, published=1e-2, source="Liu et al. 2022 (P-tuning v2): 5e-3 to 1e-2")

    def method_options(self, model: Any) -> dict[str, Any]:
        """Return fields of `peft.PrefixTuningConfig`."""
        return {
            "prefix_projection": self.prefix_projection,
            "encoder_hidden_size": encoder_width(model, self.encoder_hidden_size),
            "init_weights": self.init_weights,
        }

    def patch(self, model: Any) -> Any:
        """Make the model compute its prefix once a batch."""
        return encode_prefix_once(model)
