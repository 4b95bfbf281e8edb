"""Gradual unfreezing: layers begin to train one after the other, from the head to the embeddings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from finetune.errors import BadOptions
from finetune.interfaces import Base, Strategy, Suggestion, Task
from finetune_freeze import rates
from finetune_freeze.groups import LayerGroup, join_names, layer_groups
from finetune_freeze.unfreeze import Unfreeze

Stage = tuple[LayerGroup, ...]


@dataclass(frozen=True, kw_only=True)
class GradualStrategy(Strategy):
    """Trains the head first, then one more layer at a time, down to the embeddings.

    The large errors of an untrained head thus do not reach the pretrained layers. Newly initialized modules train from
    the first step. The stage depends only on the number of the step, so a resumed run continues in the same stage.

    Source: Howard & Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", section 3.3.
    """

    # layers that are unfrozen later need DDP to find unused parameters, which excludes it
    trains_with_activation_checkpointing: ClassVar[bool] = False
    interval: float | None = None
    """How many epochs, or steps (`interval_unit`), pass before the next group is unfrozen. None: the stages are spread
    evenly over the run, so that the last, in which everything trains, is as long as the others."""
    interval_unit: Literal["epochs", "steps"] = "epochs"
    """The unit of `interval`."""
    initial_groups: int = 1
    """How many groups train from the first step: 1 is the head (the last block, if the head is tied), 2 the head and
    the last block."""
    embeddings: Literal["last", "always", "never"] = "last"
    """When the first group, the embeddings, trains: after all others, from the first step, or not at all."""
    layer_decay: float = 1.0
    """A layer's learning rate as a share of the rate of the layer above, as in `discriminative`; 1 for equal rates."""
    groups: tuple[str | tuple[str, ...], ...] = ()
    """Layer groups to use instead, from the input to the output, each a wildcard of parameter names or several:
    `["*embed*", ["*.layer.0.*", "*.layer.1.*"], "*"]`. Empty: embeddings, each block, and the head."""

    def __post_init__(self) -> None:
        interval, unit = self.interval, self.interval_unit
        if interval is not None and interval <= 0:
            raise ValueError(f"interval={interval} must be more than 0")
        if unit == "steps" and interval is not None and interval != int(interval):
            raise ValueError(f"interval={interval} must be a whole number of steps")
        if unit == "steps" and interval is None:
            raise ValueError("interval_unit=steps needs interval; set how many steps")
        if self.initial_groups < 1:
            raise ValueError(f"initial_groups={self.initial_groups} must be at least 1, or nothing trains at first")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay={self.layer_decay} must be more than 0 and at most 1")

    def suggest(self, task: Task, base: Base) -> Suggestion:
        """Return three times the learning rate of full fine-tuning, because each layer trains for a part of the run."""
        source = f"three times that of full fine-tuning, which is {base.learning_rate:g}: {base.source}"
        return Suggestion(training={"learning_rate": 3 * base.learning_rate}, source=source)

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Return the model with `layer_groups` set, and every parameter trainable that will train at some time.

        Groups of later stages are not frozen yet: the optimizer, made later, takes the parameters that require a
        gradient, and adds none afterwards.

        Raises:
            Incompatible: The order of the model's layers is unknown.
            BadOptions: A pattern of `groups` matches no parameter, a parameter matches no pattern, or there are fewer
                groups than `initial_groups`.
        """
        model.layer_groups = layer_groups(model, newly_initialized=newly_initialized, patterns=self.groups)
        trainable: set[str] = set()
        for stage in self.stages(model.layer_groups):
            for group in stage:
                trainable.update(group.parameters)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trainable)
        return model

    def stages(self, groups: Sequence[LayerGroup]) -> list[Stage]:
        """Return the groups that begin to train in each stage.

        Raises:
            BadOptions: There are fewer groups than `initial_groups`.
        """
        embeddings, *rest = groups
        order = list(reversed(rest))
        if self.embeddings == "last":
            order.append(embeddings)
        if self.initial_groups > len(order):
            raise BadOptions(
                f"strategy: initial_groups={self.initial_groups}, and there are {len(order)} groups that could train: "
                f"{join_names(order)}."
            )
        first = order[: self.initial_groups]
        if self.embeddings == "always":
            first.append(embeddings)
        return [tuple(first), *((group,) for group in order[self.initial_groups :])]

    def parameter_groups(self, model: Any, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]] | None:
        """Return two optimizer groups for each layer group if rates depend on the depth, else None."""
        if self.layer_decay == 1:
            return None
        return rates.parameter_groups(
            model, model.layer_groups, decay=self.layer_decay, learning_rate=learning_rate, weight_decay=weight_decay
        )

    def check_streaming(self) -> None:
        """Check that the interval does not count epochs.

        Raises:
            BadOptions: It does.
        """
        if self.interval is not None and self.interval_unit == "epochs":
            raise BadOptions(
                "strategy: interval counts epochs, and a stream has none. Set strategy.interval_unit: steps, or leave "
                "interval out."
            )

    def callbacks(self) -> Sequence[Any]:
        """Return the callback that freezes, once the optimizer exists, and unfreezes."""
        return [Unfreeze(stages=self._stages_of, interval=self.interval, interval_unit=self.interval_unit)]

    def _stages_of(self, model: Any) -> list[Stage]:
        return self.stages(model.layer_groups)

    def notes(self, model: Any) -> Sequence[str]:
        """Return the order in which groups are unfrozen, and their rates if these differ."""
        order = " → ".join(join_names(stage) for stage in self.stages(model.layer_groups))
        notes = [f"order of unfreezing: {order}"]
        if self.layer_decay != 1:
            notes.append(f"learning rates: {rates.described(model.layer_groups, decay=self.layer_decay)}")
        return notes
