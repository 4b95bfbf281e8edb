"""Let a number not be finite at each of 20 steps: ``python tests/campaigns/nonfinite.py``.

A trial lets the loss, one gradient, one weight or the validation loss be NaN or infinity at one step, with an
accumulation of 1 and of 4. The run must stop before it saves anything that is not finite, with exit code 3, and name
the step and, where a batch is the cause, its rows. The metric is that which chooses the best checkpoint.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import machine_faults
import out_of_memory
from command import call
from safetensors.torch import load_file
from scorecard import Line, record

STEPS = out_of_memory.STEPS
WHERE = ("loss", "gradient", "weight", "metric")
RATES = ("1e30", "1e39")


@dataclass
class Figures:
    """What happened in all trials."""

    trials: int = 0
    stopped: int = 0
    """Runs that ended with exit code 3 and a message that names the step."""
    rows: int = 0
    """Runs whose message shows the rows; all but those with a wrong metric have to."""
    clean: int = 0
    """Run folders in which every saved number is finite."""
    trouble: str = ""
    """The first thing that went wrong."""


def is_clean(run: Path) -> bool:
    """Return whether every number in the weights of a run folder is finite, those of its checkpoints too."""
    for path in run.rglob("*.safetensors"):
        if not all(bool(tensor.isfinite().all()) for tensor in load_file(path).values()):
            return False
    return True


def measure(trials: Iterable[tuple[str, float, int, int]], folder: Path, *, rates: Iterable[str] = ()) -> Figures:
    """Return the figures.

    Args:
        trials: Where, which number, at which step, and the accumulation.
        folder: An empty folder.
        rates: Learning rates with which the first update destroys the weights.
    """
    recipe, found = out_of_memory.prepare(folder), Figures()
    best = ["training.load_best_model_at_end=true", "training.metric_for_best_model=eval_loss",
            "training.greater_is_better=false", "training.eval_strategy=steps", "training.eval_steps=1",]  # fmt: skip
    for where, value, step, accumulation in trials:
        steps = max(step + 1, 3)
        words = [f"training.gradient_accumulation_steps={accumulation}", f"training.max_steps={steps}"]
        words += best if where == "metric" else []
        fault = functools.partial(machine_faults.not_finite, where, value, step)
        _try(found, folder, ["train", str(recipe), *words], fault, step=step, rows=where != "metric")
    for rate in rates:
        _try(found, folder, ["train", str(recipe), f"training.learning_rate={rate}"], None, step=None, rows=True)
    return found


def _try(found: Figures, folder: Path, words: list[str], fault: object, *, step: int | None, rows: bool) -> None:
    shutil.rmtree(folder / "run", ignore_errors=True)
    ended = call(words, folder=folder, before=fault)  # type: ignore[arg-type]
    found.trials += 1
    said = "step " if step is None else f"step {step}: "
    shown = " rows; they begin: " in ended.output
    stopped = ended.exit_code == 3 and said in ended.output and not ended.is_traceback
    clean = is_clean(folder / "run")
    found.stopped += stopped
    found.rows += shown or not rows
    found.clean += clean
    if not (stopped and clean and (shown or not rows)):
        found.trouble = (
            found.trouble or f"{words} {fault}: exit {ended.exit_code}, clean {clean}: {ended.output[-600:]}"
        )


def main() -> None:
    """Measure the line, and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=STEPS, help="How many steps, from the first on.")
    arguments = parser.parse_args()
    started = time.monotonic()
    steps = range(1, arguments.trials + 1)
    # one value and one accumulation for each step and place, in turn, so that each combination comes five times
    kinds = list(itertools.product((math.nan, math.inf), (1, 4)))
    trials = []
    for step, (number, where) in itertools.product(steps, enumerate(WHERE)):
        value, accumulation = kinds[(step + number) % len(kinds)]
        trials.append((where, value, step, accumulation))
    with tempfile.TemporaryDirectory() as folder:
        found = measure(trials, Path(folder), rates=RATES)
    if found.trouble:
        print(found.trouble)
    record(
        Line(
            name="numbers that are not finite",
            goal="all stopped with exit 3, step and rows named, nothing saved that is not finite",
            stock="exit 0, the log shows a loss of 0.0, a model of NaN is saved",
            ours=f"{found.stopped} of {found.trials} stopped, rows named in {found.rows}, nothing wrong saved in "
            f"{found.clean}; loss, gradient, weight and metric at each of {arguments.trials} steps, learning rates "
            f"{' and '.join(RATES)}",
            met=arguments.trials >= STEPS and found.trials == found.stopped == found.rows == found.clean,
            not_covered="fp16, whose scaler skips steps by design, needs a GPU; its rule is tested on its own.",
        ),
        started=started,
    )


if __name__ == "__main__":
    main()
