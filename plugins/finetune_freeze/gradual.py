"""Layers thaw one after the other, from the head to the embeddings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from finetune.errors import BadOptions
from finetune.interfaces import Strategy, Task
from finetune_freeze import rates
from finetune_freeze.groups import LayerGroup, layer_groups, listed
from finetune_freeze.unfreeze import Unfreeze

Stage = tuple[LayerGroup, ...]


@dataclass(frozen=True, kw_only=True)
class GradualStrategy(Strategy):
    """Trains the head at first, then one layer more at a time, down to the embeddings.

    So the pretrained layers are not shaken by the errors of a head that knows nothing yet. What was newly initialized trains
    from the first step. Whatever the stage, it is known from the number of the step alone: a run that is resumed goes
    on in the stage in which it stopped.

    Source: Howard & Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", section 3.3.
    """

    every: float | None = None
    """How many epochs, or steps (`unit`), pass before the next group thaws. None: stages are spread evenly over the
    run, so that the last, in which everything trains, is as long as the others."""
    unit: Literal["epochs", "steps"] = "epochs"
    """Of `every`."""
    first: int = 1
    """How many groups train from the first step: 1 is the head (the last block, where the head is tied), 2 the head and
    the last block."""
    embeddings: Literal["last", "always", "never"] = "last"
    """When the first group, the embeddings, trains: after all others, from the first step, or not at all."""
    decay: float = 1.0
    """A layer's learning rate as a share of the one above it, as in `discriminative`; 1 for the same rate."""
    groups: tuple[str | tuple[str, ...], ...] = ()
    """Layer groups of your own, from the input to the output, each a wildcard of parameters' names or several:
    `["*embed*", ["*.layer.0.*", "*.layer.1.*"], "*"]`. Empty: embeddings, each block, and the head."""

    def __post_init__(self) -> None:
        if self.every is not None and self.every <= 0:
            raise ValueError(f"every={self.every} must be more than 0")
        if self.unit == "steps" and self.every is not None and self.every != int(self.every):
            raise ValueError(f"every={self.every} must be a whole number of steps")
        if self.unit == "steps" and self.every is None:
            raise ValueError("unit=steps means nothing without every; name how many")
        if self.first < 1:
            raise ValueError(f"first={self.first} must be at least 1: what trains in the first stage?")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay={self.decay} must be more than 0 and at most 1")

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Return the model with everything trainable that will ever train, and its layer groups beside it.

        Nothing is frozen yet that shall thaw: the optimizer, made later, takes what requires a gradient, and holds on
        to it.

        Raises:
            Incompatible: Its layers have no order that could be found.
            BadOptions: A pattern of `groups` takes nothing, a parameter is taken by none, or there are fewer groups
                than shall train at first.
        """
        model.layer_groups = layer_groups(model, newly_initialized=newly_initialized, patterns=self.groups)
        trains = {name for stage in self.stages(model.layer_groups) for group in stage for name in group.parameters}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trains)
        return model

    def stages(self, groups: Sequence[LayerGroup]) -> list[Stage]:
        """Return what begins to train in each stage.

        Raises:
            BadOptions: There are fewer groups than shall train at first.
        """
        embeddings, *rest = groups
        order = [*reversed(rest), *([embeddings] if self.embeddings == "last" else [])]
        if self.first > len(order):
            raise BadOptions(
                f"strategy: first={self.first}, and there are {len(order)} groups that could train: {listed(order)}."
            )
        always = (embeddings,) if self.embeddings == "always" else ()
        return [(*order[: self.first], *always), *((group,) for group in order[self.first :])]

    def parameter_groups(self, model: Any, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]] | None:
        """Return two groups a layer group if rates differ by depth; else the trainer's usual two are right."""
        if self.decay == 1:
            return None
        return rates.parameter_groups(
            model, model.layer_groups, decay=self.decay, learning_rate=learning_rate, weight_decay=weight_decay
        )

    def callbacks(self) -> Sequence[Any]:
        """Return what freezes, once the optimizer exists, and thaws."""
        return [Unfreeze(stages=lambda model: self.stages(model.layer_groups), every=self.every, unit=self.unit)]

    def notes(self, model: Any) -> Sequence[str]:
        """Return the order in which groups thaw, and their rates where these differ."""
        told = " → ".join(listed(stage) for stage in self.stages(model.layer_groups))
        shares = rates.described(model.layer_groups, decay=self.decay)
        return [f"thaw in this order: {told}", *([f"learning rates: {shares}"] if self.decay != 1 else [])]
