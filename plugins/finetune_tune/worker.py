"""A worker: it takes the next step of a study until the search is over."""

from __future__ import annotations

import gc
import json
import shutil
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune.errors import (
    CannotWrite,
    FinetuneError,
    Incompatible,
    Interrupted,
    NoRoom,
    Paused,
    TrainingFailed,
    UntrustedCode,
    UserCodeFailed,
)
from finetune.kit import PauseAfter, PythonObjects, Reporter, make_plan, named_like_checkpoints, newest_checkpoint, run
from finetune_tune import sampling, schedule
from finetune_tune.evaluations import Evaluation, WriteEvaluations, best_of, read_all
from finetune_tune.space import as_written, recipe_of_trial
from finetune_tune.study import EVALUATIONS, Study
from finetune_tune.trial import ENDED, Rung, Settings, Trial

FAILED_SHARE = 1 / 3
"""A study stops if more than this share of its trials failed."""
FEW_FAILED = 3
"""So many trials may fail in any study."""
POLL = 0.5
"""Seconds after which a worker that has to wait looks again."""

WRONG_CALL = 2
"""Exit status of an error of the recipe or the data, and not of a run."""
_FOR_ALL = (Interrupted, NoRoom, CannotWrite, UserCodeFailed, UntrustedCode)
"""Errors that end the study and not a trial: the next trial would have them, too."""


class TooManyFailed(TrainingFailed):
    """So many trials of a study failed that the space or the data must be wrong."""


def search(study: Study, *, reporter: Reporter) -> None:
    """Work on a study until its search is over.

    Raises:
        TooManyFailed: More than a third of the trials failed.
        Interrupted: A signal stopped the worker. The same command continues.
    """
    while True:
        with ExitStack() as held:
            with study.alone():
                trials = study.trials.all()
                _require_few_failed(trials, study.settings)
                trial = _abandoned(study, trials, held)
                step = None if trial else _decided(study, trials)
                if isinstance(step, schedule.Finish):
                    return
                if step is not None:
                    trial = _begun(study, trials, step, held, reporter)
            if trial is not None:
                work_on(study, trial, reporter=reporter)
            elif isinstance(step, schedule.Wait):
                time.sleep(POLL)


def _abandoned(study: Study, trials: list[Trial], held: ExitStack) -> Trial | None:
    """Return a running trial that no worker works on, and claim it."""
    for trial in trials:
        if trial.state == "running" and held.enter_context(study.claim(trial.name)):
            return trial
    return None


def _decided(study: Study, trials: list[Trial]) -> schedule.Step:
    spent = sum(rung.seconds for trial in trials for rung in trial.rungs)
    hours = study.settings.hours
    time_is_up = hours is not None and spent >= hours * 3600
    return schedule.decide(trials, study.settings, study.races.compare, time_is_up=time_is_up)


def _begun(study: Study, trials: list[Trial], step: schedule.Step, held: ExitStack, reporter: Reporter) -> Trial | None:
    """Record a step, and return the trial to work on, if it has one."""
    if isinstance(step, schedule.Start):
        written = as_written(study.plan, study.space) if step.number == 0 else None
        chosen = written or sampling.draw(study.space.parameters, trials, study.settings, number=step.number)
        trial = Trial(number=step.number, chosen=chosen, state="running")
        held.enter_context(study.claimed(trial.name))
        study.trials.add(trial)
        return trial
    if isinstance(step, schedule.Continue):
        trial = replace(step.trial, state="running", target=step.rung, reason="", worse_than=None)
        held.enter_context(study.claimed(trial.name))
        if step.trial.state == "paused":
            study.trials.update(trial)
            return trial
        steps = trial.rungs[-1].step
        trial = replace(trial, repeated=trial.repeated + steps)
        reporter.note(
            f"trial {trial.number} had ended ({step.trial.state}) and continues, because the study has more trials or "
            f"hours now. Its checkpoint is gone, so its first {steps} steps are repeated"
        )
        study.trials.add(trial)
        return trial
    if isinstance(step, schedule.Drop):
        reason = (
            f"worse than trial {step.better.number} at rung {len(step.trial.rungs)}: paired test on the rows of "
            f"validation, p = {step.probability:.2g}"
        )
        study.trials.update(replace(step.trial, state="dropped", reason=reason, worse_than=step.better.number))
        remove_checkpoints(study.folder_of(step.trial))
        reporter.note(f"trial {step.trial.number} is dropped: {reason}")
    if isinstance(step, schedule.Stop):
        reason = "not continued, because others had better scores; the paired test does not say that it is worse"
        study.trials.update(replace(step.trial, state="stopped", reason=reason))
        remove_checkpoints(study.folder_of(step.trial))
    study.write({})
    return None


