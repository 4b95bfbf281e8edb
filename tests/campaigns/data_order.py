"""Kill runs while they train, resume them, and compare which rows the model sees with runs that were never stopped.

``python tests/campaigns/data_order.py`` measures the line "data order". For each kind of order, a run is killed at
random steps, two times, and resumed to the end. At each step it must see the rows that the run without a stop saw, and
in each epoch every row exactly once. A planted fault is the control: a run that does not skip the rows it has seen.
"""

from __future__ import annotations

import argparse
import functools
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import watched
from scorecard import Line, record

EPOCHS = 3
WORKERS = {"dataloader_num_workers": 2}
LENGTH = {"train_sampling_strategy": "group_by_length"}
KINDS: Mapping[str, tuple[Callable[..., Path], Mapping[str, Any]]] = {
    "shuffled": (watched.write_recipe, {}),
    "shuffled, 2 workers, accumulated": (watched.write_recipe, {**WORKERS, "gradient_accumulation_steps": 2}),
    "grouped by length": (watched.write_recipe, {**LENGTH, "gradient_accumulation_steps": 2}),
    "grouped by length, 2 workers": (watched.write_recipe, {**LENGTH, **WORKERS}),
    "rebalanced batches": (watched.write_recipe, {"train_sampling_strategy": "batch_rebalance"}),
    "packed": (watched.write_packed_recipe, {"per_device_train_batch_size": 2}),
}
"""Name → what writes the recipe, and its training options."""


@dataclass
class Figures:
    """What the trials showed."""

    runs: int = 0
    kills: int = 0
    steps: int = 0
    """Steps that were compared."""
    differences: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    """Epochs in which a row was not seen exactly once."""


def measure(
    *,
    trials: int,
    seed: int,
    folder: Path,
    kinds: Sequence[str] = tuple(KINDS),
    fault: Callable[[], None] | None = None,
) -> Figures:
    """Kill and resume runs of each kind.

    Args:
        trials: Runs that are killed, of each kind.
        seed: Seed of the moments.
        folder: Holds bases, data and runs.
        kinds: Names of `KINDS`.
        fault: Is planted into each process that resumes.
    """
    draw, figures = random.Random(seed), Figures()
    for number, kind in enumerate(kinds):
        write, training = KINDS[kind]
        training = {**training, "num_train_epochs": EPOCHS, "max_steps": -1}
        straight = folder / f"straight-{number}"
        whole = _train(write(folder, straight, training), folder / f"seen-{number}.jsonl")
        _check_epochs(whole, f"{kind}, without a stop", figures)
        for trial in range(trials):
            run = folder / f"run-{number}-{trial}"
            recipe, seen = write(folder, run, training), folder / f"seen-{number}-{trial}.jsonl"
            where = f"{kind}, trial {trial}"
            found = _killed(recipe, seen, draw, steps=len(whole), figures=figures, fault=fault)
            figures.runs += 1
            figures.steps += len(whole)
            for step in sorted({*whole, *found}):
                if whole.get(step) != found.get(step):
                    figures.differences.append(f"{where}: step {step}")
            _check_epochs(found, where, figures)
    return figures


def _killed(
    recipe: Path, seen: Path, draw: random.Random, *, steps: int, figures: Figures, fault: Callable[[], None] | None
) -> dict[int, list[list[str]]]:
    """Kill a run two times while it trains, and resume it to the end; return the rows of each step."""
    first, second = sorted(draw.sample(range(2, steps), 2))
    for moment in (first, second):
        kill = functools.partial(_plant, fault if moment == second else None, moment)
        ended = watched.train(recipe, seen=seen, resume=moment == second, before=kill)
        if ended.exit_code != -signal.SIGKILL:
            raise RuntimeError(f"{recipe}: exit code {ended.exit_code}:\n{ended.output}")
        figures.kills += 1
    return _train(recipe, seen, resume=True, before=fault)


def _plant(fault: Callable[[], None] | None, step: int) -> None:
    """Plant a fault, and kill this process in a step."""
    from finetune.training.callbacks import StopOnNaN

    if fault is not None:
        fault()
    check = StopOnNaN.check_loss

    def checked(callback: StopOnNaN, loss: Any, inputs: Any, number: int) -> None:
        if number >= step:
            signal.raise_signal(signal.SIGKILL)
        check(callback, loss, inputs, number)

    StopOnNaN.check_loss = checked  # type: ignore[method-assign]


def _train(
    recipe: Path, seen: Path, *, resume: bool = False, before: Callable[[], None] | None = None
) -> dict[int, list[list[str]]]:
    ended = watched.train(recipe, seen=seen, resume=resume, before=before)
    if ended.exit_code:
        raise RuntimeError(f"{recipe}: exit code {ended.exit_code}:\n{ended.output}")
    return watched.rows_by_step(seen)


def _check_epochs(steps: Mapping[int, list[list[str]]], where: str, figures: Figures) -> None:
    """Check that each epoch has each row once."""
    rows = [row for step in sorted(steps) for batch in steps[step] for row in batch]
    size, rest = divmod(len(rows), EPOCHS)
    for epoch in range(EPOCHS):
        counts = Counter(rows[epoch * size : (epoch + 1) * size])
        if rest or counts != Counter(set(rows)):
            figures.repeated.append(f"{where}: epoch {epoch + 1}")


def skip_nothing() -> None:
    """Let a run that is resumed begin its epoch again: the planted fault."""
    import transformers.trainer

    transformers.trainer.skip_first_batches = lambda loader, _: loader  # type: ignore[attr-defined]


def main() -> None:
    """Measure and record the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    given, started = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(trials=given.trials, seed=given.seed, folder=Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        control = measure(trials=1, seed=given.seed, folder=Path(folder), kinds=("shuffled",), fault=skip_nothing)
    for line in (*figures.differences, *figures.repeated):
        print(line)
    noticed = bool(control.differences and control.repeated)
    ours = (
        f"{len(figures.differences)} differences in {figures.steps} steps of {figures.runs} runs with {figures.kills} "
        f"kills, of {len(KINDS)} kinds; {len(figures.repeated)} epochs in which a row was not seen exactly once; the "
        f"control {'failed as it must' if noticed else 'DID NOT FAIL'}: {len(control.differences)} differences"
    )
    line = Line(
        name="data order",
        goal="0 differences, every row exactly once in each epoch, and the control fails",
        stock="equal for shuffled data; grouped by length draws a new order on resume",
        ours=ours,
        met=not figures.differences and not figures.repeated and noticed,
        not_covered="streamed data, and several processes",
    )
    record(line, started=started)


if __name__ == "__main__":
    main()
