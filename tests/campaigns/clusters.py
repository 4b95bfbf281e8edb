"""A Slurm of one machine: it runs a batch script as Slurm does, with stand-ins for `srun`, `scancel` and `scontrol`.

It starts `finetune` in a fork that has imported torch, so that a start takes a second. What it copies of Slurm was read
in the source of Slurm 26.05: `srun` forwards signals, but kills its tasks on SIGTERM; `scancel --signal` reaches the
tasks, and not the batch script; at the time limit, the batch script gets its signal.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import command

COMMANDS = {
    "srun": """
        trap 'echo KILL > "$CLUSTER/signal"' TERM
        trap 'echo USR1 > "$CLUSTER/signal"' USR1
        printf '%s\\0' "$@" > "$CLUSTER/task.new" && mv "$CLUSTER/task.new" "$CLUSTER/task"
        while [ ! -e "$CLUSTER/ended" ]; do sleep 0.1; done
        exit "$(cat "$CLUSTER/ended")"
        """,
    "scancel": """
        [ "$1" = --signal=TERM ] && [ "$2" = "$SLURM_JOB_ID" ] && [ $# = 2 ] || exit 1
        echo TERM > "$CLUSTER/signal"
        """,
    "scontrol": """
        case "$1" in
            requeue) [ "$2" = "$SLURM_JOB_ID" ] && [ $# = 2 ] && touch "$CLUSTER/requeued" ;;
            show) [ "$2" = hostnames ] && echo localhost ;;
            *) exit 1 ;;
        esac
        """,
}

STOPS = ("time limit", "preemption", "node failure", "cancel")
"""Ways in which a job ends before its time."""

LONGEST = 120
"""Seconds that one start of a job may take."""


@dataclass
class Ended:
    """What a job did."""

    codes: list[int] = field(default_factory=list)
    """Exit code of the batch script in each start."""
    tasks: list[int] = field(default_factory=list)
    """Exit code of `finetune` in each start; negative for a signal that killed it."""
    output: str = ""
    """What the job and its tasks have written."""
    options: dict[str, str] = field(default_factory=dict)
    """The lines `#SBATCH` of the script."""


class Cluster:
    """Runs jobs in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands = folder / "bin"
        self.commands.mkdir(parents=True, exist_ok=True)
        for name, text in COMMANDS.items():
            path = self.commands / name
            path.write_text(f"#!/bin/bash\n{text}")
            path.chmod(0o755)

    def sbatch(self, script: Path, *, stop: str = "", when: Callable[[], bool] = lambda: False) -> Ended:
        """Submit a job, and wait until it is over and not in the queue again.

        Args:
            script: The batch script.
            stop: One of `STOPS`; it happens to the first start.
            when: Returns whether the moment for it has come.
        """
        job = Ended(options=dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script.read_text(), re.MULTILINE)))
        while True:
            self._start(script, job, stop=stop if not job.codes else "", when=when)
            requeued = (self.folder / "requeued").exists()
            by_slurm = stop in ("preemption", "node failure") and len(job.codes) == 1 and "requeue" in job.options
            if not (requeued or by_slurm):
                return job

    def _start(self, script: Path, job: Ended, *, stop: str, when: Callable[[], bool]) -> None:
        for name in ("task", "ended", "signal", "requeued"):
            (self.folder / name).unlink(missing_ok=True)
        batch = self._batch(script, restarts=len(job.codes))
        deadline = time.monotonic() + LONGEST
        while not (self.folder / "task").exists() and batch.poll() is None:
            time.sleep(0.01)
        task: command.Call | None = None
        if (self.folder / "task").exists():
            words = (self.folder / "task").read_text().split("\0")[:-1]
            task = command.start(words[words.index("finetune") + 1 :])
        while task is not None and task.process.is_alive():
            if time.monotonic() > deadline:
                task.process.kill()
            if stop and when():
                self._stop(stop, batch, task)
                stop = ""
            if (self.folder / "signal").exists():
                name = (self.folder / "signal").read_text().strip()
                if name:
                    (self.folder / "signal").unlink()
                    os.kill(task.pid, signal.Signals[f"SIG{name}"])
            time.sleep(0.01)
        if task is not None:
            ended = task.wait()
            job.tasks.append(ended.exit_code)
            job.output += ended.output
            written = self.folder / "ended.new"
            written.write_text(str(ended.exit_code % 256 if ended.exit_code >= 0 else 128 - ended.exit_code))
            written.rename(self.folder / "ended")
        output, _ = batch.communicate(timeout=30)
        job.output += output
        job.codes.append(batch.returncode)

    def _batch(self, script: Path, *, restarts: int) -> subprocess.Popen[str]:
        variables = {
            "PATH": f"{self.commands}:{os.environ['PATH']}",
            "CLUSTER": str(self.folder),
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_CPUS_PER_TASK": "1",
        }
        if restarts:
            variables["SLURM_RESTART_COUNT"] = str(restarts)
        return subprocess.Popen(
            ["bash", str(script)], env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def _stop(self, stop: str, batch: subprocess.Popen[str], task: command.Call) -> None:
        if stop == "time limit":
            os.kill(batch.pid, signal.SIGUSR1)
        elif stop == "preemption":
            os.kill(task.pid, signal.SIGTERM)
        elif stop == "node failure":
            os.kill(batch.pid, signal.SIGKILL)
            os.kill(task.pid, signal.SIGKILL)
        elif stop == "cancel":
            os.kill(batch.pid, signal.SIGTERM)
            os.kill(task.pid, signal.SIGTERM)
        else:
            raise ValueError(stop)
