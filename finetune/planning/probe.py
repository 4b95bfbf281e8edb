"""Measure what a run needs on this machine: a few real steps of its own trainer, an evaluation, a checkpoint.

The run is the real one as far as it goes: the same data, model, trainer, collator, optimizer and options. Only the
order of the batches is another, and the run folder is a temporary one that is deleted.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback, TrainerCallback, set_seed

from finetune import failures, models
from finetune import run as runs
from finetune.data import storage
from finetune.data.features import Features
from finetune.data.preparation import Prepared, prepare
from finetune.errors import Incompatible, NoRoom
from finetune.evaluation.scoring import sample
from finetune.evaluation.verdicts import TRAIN_SAMPLE
from finetune.interfaces import Job
from finetune.plan import Plan
from finetune.planning import batch_size, batches, machine
from finetune.planning.measured import Measured, MeasuredBucket, Times
from finetune.plugins import resolve
from finetune.progress import Reporter
from finetune.training import auto_batch, callbacks
from finetune.training import trainer as training

WARM_UP = 2
"""Steps before the measured ones: the first step makes the state of the optimizer, and each library starts slowly."""
PATIENCE = 60.0
"""Seconds after which no bucket is measured a second time."""
NATURAL = 6
"""Steps that are measured if the trainer draws its own batches."""
AVERAGE = batches.Step(batches=(), tokens=1, largest=1, longest=0)
"""A step of such a trainer."""
EVALUATED = (16, 64)
"""Examples of a split that are predicted: first a few, then more if that was fast."""
FAST = 5.0
"""Seconds that count as fast."""


def measure(plan: Plan, *, reporter: Reporter) -> Measured:
    """Measure time, memory and sizes on this machine.

    Raises:
        FinetuneError: The recipe, the data or the model cannot be used; everything that `finetune.run.run` refuses
            before the first step.
    """
    scratch = storage.folder()
    try:
        return _measure(replace(plan, recipe=replace(plan.recipe, output=str(scratch))), reporter)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _measure(plan: Plan, reporter: Reporter) -> Measured:
    prepared, preparing = _timed(lambda: prepare(plan, reporter=reporter))
    chosen: list[str] = []
    with models.suppress_output():
        if auto_batch.is_on(plan.recipe.training):
            choice = batch_size.choose(prepared, reporter)
            prepared, chosen = batch_size.settle(prepared, choice), [choice.why]
            machine.Peak()  # the memory of the trials is not that of the run
        before = resident_memory()
        with reporter.phase("load the model"):
            (ready, _), loading = _timed(lambda: runs.prepare_training(prepared, reporter))
        quiet = {**ready.job.arguments, "report_to": "none"}  # trackers show runs, not their plans
        trainer = resolve(plan.task.trainer)(replace(ready.job, arguments=quiet))
        parts = {split: part.features for split, part in prepared.features.items()}
        training.try_forward(trainer, parts, ready.job)
        with reporter.phase("draw the batches of an epoch"):
            epochs, arranged = _steps(trainer, ready.job)
        if not arranged:  # the sizes of the batches are not known, so each step is an average one
            epochs = [[AVERAGE] * len(steps) for steps in epochs]
        planned = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())[-1]
        evaluations = _occasions(trainer, "eval", planned, len(epochs[0]))
        saves = _occasions(trainer, "save", planned, len(epochs[0]))
        scoring = _evaluation(prepared, ready.job, trainer, reporter)
        with reporter.phase("measure steps"), callbacks.stopping_cleanly(trainer):
            watch = _train(trainer, ready.job, epochs[0] if arranged else None, output=Path(plan.recipe.output))
        saving = Times()
        with reporter.phase("save, reload and compare"):
            model = runs.room(ready.job.model, ready.job.arguments)["model"]
            if _has_room(Path(plan.recipe.output), model):
                _, saving = _timed(lambda: runs.save(prepared, ready.job, trainer))
    points = [(bucket.tokens, bucket.times) for bucket in watch.buckets]
    per_epoch = [_total(steps, points) for steps in epochs]
    one_epoch = _mean(per_epoch)
    held_out = {split: times for split, times in scoring.items() if split != "train"}
    one_evaluation = held_out.get("validation", Times())
    everything = _sum(list(held_out.values()))
    steps_alone = one_epoch * (planned / len(epochs[0]))
    trained = _sum([steps_alone, one_evaluation * evaluations, watch.saving * saves])
    base = everything if plan.recipe.score_base_model else Times()
    whole = _sum([preparing, loading, base, trained, saving, everything, scoring.get("train", Times())])
    return Measured(
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        steps=planned,
        steps_per_epoch=len(epochs[0]),
        buckets=tuple(watch.buckets),
        step=one_epoch * (1 / len(epochs[0])),
        epoch=one_epoch,
        evaluation=one_evaluation,
        evaluations=evaluations,
        checkpoint=watch.saving,
        checkpoints=saves,
        training=trained,
        run=whole,
        memory_before_model=before,
        peak_memory=peak_memory(),
        peak_gpu_memory=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        checkpoint_bytes=watch.checkpoint_bytes or runs.room(ready.job.model, ready.job.arguments)["checkpoint"],
        checkpoint_is_measured=bool(watch.checkpoint_bytes),
        model_bytes=model,
        trainable_parameters=ready.trainable,
        total_parameters=ready.total,
        notes=(*chosen, *ready.notes, *_notes(plan, arranged=arranged)),
    )


def _notes(plan: Plan, *, arranged: bool) -> list[str]:
    """Return what makes the figures less certain."""
    notes = []
    if plan.strategy.callbacks():
        notes.append("the strategy can change what trains during the run; the figures are those of its first steps")
    if not arranged:
        notes.append("the trainer of this task draws its own batches, so the figures are those of its first batches")
    if plan.task.generates:
        notes.append("the time of an evaluation is that of the base model, which may write longer texts")
    return notes


def _timed(work: Any) -> tuple[Any, Times]:
    """Return what a function returns, and the time that it took."""
    begun = Times.now()
    result = work()
    return result, Times.now() - begun


def _sum(parts: Sequence[Times]) -> Times:
    total = Times()
    for part in parts:
        total = total + part
    return total


def _mean(parts: Sequence[Times]) -> Times:
    return _sum(parts) * (1 / len(parts))


def _total(steps: Sequence[batches.Step], points: Sequence[tuple[float, Times]]) -> Times:
    """Return the time of steps from that of the buckets."""
    return Times(
        seconds=batches.total_seconds(steps, [(tokens, times.seconds) for tokens, times in points]),
        cpu_seconds=batches.total_seconds(steps, [(tokens, times.cpu_seconds) for tokens, times in points]),
    )


def _steps(trainer: Any, job: Job) -> tuple[list[list[batches.Step]], bool]:
    """Return the steps of a few epochs, and whether the trainer can take the rows in the order of its data set."""
    accumulated = trainer.args.gradient_accumulation_steps
    lengths = batches.row_lengths(job)
    loader = trainer.get_train_dataloader()
    if getattr(loader, "batch_sampler", None) is None:
        raise Incompatible(
            "the trainer of this task has no batch sampler, so how long its batches are is not known before they are "
            "drawn."
        )
    epochs = batches.sampled(loader, epochs=trainer.args.num_train_epochs)
    steps = [batches.steps_of(drawn, lengths, accumulated=accumulated) for drawn in epochs]
    strategy, trainer.args.train_sampling_strategy = trainer.args.train_sampling_strategy, "sequential"
    in_order = [row for rows in trainer.get_train_dataloader().batch_sampler for row in rows]
    trainer.args.train_sampling_strategy = strategy
    return steps, in_order == list(range(len(trainer.train_dataset)))


def _occasions(trainer: Any, what: str, steps: int, per_epoch: int) -> int:
    """Return how often a run evaluates, or saves, while it trains.

    Args:
        trainer: Its arguments say when.
        what: ``"eval"`` or ``"save"``.
        steps: All steps of the run.
        per_epoch: Steps of an epoch.
    """
    strategy = str(getattr(trainer.args, f"{what}_strategy").value)
    if strategy == "best":  # at most after each evaluation
        return _occasions(trainer, "eval", steps, per_epoch)
    if strategy == "epoch":
        return -(-steps // per_epoch)
    if strategy == "steps":
        every = getattr(trainer.args, f"{what}_steps") or trainer.args.logging_steps
        every = max(round(every * steps), 1) if every < 1 else int(every)
        at_the_end = what == "save" and steps % every != 0  # transformers saves after the last step, too
        return steps // every + int(at_the_end)
    return 0


def _evaluation(prepared: Prepared, job: Job, trainer: Any, reporter: Reporter) -> dict[str, Times]:
    """Return the time that it takes to predict and score each split: of a sample of one, in proportion to the tokens.

    Of train, a run scores a sample.
    """
    parts = dict(prepared.features)
    split = "validation" if "validation" in parts else next((name for name in parts if name != "train"), "train")
    with reporter.phase(f"predict some of {split}"):
        for size in EVALUATED:
            some = sample(prepared, size, seed=job.seed, split=split)
            _, times = _timed(lambda some=some: _score(some, job, trainer))
            if times.seconds > FAST or len(some.examples) == len(parts[split].examples):
                break
        _longest(parts[split], job, trainer)
    per_token = times * (1 / max(_tokens(some, job), 1))
    found = {}
    for name, part in parts.items():
        share = min(TRAIN_SAMPLE / len(part.examples), 1.0) if name == "train" else 1.0
        found[name] = per_token * (share * _tokens(part, job))
    return found


def _tokens(part: Features, job: Job) -> int:
    return sum(sum(job.preprocessor.lengths(features)) for features in part.features.iter(1000))


def _score(part: Features, job: Job, trainer: Any) -> None:
    predictions = training.predict(trainer, examples=part.examples, features=part.features, job=job)
    job.evaluator.scores(training.records_of(job.evaluator, predictions))


def _longest(part: Features, job: Job, trainer: Any) -> None:
    """Predict the longest rows of a split, which decide the peak memory of an evaluation."""
    order = np.argsort(job.preprocessor.lengths(part.features), kind="stable")
    longest = part.features.select(order[-trainer.args.per_device_eval_batch_size :])
    metrics, trainer.compute_metrics = trainer.compute_metrics, None
    try:
        trainer.predict(training.model_columns(longest, job))
    finally:
        trainer.compute_metrics = metrics


def _train(trainer: Any, job: Job, steps: Sequence[batches.Step] | None, *, output: Path) -> StepWatch:
    """Make a few real steps, and return what they took.

    Args:
        trainer: The trainer of the run. It is changed, and must not train anything else afterwards.
        job: What to train.
        steps: The steps of an epoch, of which some are chosen; None to take the first ones of the trainer.
        output: Where a checkpoint is saved once.
    """
    plan: list[tuple[batches.Bucket, batches.Step] | None] = [None] * WARM_UP
    if steps is None:
        longest = int(batches.row_lengths(job)[0].max())
        plan += [(batches.Bucket(name="any", steps=(AVERAGE,)), replace(AVERAGE, longest=longest))] * NATURAL
    else:
        chosen = batches.buckets(steps)
        middle = chosen[len(chosen) // 2].steps[0]
        for repeat in range(batches.REPEATS):
            for bucket in chosen:
                if repeat < len(bucket.steps):
                    plan.append((bucket, bucket.steps[repeat]))
        rows: list[int] = []
        for step in [middle] * WARM_UP + [entry[1] for entry in plan if entry]:
            for batch in step.batches:
                rows += batch
        trainer.train_dataset = trainer.train_dataset.select(rows)
        trainer.args.train_sampling_strategy = "sequential"
    saved = runs.room(job.model, job.arguments)
    watch = StepWatch(plan, saves=_has_room(output, saved["checkpoint"]), output=output)
    trainer.add_callback(watch)
    trainer.remove_callback(EarlyStoppingCallback)  # nothing is evaluated
    arguments = trainer.args
    arguments.max_steps, arguments.load_best_model_at_end = len(plan), False
    arguments.eval_strategy = arguments.save_strategy = "no"
    set_seed(job.seed)
    trainer.train()
    return watch


def _has_room(output: Path, needed: int) -> bool:
    try:
        failures.require_room(output, model=0, checkpoint=2 * needed)
    except NoRoom:
        return False
    return True


class StepWatch(TrainerCallback):
    """Measures steps, and lets the trainer save a checkpoint after the last one."""

    def __init__(
        self, plan: Sequence[tuple[batches.Bucket, batches.Step] | None], *, saves: bool, output: Path
    ) -> None:
        self.plan = plan
        self.saves = saves
        self.output = output
        self.taken: dict[str, list[tuple[batches.Step, Times]]] = {}
        self.saving = Times()
        self.checkpoint_bytes = 0
        self._begun = self._ended = Times()
        self._started = time.perf_counter()

    @property
    def buckets(self) -> list[MeasuredBucket]:
        """Return the measured buckets, short steps first."""
        found = []
        for name, taken in self.taken.items():
            found.append(
                MeasuredBucket(
                    name=name,
                    tokens=float(np.mean([step.tokens for step, _ in taken])),
                    longest=max(step.longest for step, _ in taken),
                    steps=len(taken),
                    times=Times(
                        seconds=float(np.median([times.seconds for _, times in taken])),
                        cpu_seconds=float(np.median([times.cpu_seconds for _, times in taken])),
                    ),
                )
            )
        return sorted(found, key=lambda bucket: bucket.tokens)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if not self.taken:
            self._begun = Times.now()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop the clock, and end the training if it takes too long."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = Times.now()
        planned = self.plan[state.global_step - 1]
        if planned is not None:
            bucket, step = planned
            self.taken.setdefault(bucket.name, []).append((step, now - self._begun))
        self._begun = now  # with the time of the loader, the log and the other callbacks between two steps
        names = {entry[0].name for entry in self.plan if entry}
        late = time.perf_counter() - self._started > PATIENCE and names <= set(self.taken)
        if late or state.global_step >= state.max_steps:
            control.should_training_stop = True
            control.should_save = self.saves
            self._ended = Times.now()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure the checkpoint."""
        self.saving = Times.now() - self._ended
        for path in self.output.rglob("checkpoint-*/**/*"):
            self.checkpoint_bytes += path.stat().st_size if path.is_file() else 0


def resident_memory() -> int:
    """Return the bytes of memory that the process has."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def peak_memory() -> int:
    """Return the most bytes of memory that this process has had: its high-water mark."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        import resource
        import sys

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    marks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(marks[0]) * 1024
