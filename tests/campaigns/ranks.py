"""Kill one process of runs in two processes with SIGKILL at random moments, and resume them as the message says.

``python tests/campaigns/ranks.py`` kills 20 processes, the first and the second by turns, of runs that were started
with ``--processes 2``. A run is killed up to three times, at any moment from its start to its end, and is then
continued to the end. Each time, the command has to name the process that was killed, and how to go on. Last, the
weights and the predictions must be those of a run that was never stopped.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))

import command
import small
import yaml
from scorecard import Line, record
from together import bases_in, recipe

MOST = 3
"""Kills of one run."""
STEPS = 48
SECONDS = 600
"""How long a call may take to end after a process was killed."""


@dataclass
class Figures:
    """What the trials showed."""

    seed: int
    runs: int = 0
    kills: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    """Number of the process → how often it was killed."""
    named: int = 0
    """Kills after which the command ended with 137, and said which process was killed."""
    resumed: int = 0
    """Kills after which the run was continued with ``--resume``, as the message said."""
    started_again: int = 0
    """Kills before the first checkpoint, after which the run was started with ``--overwrite``, as the message said."""
    finished: int = 0
    """Kills of processes of a run that had written its result."""
    equal: int = 0
    """Runs whose weights, predictions, scores and number of steps are equal to the bit."""
    slowest: float = 0
    """Most seconds from a kill to the end of the command."""
    problems: list[str] = field(default_factory=list)


def process_of(launcher: int, number: int) -> int | None:
    """Return the id of one of the processes that a launcher has started; None if it has not."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher and f"RANK={number}" in (path / "environ").read_text().split("\0"):
                return int(path.name)
        except (OSError, ValueError):
            continue
    return None


def start(file: Path, *flags: str) -> command.Call:
    """Start a run in two processes."""
    arguments = ["train", str(file), "--quiet", "--processes", "2", *flags]
    return command.start(arguments, before=functools.partial(set_arguments, arguments))


def set_arguments(arguments: list[str]) -> None:
    """Set the arguments of this process, which the launcher passes on."""
    sys.argv[1:] = arguments


def killed(call: command.Call, number: int, after: float) -> float | None:
    """Kill one process of a run some seconds after it was started; return when, or None if the run has ended."""
    process = None
    while process is None and call.process.is_alive():
        process = process_of(call.pid, number)
        time.sleep(0.02)
    deadline = time.monotonic() + after
    while call.process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    if process is None or not call.process.is_alive():
        return None
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return time.monotonic()


def measure(*, kills: int, seed: int, folder: Path, steps: int = STEPS) -> Figures:
    """Kill processes of runs, and continue these, until there were as many kills as asked for.

    Args:
        kills: How often at least.
        seed: Seed of the moments.
        folder: Holds the base, the data and the runs.
        steps: Steps of each run.
    """
    draw, figures = random.Random(seed), Figures(seed)
    base = bases_in(folder)("bert", "bert")
    content = recipe(
        "text-classification", "full", base, folder / "straight", batch=4, max_steps=steps, save_steps=steps // 12
    )
    file = write(content, folder / "straight")
    began = time.monotonic()
    ended = start(file).wait()
    if ended.exit_code:
        raise RuntimeError(f"the run that is never stopped failed:\n{ended.output}")
    duration = time.monotonic() - began
    while sum(figures.kills.values()) < kills:
        one_run(content, folder / f"run-{figures.runs}", folder / "straight", figures, draw, duration=duration)
    return figures


def write(content: dict[str, Any], output: Path) -> Path:
    """Write the recipe of a run, and return the file."""
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({**content, "output": str(output)}))
    return file


def one_run(
    content: dict[str, Any], run: Path, whole: Path, figures: Figures, draw: random.Random, *, duration: float
) -> None:
    """Kill a run up to `MOST` times, continue it to the end, and compare it with one that was never stopped."""
    file, flags = write(content, run), []
    figures.runs += 1
    for _ in range(MOST):
        number = sum(figures.kills.values()) % 2
        where = f"run {figures.runs}, kill {sum(figures.kills.values()) + 1}, process {number}"
        call = start(file, *flags)
        moment = killed(call, number, draw.uniform(0, duration))
        ended = call.wait(SECONDS)
        if moment is None:
            if ended.exit_code:
                figures.problems.append(f"{where}: exit code {ended.exit_code}: {ended.output[-300:]}")
            break
        figures.kills[number] += 1
        figures.slowest = max(figures.slowest, time.monotonic() - moment)
        says = f"process {number} of 2 was killed by SIGKILL. "
        if ended.exit_code == 128 + signal.SIGKILL and says in ended.output and not ended.is_traceback:
            figures.named += 1
        else:
            figures.problems.append(f"{where}: exit code {ended.exit_code}: {ended.output[-300:]}")
        if "The run is complete." in ended.output:
            figures.finished += 1
            flags = []
            break
        print(f"{where}: {ended.output.strip()[-160:]}", flush=True)
        again = "--overwrite" in ended.output
        figures.started_again += again
        figures.resumed += not again
        flags = ["--overwrite" if again else "--resume"]
    if not (run / "result.json").exists():
        ended = start(file, *flags).wait(SECONDS)
        if ended.exit_code:
            figures.problems.append(f"run {figures.runs}, at its end: {ended.exit_code}: {ended.output[-300:]}")
            return
    found, expected = small.digests(run), small.digests(whole)
    if found == expected and small.scores(run) == small.scores(whole):
        figures.equal += 1
    else:
        figures.problems.append(
            f"run {figures.runs}: other {[key for key in expected if found.get(key) != expected[key]]}"
        )
    shutil.rmtree(run)


def main() -> None:
    """Kill, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options, started = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="campaign-ranks-") as folder:
        found = measure(kills=options.kills, seed=options.seed, folder=Path(folder))
    kills = sum(found.kills.values())
    for problem in found.problems:
        print(problem)
    record(
        Line(
            name="kill -9 of one process",
            goal="at least 20 kills of one of two processes: the process is named, the run can be resumed and ends "
            "equal to the bit",
            stock="not measured",
            ours=f"{kills} kills in {found.runs} runs of two processes (process 0: {found.kills[0]}, process 1: "
            f"{found.kills[1]}): {found.named} named, {found.resumed} resumed, {found.started_again} started again "
            f"before the first checkpoint, {found.finished} after the result was written; {found.equal} of "
            f"{found.runs} runs equal to the bit; at most {found.slowest:.0f} s from the kill to the end; "
            f"{len(found.problems)} problems",
            met=kills >= 20 and not found.problems and found.named == kills and found.equal == found.runs,
            not_covered="More than two processes, and several machines.",
        ),
        started=started,
    )


if __name__ == "__main__":
    main()