def work_on(study: Study, trial: Trial, *, reporter: Reporter) -> Trial:
    """Train a trial to its next rung, and record what came of it.

    Raises:
        Interrupted: A signal stopped it, after a checkpoint.
    """
    began = time.monotonic()
    shown = " ".join(f"{key}={_short(value)}" for key, value in trial.chosen.items())
    share = study.settings.shares[trial.target]
    reporter.note(f"trial {trial.number} to {share:.0%} of its steps: {shown}")
    try:
        found, complete = train(study, trial, reporter=reporter)
    except _FOR_ALL:
        raise
    except Incompatible as error:
        ended = replace(trial, state="incompatible", reason=str(error))
    except FinetuneError as error:
        if error.exit_code == WRONG_CALL and not any(each.rungs for each in study.trials.all()):
            raise  # the recipe itself is wrong, and not a value
        ended = replace(trial, state="failed", reason=f"{type(error).__name__}: {error}")
    else:
        ended = _scored(study, trial, found, complete=complete, seconds=round(time.monotonic() - began, 3))
    _free_memory()
    with study.alone():
        study.trials.update(ended)
        study.write({})
    if ended.state in ENDED:
        remove_checkpoints(study.folder_of(ended))
    said = ended.reason or f"{study.settings.primary} {ended.rungs[-1].score:.4f}"
    reporter.note(f"trial {trial.number}: {ended.state}, {said}")
    return ended


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _scored(study: Study, trial: Trial, found: list[Evaluation], *, complete: bool, seconds: float) -> Trial:
    best = best_of(found, study.settings)
    if best is None:
        return replace(trial, state="failed", reason=f"no evaluation gave a finite {study.settings.primary}")
    if different := _other_rows(study, found[-1]):
        return replace(trial, state="failed", reason=different)
    rung = Rung(step=found[-1].step, score=best.score, best_step=best.step, seconds=seconds)
    if not complete:
        return replace(trial, state="paused", rungs=(*trial.rungs, rung))
    rungs = [*trial.rungs, rung]
    while len(rungs) < len(study.settings.shares):  # it has too few steps for all rungs, or it stopped early
        rungs.append(replace(rung, seconds=0.0))
    return replace(trial, state="complete", rungs=tuple(rungs))


def _other_rows(study: Study, evaluation: Evaluation) -> str:
    """Return a sentence if a trial was scored on other rows than the first one; else an empty text."""
    for trial in study.trials.all():
        if trial.rungs:
            first = read_all(study.output / EVALUATIONS / trial.name)[0]
            if first.rows != evaluation.rows:
                return (
                    f"its rows of validation are not those of trial {trial.number}, so the two cannot be compared. "
                    "Leave out of the search what drops rows."
                )
            return ""
    return ""


def train(study: Study, trial: Trial, *, reporter: Reporter) -> tuple[list[Evaluation], bool]:
    """Train a trial until it is paused at its rung, or ends.

    Returns:
        Its evaluations, and whether it has made all its steps.
    """
    output, shares = study.folder_of(trial), study.settings.shares
    share, evaluations = shares[trial.target], study.output / EVALUATIONS / trial.name
    if (step := _paused_before(output, evaluations, share)) is not None:
        return read_all(evaluations, until=step), False
    if output.is_dir() and not (output / "recipe.yaml").is_file():
        shutil.rmtree(output)  # killed before it wrote anything
    for earlier, rung in zip(shares, trial.rungs, strict=False):
        if _newest_step(output) < rung.step:  # it had ended, so its checkpoint is gone
            _train_to(study, trial, earlier)
    complete = _train_to(study, trial, share)
    return read_all(evaluations), complete


def _train_to(study: Study, trial: Trial, share: float) -> bool:
    """Train a trial to a share of its steps, and return whether it has made all of them."""
    output, evaluations = study.folder_of(trial), study.output / EVALUATIONS / trial.name
    recipe = recipe_of_trial(study.plan.recipe, study.space, trial.chosen, output=str(output))
    callbacks: list[Any] = [WriteEvaluations(evaluations, study.settings)]
    if share < 1:
        callbacks.append(PauseAfter(share))
    plan = make_plan(recipe, study.plan.plugins, objects=PythonObjects(callbacks=callbacks))
    try:
        run(plan, auto_resume=True, reporter=Reporter())
    except Paused:
        return False
    return True


def _newest_step(output: Path) -> int:
    """Return the step of the newest checkpoint; 0 without one."""
    newest = newest_checkpoint(output)
    return _state_of(output / newest)["global_step"] if newest else 0


def _state_of(checkpoint: Path) -> dict[str, int]:
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return {name: int(state[name]) for name in ("global_step", "max_steps")}


def _paused_before(output: Path, evaluations: Path, share: float) -> int | None:
    """Return the step at which a trial was paused, if its worker died before it could record that."""
    newest = newest_checkpoint(output)
    if newest is None or share >= 1:
        return None
    state = _state_of(output / newest)
    step = state["global_step"]
    made = any(each.step == step for each in read_all(evaluations))
    reached = share * state["max_steps"] <= step < state["max_steps"]
    return step if made and reached else None


def _require_few_failed(trials: list[Trial], settings: Settings) -> None:
    failed = [trial for trial in trials if trial.state == "failed"]
    if len(failed) <= FEW_FAILED or len(failed) <= FAILED_SHARE * len(trials):
        return
    reasons = dict.fromkeys(trial.reason for trial in failed)
    shown = "\n  ".join(list(reasons)[:5])
    raise TooManyFailed(
        f"{len(failed)} of {len(trials)} trials failed, so the study is stopped. What they said:\n  {shown}\n"
        "Change the search section or the data, and name another output folder."
    )


def remove_checkpoints(output: Path) -> None:
    """Remove the checkpoints of a trial that has ended: nothing continues from them."""
    for path in named_like_checkpoints(output).values() if output.is_dir() else ():
        shutil.rmtree(path)


def _free_memory() -> None:
    """Give back the memory of a trial."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
