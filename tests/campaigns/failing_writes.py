"""Let one operation on a file fail in a whole run: ``python tests/campaigns/failing_writes.py``.

A first run counts the operations that write below its folder: open, write, fsync, rename,
mkdir, unlink, and those of safetensors and torch. Then each trial lets one of them fail, with the error of a full disk,
a quota, a failing disk, a read-only disk or missing rights; a failing write leaves half of its content. Further trials
limit the size of every file. Each must end with one line and its own exit code. Where a checkpoint was complete, the
run is resumed, and its weights must equal those of a run without a fault to the bit.
"""

from __future__ import annotations

import argparse
import errno
import functools
import hashlib
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import machine_faults
import out_of_memory
from command import Ended, call
from scorecard import Line, record

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES)
CODES = (0, 4, 6)
"""0 if the operation is one that may fail, such as removing a temporary file."""
SIZES = 20
STEPS = ("training.max_steps=4",)


@dataclass
class Figures:
    """What happened in all trials."""

    trials: int = 0
    explained: int = 0
    """Runs that ended with one line and the right exit code."""
    resumable: int = 0
    """Failed runs with a complete checkpoint."""
    equal: int = 0
    """Of these, those that continued and ended with the same weights."""
    trouble: str = ""
    """The first thing that went wrong."""


def digest(run: Path) -> str:
    """Return the digest of the weights of a finished run."""
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def is_explained(ended: Ended) -> bool:
    """Return whether a command ended well, or with one line that says what failed, and the exit code of that."""
    lines = [line for line in ended.output.splitlines() if "error: " in line]
    return ended.exit_code in CODES and not ended.is_traceback and len(lines) == (ended.exit_code != 0)


def measure(faults: int, sizes: int, folder: Path, *, seed: int) -> Figures:
    """Return the figures.

    Args:
        faults: How many operations fail, one in each trial. They are spread over the whole run.
        sizes: How many limits of the size of files are tried.
        folder: An empty folder.
        seed: Seed of the choice of errors.
    """
    recipe, found, draw = out_of_memory.prepare(folder), Figures(), random.Random(seed)
    words = ["train", str(recipe), *STEPS]
    log = folder / "operations.txt"
    count = functools.partial(machine_faults.fail_once, str(folder / "run"), 0, 0, str(log))
    ended = call(words, folder=folder, before=count)
    assert ended.exit_code == 0, ended.output
    wanted, total = digest(folder / "run"), len(log.read_text(encoding="utf-8").splitlines())
    for trial in range(faults):
        number = 1 + trial * total // faults
        error = ERRORS[(trial + draw.randrange(2)) % len(ERRORS)]
        fault = functools.partial(machine_faults.fail_once, str(folder / "run"), number, error)
        _try(found, folder, words, fault, wanted, f"operation {number} of {total}, {os.strerror(error)}")
    largest = max(path.stat().st_size for path in (folder / "run").rglob("*") if path.is_file())
    for trial in range(sizes):
        size = (trial + 1) * largest // (sizes + 1)
        _try(found, folder, words, functools.partial(machine_faults.limit_files, size), wanted, f"{size} bytes a file")
    return found


def _try(found: Figures, folder: Path, words: list[str], fault: Callable[[], None], wanted: str, what: str) -> None:
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    ended = call(words, folder=folder, before=fault)
    found.trials += 1
    if is_explained(ended):
        found.explained += 1
    else:
        found.trouble = found.trouble or f"{what}: exit {ended.exit_code}: {ended.output[-1500:]}"
    if not list(run.glob("checkpoint-*/manifest.json")) or (run / "result.json").is_file():
        return
    found.resumable += 1
    ended = call([*words, "--resume"], folder=folder)
    if ended.exit_code == 0 and digest(run) == wanted:
        found.equal += 1
    else:
        found.trouble = found.trouble or f"{what}, resumed: exit {ended.exit_code}: {ended.output[-1500:]}"


def main() -> None:
    """Measure the line, and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100, help="How many operations fail.")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.trials, SIZES, Path(folder), seed=arguments.seed)
    if found.trouble:
        print(found.trouble)
    record(
        Line(
            name="failing writes",
            goal="100 faults and 20 limits of the size of files: one line, its own exit code, no traceback; the "
            "previous checkpoint resumes to the bit",
            stock="a half-written checkpoint, from which the next resume dies",
            ours=f"{found.explained} of {found.trials} explained; {found.equal} of {found.resumable} with a checkpoint "
            "resumed to the bit",
            met=arguments.trials >= 100 and found.trials == found.explained and found.resumable == found.equal,
            not_covered="The faults are injected in Python, in the run folder; no disk was full, and none failed.",
        ),
        started=started,
    )


if __name__ == "__main__":
    main()
