"""Stop jobs as clusters do, let them start again, and compare them with runs that were never stopped.

``python tests/campaigns/preemption.py`` writes the job file of a recipe for Slurm, and runs it in a Slurm of this
machine; see ``clusters.py``. The first start is stopped at a random moment after its first checkpoint: at its time
limit, by a preemption, by the failure of its machine, or by ``scancel``. It must go back into the queue, except after
``scancel``, and end with the weights, predictions and scores of a run that was never stopped.

The local executor of submitit does the same: its signal reaches a job that calls ``finetune train --auto-resume``, and
it starts the job again.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import clusters
import command
import psutil
import small
import submitit

from finetune import jobs
from finetune import recipe as recipes
from finetune.plugins import discover


@dataclass
class Figures:
    """What the trials showed."""

    seed: int
    trials: int = 0
    stopped: dict[str, int] = field(default_factory=dict)
    """Way → jobs that were stopped so."""
    saved: int = 0
    """Jobs that were stopped by a signal, and saved a checkpoint of the step."""
    requeued: int = 0
    """Jobs that were started again."""
    equal: int = 0
    """Jobs that ended equal to the bit to a run that was never stopped."""
    cancelled: int = 0
    """Jobs that were cancelled, and did not start again."""
    problems: list[str] = field(default_factory=list)


def write_job(recipe: Path, *, nodes: int = 1, change: Callable[[str], str] = lambda text: text) -> Path:
    """Write the Slurm job of a recipe next to it, and return its path.

    Args:
        recipe: The recipe; its paths are absolute.
        nodes: How many machines the job takes.
        change: Changes the file before it is written.
    """
    read = recipes.read(recipe)
    job = jobs.describe(
        read, discover(), path=str(recipe), content=recipe.read_text(), overrides=[], nodes=nodes,
        gpus=jobs.Gpus(0),
    )  # fmt: skip
    path = recipe.with_suffix(".sbatch")
    path.write_text(change(jobs.write(job, scheduler="slurm")), encoding="utf-8")
    return path


def straight(made: small.Recipes, *, steps: int) -> Path:
    """Return the run folder of a run that was never stopped; a folder needs one."""
    run = made.folder / "straight"
    if (run / "result.json").exists():
        return run
    ended = command.call(["train", str(made.write("full", run, steps=steps)), "--quiet"])
    if ended.exit_code:
        raise RuntimeError(f"the run without a stop failed with exit code {ended.exit_code}:\n{ended.output}")
    return run


def measure(
    *,
    trials: int,
    seed: int,
    folder: Path,
    stops: Sequence[str] = clusters.STOPS,
    steps: int = small.STEPS,
    change: Callable[[str], str] = lambda text: text,
) -> Figures:
    """Stop jobs, each in the next way, and look at how they end.

    Args:
        trials: How many jobs.
        seed: Seed of the moments.
        folder: Holds base, data and runs.
        stops: Of `clusters.STOPS`.
        steps: Steps of each run.
        change: Changes the job file.
    """
    draw, made, figures = random.Random(seed), small.Recipes(folder), Figures(seed)
    whole = straight(made, steps=steps)
    cluster = clusters.Cluster(folder / "cluster")
    for number in range(trials):
        stop, run = stops[number % len(stops)], folder / f"job-{number}"
        script = write_job(made.write("full", run, steps=steps), change=change)
        wanted = draw.randint(1, steps - 2)
        job = cluster.sbatch(script, stop=stop, when=lambda run=run, wanted=wanted: has_step(run, wanted))
        if len(job.tasks) == 1 and job.tasks[0] == 0:
            shutil.rmtree(run)
            continue  # the stop came too late
        figures.trials += 1
        figures.stopped[stop] = figures.stopped.get(stop, 0) + 1
        if problem := look(job, run, whole, stop, figures):
            figures.problems.append(f"job {number}, {stop}: {problem}; exit codes {job.tasks}: {job.output[-500:]}")
        shutil.rmtree(run)
    return figures


def look(job: clusters.Ended, run: Path, whole: Path, stop: str, figures: Figures) -> str:
    """Count how a job ended; return what is wrong, or an empty text."""
    if stop != "node failure":
        if job.tasks[0] != 128 + signal.SIGTERM:
            return "finetune was not stopped by SIGTERM"
        figures.saved += " is saved. Continue with: finetune train " in job.output
    if stop == "cancel":
        if len(job.codes) > 1:
            return "a job that was cancelled started again"
        figures.cancelled += 1
        return ""
    if len(job.codes) != 2:
        return f"the job has {len(job.codes)} starts"
    figures.requeued += 1
    if job.codes[1] != 0:
        return "the second start failed"
    if small.digests(run) != small.digests(whole) or small.scores(run) != small.scores(whole):
        return "other weights, predictions or scores"
    figures.equal += 1
    return ""


def has_step(run: Path, step: int) -> bool:
    """Return whether a run has a complete checkpoint of a step, or a later one."""
    found = [int(path.parent.name.rpartition("-")[2]) for path in run.glob("checkpoint-*/manifest.json")]
    return max(found, default=0) >= step


class Training:
    """What submitit runs: `finetune train --auto-resume`, which is stopped by SIGTERM before the job goes back."""

    def __init__(self, recipe: str, path: str) -> None:
        self.recipe = recipe
        self.path = path
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Train, and return the exit code."""
        call = [sys.executable, "-m", "finetune", "train", self.recipe, "--auto-resume", "--quiet"]
        self.process = subprocess.Popen(call, env={**os.environ, "PYTHONPATH": self.path})
        pid = self.process.pid
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # `wait` would hold a lock that `checkpoint` needs
        return self.process.wait()

    def checkpoint(self) -> Any:
        """Stop the training, which saves a checkpoint, and return what the next start calls."""
        assert self.process is not None
        self.process.terminate()
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(Training(self.recipe, self.path))


