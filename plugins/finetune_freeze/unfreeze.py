"""Gradual unfreezing: when each stage begins, and the callback that freezes and unfreezes layers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil
from typing import Any

from transformers import TrainerCallback
from transformers.training_args import ParallelMode

from finetune.errors import BadOptions, Incompatible
from finetune_freeze.groups import LayerGroup, join_names

Stages = Sequence[Sequence[LayerGroup]]
"""The groups that begin to train in each stage."""


def even_schedule(stages: int, *, steps: int) -> list[int]:
    """Return the first step of each stage, so that all stages are equally long.

    >>> even_schedule(4, steps=10)
    [0, 2, 5, 7]

    Source: Raffel et al. 2020, section 3.5.1 ("episodes" of equal length).
    """
    return [stage * steps // stages for stage in range(stages)]


def interval_schedule(stages: int, *, interval: float, steps_per_unit: int) -> list[int]:
    """Return the first step of each stage, if one begins every `interval` units; a unit is a step or an epoch.

    >>> interval_schedule(3, interval=0.5, steps_per_unit=12)
    [0, 6, 12]

    Source: Howard & Ruder 2018, section 3.3, where one layer is unfrozen in each epoch.
    """
    length = Fraction(str(interval)) * steps_per_unit  # exact: as floats, 3 × 0.1 is more than 0.3
    return [ceil(stage * length) for stage in range(stages)]


def stage_at(step: int, begins: Sequence[int]) -> int:
    """Return the stage that a step belongs to; the first is 0.

    >>> [stage_at(step, [0, 2, 5]) for step in range(6)]
    [0, 0, 1, 1, 1, 2]
    """
    return bisect_right(begins, step) - 1


class Unfreeze(TrainerCallback):
    """Trains the groups of the stages that have begun, and freezes all others.

    It freezes when training begins, not earlier: an optimizer takes the parameters that require a gradient when it is
    made, and adds none later. It skips a parameter without a gradient, so neither weight decay nor momentum changes it.
    """

    def __init__(self, *, stages: Callable[[Any], Stages], interval: float | None, interval_unit: str) -> None:
        self.stages = stages
        self.interval = interval
        self.interval_unit = interval_unit
        self.begins: list[int] = []
        self.stage: int | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Compute when each stage begins, and freeze the groups of later stages.

        Raises:
            BadOptions: Some groups would never train, or the length of an epoch is unknown.
            Incompatible: The processes of a distributed run would wait for gradients that never come.
        """
        model = kwargs["model"]
        _check_distributed(args, model)
        stages = self.stages(model)
        self.stage = None
        self.begins = self._schedule(len(stages), args, state, kwargs["train_dataloader"])
        self._check_all_train(stages, state.max_steps)
        self._unfreeze(model, state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Unfreeze the groups whose stage begins with this step."""
        self._unfreeze(kwargs["model"], state.global_step)

    def _schedule(self, stages: int, args: Any, state: Any, loader: Any) -> list[int]:
        if self.interval is None:
            return even_schedule(stages, steps=state.max_steps)
        if self.interval_unit == "steps":
            return interval_schedule(stages, interval=self.interval, steps_per_unit=1)
        try:
            batches = len(loader)
        except TypeError as error:
            raise BadOptions(
                "strategy: interval: the length of these data is unknown. Set strategy.interval_unit: steps."
            ) from error
        steps_per_epoch = ceil(batches / args.gradient_accumulation_steps)
        return interval_schedule(stages, interval=self.interval, steps_per_unit=steps_per_epoch)

    def _check_all_train(self, stages: Stages, steps: int) -> None:
        never: list[LayerGroup] = []
        for begin, groups in zip(self.begins, stages, strict=True):
            if begin >= steps:
                never.extend(groups)
        if never:
            raise BadOptions(
                f"strategy: interval={self.interval} {self.interval_unit}: the last of {len(stages)} stages would "
                f"begin at step {self.begins[-1]}, and training ends at step {steps}. These groups would never train: "
                f"{join_names(never)}. Lower `interval`, or leave it out: the stages are then spread evenly over the "
                "run. To keep layers frozen, use `frozen` with its option `unfrozen_parameters`."
            )

    def _unfreeze(self, model: Any, step: int) -> None:
        stage = stage_at(step, self.begins)
        if stage == self.stage:
            return
        self.stage = stage
        parameters = dict(model.named_parameters())
        for number, groups in enumerate(self.stages(model)):
            for group in groups:
                for name in group.parameters:
                    parameters[name].requires_grad_(number <= stage)


def _check_distributed(args: Any, model: Any) -> None:
    """Check that a distributed run accepts parameters that get no gradient for some steps.

    Raises:
        Incompatible: It does not: it would stop with an error, or wait for ever.
    """
    if args.parallel_mode != ParallelMode.DISTRIBUTED:
        return
    finds_unused = args.ddp_find_unused_parameters
    if finds_unused is None:  # the default of transformers' Trainer
        finds_unused = not (model.is_activation_checkpointing or args.activation_checkpointing)
    if args.ddp_static_graph or not finds_unused:
        raise Incompatible(
            "strategy: with several processes, layers that are unfrozen later need "
            "training.ddp_find_unused_parameters: true and no ddp_static_graph. This does not work together with "
            "activation_checkpointing."
        )
