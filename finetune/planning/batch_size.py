"""Choose the batch size of `training.batch: auto`: by the computed memory of a step, and by one real trial.

The trial loads the model as the run does, and makes two steps with the longest rows: the second one has the state of
the optimizer, as all later ones have. Then the model is dropped, and the run loads its own, so nothing of the trial
stays.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import set_seed

from finetune import failures, models, processes, teachers
from finetune import run as runs
from finetune.data import storage
from finetune.data.preparation import Prepared
from finetune.errors import BadOptions, Incompatible, OutOfMemory
from finetune.planning import batches, machine
from finetune.planning.activations import GpuKernels
from finetune.planning.computed import needs_of
from finetune.planning.step import StepModel
from finetune.plugins import resolve
from finetune.progress import Reporter
from finetune.training import auto_batch
from finetune.training import trainer as training
from finetune.user_code import first_line

SHARE = 0.9
"""Share of the free memory that a run may take. The rest is for what a step does not show, such as the gaps between the
blocks of an allocator, and other programs."""
ON_CPU = 1.25
"""What a step takes on a CPU for each computed byte: with MiniLM and 1 to 64 rows, 1.07 to 1.24 were measured. The
libraries of a CPU take room for their own use, and the system ends a process that takes too much."""
STEPS = 2
"""Steps of a trial; see the docstring of the module."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The batch size of a run."""

    size: int
    """Rows of a batch."""
    rows: int
    """Rows of a step."""
    why: str
    """What was chosen and why, in one line."""


def settle(prepared: Prepared, choice: Choice) -> Prepared:
    """Return a run with the chosen batch size in its recipe instead of ``batch: auto``."""
    return _with_training(
        prepared, auto_batch.divided(prepared.plan.recipe.training, size=choice.size, rows=choice.rows)
    )


def choose(prepared: Prepared, reporter: Reporter) -> Choice:
    """Choose the largest batch for which the memory is enough.

    Only sizes that divide the rows of a step are possible. Those that need too much by the computed memory are left
    out; the largest of the others is tried, and the next one if the memory was not enough.

    Args:
        prepared: The run. Its recipe has ``batch: auto``.
        reporter: Shows the progress.

    Raises:
        BadOptions: Several processes train.
        OutOfMemory: The memory is not enough for one row.
        Incompatible: Neither the memory can be computed, nor is there a GPU, whose library says when it is full.
    """
    auto_batch.refuse_processes(processes.count())
    given = {**prepared.plan.task.training, **prepared.plan.recipe.training}
    rows = auto_batch.rows_of_a_step(given)
    free = machine.free_memory()
    room = int(free * SHARE)
    possible = [size for size in auto_batch.sizes(rows) if _is_allowed(prepared, size, rows)]
    with reporter.phase("compute the memory of a step"):
        needs = _computed(prepared, possible, rows=rows, room=room)
    refused = [f"{size} needs {_gib(needed)}, computed" for size, needed in needs.items() if needed > room]
    for size in possible:
        if needs.get(size, 0) > room:
            continue
        with reporter.phase(f"try a batch of {size} rows"):
            found = _try(prepared, size=size, rows=rows, room=room)
        if not found.problem:
            return Choice(size=size, rows=rows, why=_why(size, rows, found, refused=refused, free=free))
        refused.append(f"{size} was tried: {found.problem}")
    raise OutOfMemory(
        f"training: 'batch: auto': the memory is not enough for one row of {_longest(prepared)} tokens: "
        f"{'; '.join(refused[-2:])}; free are {_gib(free)}. Lower the preprocessor's max_length, set "
        "gradient_checkpointing, or take a strategy such as lora."
    )


def _why(size: int, rows: int, found: _Trial, *, refused: list[str], free: int) -> str:
    """Return what was chosen and why, in one line."""
    took = f"took {_gib(found.took)} of {_gib(free)} free" if found.took else "was possible"
    largest = f"; {refused[-1]}" if refused else f"; all {rows} rows of a step fit at once"
    return (
        f"batch: auto: per_device_train_batch_size {size} × gradient_accumulation_steps {rows // size} = {rows} rows a "
        f"step: a trial with the longest rows {took}{largest}"
    )


def _is_allowed(prepared: Prepared, size: int, rows: int) -> bool:
    """Return whether the task takes a batch size: some need several rows at a time."""
    task = prepared.plan.task
    if task.check_training is None:
        return True
    options = auto_batch.divided(prepared.plan.recipe.training, size=size, rows=rows)
    try:
        resolve(task.check_training)(task, options)
    except BadOptions:
        return False
    return True


