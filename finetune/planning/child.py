"""The process that measures a run: ``python -m finetune.planning.child``, with a pickled `Order` on standard input.

A process of its own begins with no memory in use, so its peak is that of the run. It also leaves the caller alive if
the memory is not enough.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune import trust
from finetune.errors import OutOfMemory, ProcessFailed
from finetune.planning.measured import Measured
from finetune.plugins import add_folder
from finetune.recipe import Recipe

KILLED = -9
"""The exit code of a process that the system ended, which it does when the memory is not enough."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to measure."""

    recipe: Recipe
    trusted: trust.State
    quiet: bool
    answer: str
    """The file for the pickled `Measured`, or for the error."""


def measure(recipe: Recipe, *, quiet: bool) -> Measured:
    """Measure a run in a process of its own.

    Args:
        recipe: The run.
        quiet: Whether to show no progress on standard error.

    Raises:
        FinetuneError: The recipe, the data or the model cannot be used.
        OutOfMemory: The system ended the process.
        ProcessFailed: The process ended without a result.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer"
        order = Order(recipe=recipe, trusted=trust.state(), quiet=quiet, answer=str(answer))
        done = subprocess.run(
            [sys.executable, "-P", "-m", "finetune.planning.child"],
            input=pickle.dumps(order),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            check=False,
        )
        found: Any = pickle.loads(answer.read_bytes()) if answer.is_file() else None
    if isinstance(found, Measured):
        return found
    if isinstance(found, BaseException):
        raise found
    if done.returncode == KILLED:
        raise OutOfMemory(
            "the system ended the process that measured the run, most likely because the memory was not enough. Plan "
            "for a device that has more: --gpu."
        )
    raise ProcessFailed(f"the process that measured the run ended with code {done.returncode}, without a result.")


def main() -> None:
    """Read the order, measure, and write the answer."""
    order: Order = pickle.load(sys.stdin.buffer)
    for folder in trust.restore(order.trusted):
        add_folder(folder)
    from finetune import plan as plans
    from finetune.planning import probe
    from finetune.plugins import discover
    from finetune.prediction.engines import portable
    from finetune.progress import Console, Reporter

    try:
        found: object = probe.measure(
            plans.make(order.recipe, discover()), reporter=Reporter() if order.quiet else Console()
        )
    except Exception as error:  # noqa: BLE001, the caller shows it
        found = portable(error)
    Path(order.answer).write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    from finetune.planning import child  # an `Order` belongs to that module, and not to `__main__`

    child.main()
