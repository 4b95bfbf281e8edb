"""Plan a run: what it needs on this machine, measured, or on another, computed.

`plan` returns a `RunPlan`. Nothing here imports torch before it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.planning.measured import Measured, MeasuredBucket, Times

if TYPE_CHECKING:
    from finetune.planning.computed import Computed
    from finetune.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run needs."""

    measured: Measured | None = None
    """On this machine; None if another one was named."""
    computed: Computed | None = None
    """On the GPUs that were named; None if none was."""


def plan(recipe: str | Path | Recipe, *, gpu: str | None = None, gpus: int = 1, quiet: bool = True) -> RunPlan:
    """Say what a run needs, before it is started: time, memory and room on the disk.

    Without `gpu`, a few real steps are measured on this machine, in a process of its own. With it, the memory on such
    GPUs is computed from the configuration of the model and the lengths of the data; no weights are loaded.

    Args:
        recipe: Path of a YAML file, or a `Recipe`.
        gpu: A name of `finetune.planning.devices.GPUS`: ``"h100-80gb"``.
        gpus: How many of them.
        quiet: Whether to show no progress.

    Raises:
        FinetuneError: The recipe, the data or the model cannot be used.
        BadOptions: The recipe divides the weights, and not several GPUs are named; or train is a stream, and no GPU is
            named.
        OutOfMemory: This machine has not enough memory for a step.
    """
    from finetune import recipe as recipes
    from finetune.errors import BadOptions

    read = recipe if isinstance(recipe, recipes.Recipe) else recipes.read(recipe)
    if read.training.get("fsdp") and (gpu is None or gpus == 1):
        raise BadOptions(
            "training: 'fsdp' divides the weights among several processes, and a plan measures one. Name the GPUs, and "
            "their memory is computed: --gpu l4-24gb --gpus 4."
        )
    if gpu is None and read.dataset.streaming:
        raise BadOptions(
            "dataset.streaming: the lengths of the batches of a stream are not known before they are read. Plan "
            "without streaming and shuffle_buffer, and with a dataset.limit. Or name a GPU, and its memory is computed "
            "(--gpu)."
        )
    if gpu is None:
        from finetune.planning import child

        return RunPlan(measured=child.measure(read, quiet=quiet))
    from finetune import plan as plans
    from finetune.data.preparation import prepare
    from finetune.planning import computed, devices
    from finetune.plugins import discover
    from finetune.progress import Console, Reporter

    devices.find(gpu)
    prepared = prepare(plans.make(read, discover()), reporter=Reporter() if quiet else Console())
    return RunPlan(computed=computed.compute(prepared, gpu=gpu, gpus=gpus))


def as_json(planned: RunPlan) -> dict[str, Any]:
    """Return a plan as JSON can hold it, with the total of the computed memory."""
    from dataclasses import asdict

    content: dict[str, Any] = asdict(planned)
    if planned.computed is not None:
        needs: Mapping[str, Any] = content["computed"]["needs"]
        content["computed"]["needs"] = {**needs, "total": planned.computed.needs.total}
    return content


__all__ = ["Measured", "MeasuredBucket", "RunPlan", "Times", "as_json", "plan"]
