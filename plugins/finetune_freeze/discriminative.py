"""Discriminative fine-tuning: the learning rate of a layer depends on its depth."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from finetune.interfaces import Strategy, Task
from finetune_freeze import rates
from finetune_freeze.groups import layer_groups


@dataclass(frozen=True, kw_only=True)
class DiscriminativeStrategy(Strategy):
    """Trains every parameter, lower layers at lower learning rates.

    Low layers hold what all texts have in common, and need to change least. The head and newly initialized modules
    train at the full learning rate.

    Source: Howard & Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", section 3.2.
    """

    trains_sharded: ClassVar[bool] = True

    layer_decay: float = 0.9
    """A layer's learning rate as a share of the rate of the layer above. The literature has 0.95 (Sun et al. 2019,
    BERT) to 0.65; ULMFiT, with three layers, has 1 / 2.6."""
    groups: tuple[str | tuple[str, ...], ...] = ()
    """Layer groups to use instead, from the input to the output, each a wildcard of parameter names or several:
    `["*embed*", ["*.layer.0.*", "*.layer.1.*"], "*"]`. Empty: embeddings, each block, and the head."""

    def __post_init__(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay={self.layer_decay} must be more than 0 and at most 1")

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Return the model with `layer_groups` set, and every parameter trainable.

        Raises:
            Incompatible: The order of the model's layers is unknown.
            BadOptions: A pattern of `groups` matches no parameter, or a parameter matches no pattern.
        """
        model.layer_groups = layer_groups(model, newly_initialized=newly_initialized, patterns=self.groups)
        return model.requires_grad_(True)

    def parameter_groups(self, model: Any, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return two optimizer groups for each layer group: with weight decay and, for biases and norms, without."""
        return rates.parameter_groups(
            model, model.layer_groups, decay=self.layer_decay, learning_rate=learning_rate, weight_decay=weight_decay
        )

    def notes(self, model: Any) -> Sequence[str]:
        """Return each group's share of the learning rate."""
        return [f"learning rates: {rates.described(model.layer_groups, decay=self.layer_decay)}"]
