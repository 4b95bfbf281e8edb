"""Every layer trains, each at a rate of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.interfaces import Strategy, Task
from finetune_freeze import rates
from finetune_freeze.groups import layer_groups


@dataclass(frozen=True, kw_only=True)
class DiscriminativeStrategy(Strategy):
    """Trains every parameter, the lower its layer the more slowly.

    Low layers hold what all texts have in common, and need to change least. The head, and what was newly initialized, train
    at the full learning rate.

    Source: Howard & Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", section 3.2.
    """

    decay: float = 0.9
    """A layer's learning rate as a share of the one above it. 0.95 (Sun et al. 2019, BERT) to 0.65 in the literature;
    ULMFiT, with three layers, has 1 / 2.6."""
    groups: tuple[str | tuple[str, ...], ...] = ()
    """Layer groups of your own, from the input to the output, each a wildcard of parameters' names or several:
    `["*embed*", ["*.layer.0.*", "*.layer.1.*"], "*"]`. Empty: embeddings, each block, and the head."""

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay={self.decay} must be more than 0 and at most 1")

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Return the model with every parameter trainable, and its layer groups beside it.

        Raises:
            Incompatible: Its layers have no order that could be found.
            BadOptions: A pattern of `groups` takes nothing, or a parameter is taken by none.
        """
        model.layer_groups = layer_groups(model, newly_initialized=newly_initialized, patterns=self.groups)
        return model.requires_grad_(True)

    def parameter_groups(self, model: Any, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return two groups a layer group: with weight decay and, for biases and norms, without."""
        return rates.parameter_groups(
            model, model.layer_groups, decay=self.decay, learning_rate=learning_rate, weight_decay=weight_decay
        )

    def notes(self, model: Any) -> Sequence[str]:
        """Return each group's share of the learning rate."""
        return [f"learning rates: {rates.described(model.layer_groups, decay=self.decay)}"]
