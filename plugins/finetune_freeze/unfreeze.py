"""Freezes layers when training begins, and thaws them on schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerCallback
from transformers.training_args import ParallelMode

from finetune.errors import BadOptions, Incompatible
from finetune_freeze import schedule
from finetune_freeze.groups import LayerGroup, listed


class Unfreeze(TrainerCallback):
    """Lets gradients reach the groups of the stages that have begun, and no others.

    Frozen here and not before: an optimizer takes what requires a gradient when it is made, and never anything later.
    A parameter without a gradient is left alone by it: neither weight decay nor momentum moves it.
    """

    def __init__(
        self, *, stages: Callable[[Any], Sequence[Sequence[LayerGroup]]], every: float | None, unit: str
    ) -> None:
        self.stages = stages
        self.every = every
        self.unit = unit
        self.begins: list[int] = []
        self.stage: int | None = None

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: Any, train_dataloader: Any, **_: Any
    ) -> None:
        """Work out when each stage begins, and freeze what trains in later ones.

        Raises:
            BadOptions: Some groups would never train, or an epoch has no known length.
            Incompatible: The processes of a distributed run would wait for gradients that never come.
        """
        _check_processes(args, model)
        stages, self.stage = self.stages(model), None
        self.begins = self._schedule(len(stages), args, state, train_dataloader)
        late = [group for begin, stage in zip(self.begins, stages, strict=True) for group in stage
                if begin >= state.max_steps]  # fmt: skip
        if late:
            raise BadOptions(
                f"strategy: every={self.every} {self.unit}: the last of {len(stages)} stages would begin at step "
                f"{self.begins[-1]}, and training ends at step {state.max_steps}. These would never train: "
                f"{listed(late)}. Lower `every`, or leave it out, and stages are spread evenly over the run. What "
                "shall never train is for `frozen`, with its option `train`."
            )
        self._thaw(model, state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        """Thaw what this step is the first to train."""
        self._thaw(model, state.global_step)

    def _schedule(self, stages: int, args: Any, state: Any, loader: Any) -> list[int]:
        if self.every is None:
            return schedule.evenly(stages, steps=state.max_steps)
        if self.unit == "steps":
            return schedule.regularly(stages, every=self.every, steps_per_unit=1)
        try:
            batches = len(loader)
        except TypeError as error:
            raise BadOptions("strategy: these data have no known length. Give `every` in steps.") from error
        steps = -(-batches // args.gradient_accumulation_steps)
        return schedule.regularly(stages, every=self.every, steps_per_unit=steps)

    def _thaw(self, model: Any, step: int) -> None:
        stage = schedule.stage_at(step, self.begins)
        if stage == self.stage:
            return
        self.stage, parameters = stage, dict(model.named_parameters())
        for number, groups in enumerate(self.stages(model)):
            for group in groups:
                for name in group.parameters:
                    parameters[name].requires_grad_(number <= stage)


def _check_processes(args: Any, model: Any) -> None:
    """Check that a distributed run copes with parameters that get no gradient for a while.

    Raises:
        Incompatible: It does not, and would end in an error, or wait for ever.
    """
    if args.parallel_mode != ParallelMode.DISTRIBUTED:
        return
    unused = args.ddp_find_unused_parameters
    checkpoints = model.is_activation_checkpointing or args.activation_checkpointing
    if args.ddp_static_graph or not (unused if unused is not None else not checkpoints):
        raise Incompatible(
            "strategy: with several processes, layers that thaw later need training.ddp_find_unused_parameters: true, "
            "without ddp_static_graph; and that does not go together with activation_checkpointing."
        )