def _computed(prepared: Prepared, possible: list[int], *, rows: int, room: int) -> dict[int, int]:
    """Return the computed memory of each size, the largest first, until one fits.

    Raises:
        Incompatible: It cannot be computed, and there is no GPU: the system ends a process whose memory is full.
    """
    found: dict[int, int] = {}
    with_gpu = torch.cuda.is_available()
    try:
        model = StepModel(_with_training(prepared, auto_batch.without(prepared.plan.recipe.training)))
        kernels = None if with_gpu else GpuKernels(model.autocast, fused=False)
        for size in possible:
            model.accumulated = rows // size
            total = needs_of(model, rows=size, gpus=1, kernels=kernels).total
            found[size] = total if with_gpu else int(total * ON_CPU)
            if found[size] <= room:
                break
    except (Incompatible, BadOptions) as error:
        if with_gpu:
            return {}
        raise Incompatible(
            f"training: 'batch: auto': {error} Or write {auto_batch.SIZE} and {auto_batch.ACCUMULATED}."
        ) from error
    return found


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """What a trial of a batch size showed."""

    problem: str = ""
    """Why it does not fit; empty if it does."""
    took: int | None = None
    """Bytes of memory; None if this system does not say."""


def _try(prepared: Prepared, *, size: int, rows: int, room: int) -> _Trial:
    """Make a few steps with the longest rows, and drop everything that belongs to them."""
    problem, peak = "", machine.Peak()
    scratch = storage.folder()
    try:
        with models.suppress_output(), training.preserve_rng_state():
            _train(prepared, size=size, rows=rows, output=scratch)
    except Exception as error:
        if not failures.is_out_of_memory(error):
            raise
        problem = first_line(error)[:120].rstrip(".")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    took = peak.bytes()
    gc.collect()  # the model and the trainer refer to each other
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if not problem and took is not None and took > room:
        problem = f"it took {_gib(took)}, and {_gib(room)} may be taken"
    return _Trial(problem=problem, took=took)


def _train(prepared: Prepared, *, size: int, rows: int, output: Path) -> None:
    """Make the steps of a trial, with a model and a trainer of its own."""
    settled = _with_training(prepared, auto_batch.divided(prepared.plan.recipe.training, size=size, rows=rows))
    plan = settled.plan
    settled = replace(settled, plan=replace(plan, recipe=replace(plan.recipe, output=str(output))))
    set_seed(plan.recipe.seed)
    job = runs.make_job(settled, runs.load_model(settled), Reporter())
    loaded = teachers.load(settled, job.model, longest_target=runs.longest_target(settled))
    job = teachers.with_teacher(job, loaded)
    accumulated = min(rows // size, 2)  # the second batch of a step finds the gradients of the first
    options = {**job.arguments, "report_to": "none", "dataloader_num_workers": 0}
    # Without the callbacks of the strategy all that it may unfreeze later trains, which needs the most memory.
    job = replace(job, arguments={**options, auto_batch.ACCUMULATED: accumulated}, callbacks=[])
    trainer = resolve(plan.task.trainer)(job)
    whole = trainer.train_dataset
    if len(whole) == len(settled.features["train"].features):
        inputs, targets = batches.row_lengths(job)
        longest = np.argsort(-(inputs + targets), kind="stable")[:size].tolist()
        longest = [longest[place % len(longest)] for place in range(size)]
        trainer.train_dataset = whole.select(longest * (accumulated * STEPS))
    arguments = trainer.args
    arguments.max_steps, arguments.load_best_model_at_end = STEPS, False
    arguments.train_sampling_strategy = "sequential"
    arguments.eval_strategy = arguments.save_strategy = arguments.logging_strategy = "no"
    arguments.eval_on_start = False
    trainer.train()


def _with_training(prepared: Prepared, options: Mapping[str, Any]) -> Prepared:
    plan = prepared.plan
    return replace(prepared, plan=replace(plan, recipe=replace(plan.recipe, training=dict(options))))


def _longest(prepared: Prepared) -> int:
    part = prepared.features["train"].features
    return max(max(prepared.plan.preprocessor.lengths(block)) for block in part.iter(1000))


def _gib(count: int) -> str:
    """Return bytes as text.

    >>> _gib(3 * 2**29), _gib(300 * 2**20)
    ('1.50 GiB', '300 MiB')
    """
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.3g} MiB"