def measure_submitit(*, trials: int, seed: int, folder: Path, steps: int = 40) -> Figures:
    """Preempt jobs of submitit's local executor, which starts them again."""
    cloudpickle.register_pickle_by_value(sys.modules[Training.__module__])
    draw, made, figures = random.Random(seed), small.Recipes(folder), Figures(seed)
    whole = straight(made, steps=steps)
    for number in range(trials):
        run = folder / f"submitit-{number}"
        recipe = made.write("full", run, steps=steps)
        executor = submitit.LocalExecutor(folder / "submitit")
        executor.update_parameters(timeout_min=10)
        # the job runs elsewhere, and its recipe names modules of the tests
        job = executor.submit(Training(str(recipe), os.pathsep.join(sys.path)))
        wanted = draw.randint(1, steps // 2)
        while not has_step(run, wanted) and not job.done():
            time.sleep(0.01)
        if job.done():
            raise RuntimeError(f"the job ended before it was preempted:\n{job.stdout()}\n{job.stderr()}")
        for task in psutil.Process(int(job.job_id)).children():  # the scheduler signals tasks, not their launcher
            task.send_signal(signal.SIGUSR2)
        code = job.result()
        figures.trials += 1
        figures.stopped["submitit"] = figures.trials
        log = job.stderr() or ""
        figures.saved += "stopped by SIGTERM at step" in log
        figures.requeued += "Requeued job" in (job.stdout() or "")
        if code == 0 and small.digests(run) == small.digests(whole) and small.scores(run) == small.scores(whole):
            figures.equal += 1
        else:
            figures.problems.append(f"job {number} of submitit: exit code {code}: {log[-500:]}")
        shutil.rmtree(run)
    return figures


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="campaign-preemption-") as folder:
        print(measure(trials=options.trials, seed=options.seed, folder=Path(folder)))
    with tempfile.TemporaryDirectory(prefix="campaign-preemption-") as folder:
        print(measure_submitit(trials=max(1, options.trials // 8), seed=options.seed, folder=Path(folder)))


if __name__ == "__main__":
    main()
