"""Several workers on one machine: processes that work on the same study."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from finetune.kit import Reporter

WORKER = "--worker"
"""The option of `finetune tune` that makes it a worker, which prints no result."""


def work(arguments: Sequence[str], *, count: int, reporter: Reporter) -> None:
    """Run workers until the search and the runs at the end are over, or all workers have ended.

    A worker that dies ends nothing: the others, or the caller, continue its trial from its checkpoint.

    Args:
        arguments: Those of `finetune tune`.
        count: How many workers to run.
        reporter: Shows which of them died.
    """
    started = []
    try:
        for number in range(count):
            command = [sys.executable, "-m", "finetune", "tune", *arguments, WORKER]
            started.append(subprocess.Popen(command, env=environment(number, count)))
        for number, process in enumerate(started):
            code = process.wait()
            if code:
                how = f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"
                reporter.note(f"worker {number} {how}; its trial is continued from its checkpoint")
    except BaseException:
        for process in started:
            process.terminate()  # it saves a checkpoint
        for process in started:
            process.wait()
        raise


def environment(number: int, count: int) -> dict[str, str]:
    """Return the environment of a worker: its share of the cores, and a GPU of its own if there are several."""
    found = dict(os.environ)
    found.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // count, 1)))
    devices = _gpus()
    if len(devices) > 1:
        found["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    return found


def _gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
