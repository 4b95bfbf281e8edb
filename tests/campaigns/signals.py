"""Stop runs by SIGTERM, SIGINT and SIGHUP at random moments, resume them, and compare them with straight runs.

``python tests/campaigns/signals.py`` measures the line "signals". A signal comes at any moment after the first
checkpoint, while a checkpoint is being written, or while the model is evaluated; in one trial of six a second one comes
at once. The exit code has to be 128 plus the number of the signal, the newest checkpoint has to be valid and that of a
whole optimizer step, and the resumed run has to end with the weights of one that was never stopped.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import command
import kills
import small
from scorecard import Line, record

from finetune.errors import BadCheckpoint
from finetune.result import RESULT
from finetune.training.checkpoints import verify

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KINDS = ("full", "accumulation", "best model")
"""Accumulation 1 and 4, and a run that is evaluated at every step."""
MOMENTS = ("training", "saving", "training, twice", "evaluating")


@dataclass
class Figures:
    """What the trials showed."""

    seed: int
    trials: int = 0
    """Runs that a signal stopped."""
    moments: dict[str, int] = field(default_factory=dict)
    """Moment → runs that were stopped then."""
    at_a_step: int = 0
    """Runs that say at which step they stopped and have a valid checkpoint of it."""
    at_once: int = 0
    """Runs that ended at once after a second signal."""
    after_training: int = 0
    """Runs that the signal found after the last step, while they saved the model or scored it."""
    equal: int = 0
    """Resumed runs that are equal to the bit to those that were never stopped."""
    problems: list[str] = field(default_factory=list)


def measure(
    *,
    trials: int,
    seed: int,
    folder: Path,
    kinds: Sequence[str] = KINDS,
    moments: Sequence[str] = MOMENTS,
    steps: int = small.STEPS,
) -> Figures:
    """Stop and resume runs until a signal has stopped as many as asked for.

    Args:
        trials: How many runs.
        seed: Seed of the moments.
        folder: Holds bases, data and runs.
        kinds: Names of `small.KINDS`.
        moments: Of `MOMENTS`.
        steps: Steps of each run.
    """
    draw, recipes, figures = random.Random(seed), small.Recipes(folder), Figures(seed)
    wholes: dict[str, kills.Straight] = {}
    number = 0
    while figures.trials < trials:
        received = SIGNALS[number % len(SIGNALS)]
        moment = moments[number // len(SIGNALS) % len(moments)]
        kind = "best model" if moment == "evaluating" else draw.choice(kinds)
        if kind not in wholes:
            wholes[kind] = kills.straight(recipes, kind, steps=steps)
        run = folder / f"run-{number}"
        where = f"trial {number}, {kind}, {received.name} while {moment}"
        one_run(recipes, kind, run, wholes[kind], received, moment, where, figures, draw, steps=steps)
        shutil.rmtree(run)
        number += 1
    return figures


def one_run(
    recipes: small.Recipes,
    kind: str,
    run: Path,
    whole: kills.Straight,
    received: signal.Signals,
    moment: str,
    where: str,
    figures: Figures,
    draw: random.Random,
    *,
    steps: int,
) -> None:
    """Stop a run by a signal, look at what it left, and resume it."""
    recipe = recipes.write(kind, run, steps=steps)
    nth = draw.randint(2, steps - 1)
    before = None
    if moment in ("saving", "evaluating"):
        before = functools.partial(send_while, moment, int(received), nth)
    running = command.start(["train", str(recipe), "--quiet"], before=before)
    if before is None:
        small.wait_for_checkpoint(run, running)
        time.sleep(draw.uniform(0, 0.7) * whole.training)
        for _ in range(2 if moment.endswith("twice") else 1):
            if running.process.is_alive():
                os.kill(running.pid, received)
            time.sleep(0.02)
    ended = running.wait()
    if ended.exit_code == 0:
        return  # the signal came too late
    figures.trials += 1
    figures.moments[moment] = figures.moments.get(moment, 0) + 1
    problem = look(run, ended, received, figures)
    if problem:
        figures.problems.append(f"{where}: {problem}: exit code {ended.exit_code}: {ended.output[-300:]}")
        return
    finished = (run / RESULT).is_file()  # the signal came after the last file
    again = None if finished else command.call(["train", str(recipe), "--quiet", "--resume"])
    if again is not None and again.exit_code:
        figures.problems.append(f"{where}: resumed: exit code {again.exit_code}: {again.output[-300:]}")
    elif small.digests(run) != small.digests(whole.run) or small.scores(run) != small.scores(whole.run):
        figures.problems.append(f"{where}: the run ended with other weights, predictions or scores")
    else:
        figures.equal += 1


def look(run: Path, ended: command.Ended, received: signal.Signals, figures: Figures) -> str:
    """Count how a run ended; return what is wrong, or an empty text."""
    if ended.is_traceback:
        return "a traceback"
    if ended.exit_code not in (128 + received, -received):
        return "another exit code"
    said = f"stopped by {received.name} at step " in ended.output
    if not said:
        figures.at_once += "stopped at once" in ended.output
        figures.after_training += "stopped at once" not in ended.output
        return ""
    if ended.exit_code != 128 + received:
        return "another exit code"
    step = int(ended.output.partition(f"stopped by {received.name} at step ")[2].split()[0])
    newest = run / f"checkpoint-{step}"
    try:
        verify(newest)
    except BadCheckpoint as error:
        return f"{error}"
    state: dict[str, Any] = json.loads((newest / "trainer_state.json").read_text(encoding="utf-8"))
    if state["global_step"] != step:
        return f"the checkpoint of step {step} holds the state of step {state['global_step']}"
    figures.at_a_step += 1
    return ""


def send_while(moment: str, number: int, nth: int) -> None:
    """Let the process send itself a signal while it saves or evaluates for the nth time."""
    import torch

    from finetune.training.trainer import PatchedTrainer

    owner, name = (torch, "save") if moment == "saving" else (PatchedTrainer, "evaluation_loop")
    original, calls = getattr(owner, name), 0

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(owner, name, wrapper)


def main() -> None:
    """Measure the line, and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    options, started = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="campaign-signals-") as folder:
        found = measure(trials=options.trials, seed=options.seed, folder=Path(folder))
    print(f"seed {options.seed}: {found}")
    moments = ", ".join(f"{count} while {moment}" for moment, count in found.moments.items())
    record(
        Line(
            name="signals",
            goal="SIGTERM, SIGINT and SIGHUP: exit code 143, 130, 129, a checkpoint of a whole step, resumed equal to "
            "the bit",
            stock="without the option for it: the run is lost; with it: 8 of 15 resumed runs ended otherwise",
            ours=f"{found.trials} runs stopped ({moments}): {found.at_a_step} with a checkpoint of the step at which "
            f"they stopped, {found.at_once} at once by a second signal, {found.after_training} after the last step; "
            f"{found.equal} of {found.trials} resumed and equal to the bit",
            met=found.trials >= 30 and found.equal == found.trials and not found.problems,
            not_covered="Signals before the first step, while data and model are read.",
        ),
        started=started,
    )


if __name__ == "__main__":
    main()
