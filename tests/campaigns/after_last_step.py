"""Stop runs after their last step, resume them, and count their updates.

``python tests/campaigns/after_last_step.py`` measures the line "after the last step". Runs with a constant learning
rate are stopped by SIGKILL, SIGTERM and SIGINT at several moments between the last update and the end: while the last
checkpoint is written, and while the model is saved, is scored, or its result is written. Resumed, they must make no
update more than a run that was never stopped, and end with its weights. The control is the trainer of transformers
without our correction.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import random
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import watched
from scorecard import Line, record

LENGTHS: Mapping[str, Mapping[str, Any]] = {
    "inside an epoch": {"max_steps": 10},
    "inside an epoch, accumulation 4": {"max_steps": 3, "gradient_accumulation_steps": 4},
    "whole epochs": {"num_train_epochs": 1, "max_steps": -1},
    "whole epochs, accumulation 4": {"num_train_epochs": 2, "max_steps": -1, "gradient_accumulation_steps": 4},
}
"""Name → how long a run is. An epoch has 6 batches."""
MOMENTS: Mapping[str, tuple[str, str]] = {
    "last checkpoint": ("finetune.training.trainer:PatchedTrainer", "_save_checkpoint"),
    "manifest": ("finetune.training.checkpoints", "seal"),
    "after the checkpoint": ("finetune.training.trainer:PatchedTrainer", "_finalize_training"),
    "save": ("finetune.run", "save"),
    "score": ("finetune.run", "score"),
    "result": ("finetune.result:Result", "save"),
}
"""Name → the function at whose last call the signal comes."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass
class Figures:
    """What the trials showed."""

    stops: int = 0
    equal: int = 0
    """Resumed runs with as many updates as the run without a stop, and with its weights and predictions."""
    problems: list[str] = field(default_factory=list)


def measure(*, trials: int | None, seed: int, folder: Path, fault: Callable[[], None] | None = None) -> Figures:
    """Stop and resume runs.

    Args:
        trials: How many of all combinations of length, moment and signal; None for all.
        seed: Seed of the choice.
        folder: Holds the base, data and runs.
        fault: Is planted into each process that resumes.
    """
    cells = list(itertools.product(LENGTHS, MOMENTS, SIGNALS))
    if trials is not None:
        cells = random.Random(seed).sample(cells, trials)
    return measure_cells(cells, folder=folder, fault=fault)


def measure_cells(cells: list[Any], *, folder: Path, fault: Callable[[], None] | None = None) -> Figures:
    """Stop and resume a run for each length, moment and signal."""
    figures = Figures()
    wholes: dict[str, Path] = {}
    for number, (length, moment, what) in enumerate(cells):
        training = {**LENGTHS[length], "save_total_limit": 2}
        if length not in wholes:
            wholes[length] = folder / f"straight-{len(wholes)}"
            ended = watched.train(
                watched.write_recipe(folder, wholes[length], training), seen=wholes[length].with_suffix(".jsonl")
            )
            if ended.exit_code:
                raise RuntimeError(f"{length}: exit code {ended.exit_code}:\n{ended.output}")
        run, where = folder / f"run-{number}", f"{length}, {what.name} at {moment}"
        problem = _stopped(run, wholes[length], training, moment, what, figures, fault)
        if problem:
            figures.problems.append(f"{where}: {problem}")
        else:
            figures.equal += 1
    return figures


def _stopped(
    run: Path, whole: Path, training: Mapping[str, Any], moment: str, what: signal.Signals, figures: Figures,
    fault: Callable[[], None] | None,
) -> str:  # fmt: skip
    """Stop a run, resume it, and return what is wrong."""
    recipe, seen = watched.write_recipe(run.parent, run, training), run.with_suffix(".jsonl")
    steps = _result(whole)["steps"]
    call = steps if moment in ("last checkpoint", "manifest") else 1
    module, name = MOMENTS[moment]
    ending = functools.partial(watched.end_process, module, name, int(what), call)
    ended = watched.train(recipe, seen=seen, before=ending)
    figures.stops += 1
    if (run / "result.json").exists():
        return f"the signal did not stop the run: exit code {ended.exit_code}"
    resumed = watched.train(recipe, seen=seen, resume=True, before=fault)
    if resumed.exit_code:
        return f"exit code {resumed.exit_code}: {resumed.output[-300:]}"
    found, most = _result(run)["steps"], max(watched.rows_by_step(seen))
    if (found, most) != (steps, steps):
        return f"{found} steps recorded and {most} made, of {steps}"
    if watched.weights(run) != watched.weights(whole):
        return "other weights"
    return ""


def _result(run: Path) -> Any:
    return json.loads((run / "result.json").read_text(encoding="utf-8"))


def stock_loop() -> None:
    """Let the trainer of transformers decide when a resumed run ends: the planted fault."""
    from transformers import Trainer

    from finetune.training.trainer import PatchedTrainer

    PatchedTrainer._run_epoch = Trainer._run_epoch  # type: ignore[method-assign]
    PatchedTrainer.catch_up = lambda _: None  # type: ignore[method-assign]


def control(folder: Path) -> Figures:
    """Return what the campaign shows of a run that goes on after its last step."""
    return measure_cells([("inside an epoch", "save", signal.SIGKILL)], folder=folder, fault=stock_loop)


def main() -> None:
    """Measure and record the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=36, help="how many of all combinations")
    parser.add_argument("--seed", type=int, default=1)
    given, started = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(trials=given.trials, seed=given.seed, folder=Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        planted = control(Path(folder))
    for problem in figures.problems:
        print(problem)
    without = planted.problems[0] if planted.problems else "NOT NOTICED"
    line = Line(
        name="after the last step",
        goal="no update more than in a run without a stop, and equal weights",
        stock=f"the loop of transformers alone: {without}",
        ours=f"{figures.equal} of {figures.stops} runs equal to the bit, with as many updates; {len(SIGNALS)} signals, "
        f"{len(MOMENTS)} moments, accumulation 1 and 4, constant learning rate",
        met=figures.equal == figures.stops and bool(planted.problems),
    )
    record(line, started=started)


if __name__ == "__main__":
    main()
