"""The command in a process of its own that starts in milliseconds: torch is imported once, and each call is a fork."""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # else sums depend on where in memory a matrix lies
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

PRELOADED = (
    "finetune.api", "datasets", "peft", "pytest", "scipy.stats", "sklearn.metrics", "torch", "transformers", "trl",
    "matplotlib.backends.backend_svg", "toy",
)  # fmt: skip
"""What the server imports before the first call."""

TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a call of the command ended."""

    exit_code: int
    """As a shell shows it, but negative for a signal that killed the process: -9."""
    output: str
    """Standard output and standard error, in the order in which they were written."""

    @property
    def is_traceback(self) -> bool:
        """Return whether an error was not explained."""
        return TRACEBACK in self.output


@dataclass(frozen=True)
class Call:
    """A running call of the command."""

    process: BaseProcess
    file: Path
    """Holds what the command has written so far."""

    @property
    def pid(self) -> int:
        """Return the process."""
        assert self.process.pid is not None
        return self.process.pid

    def wait(self, seconds: float = 600) -> Ended:
        """Wait for the end; kill the process if it does not come.

        Raises:
            TimeoutError: It did not end in time.
        """
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"still running after {seconds} s:\n{self.file.read_text(errors='replace')[-2000:]}")
        output = self.file.read_text(encoding="utf-8", errors="replace")
        self.file.unlink()
        return Ended(exit_code=self.process.exitcode, output=output)


def start(
    arguments: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> Call:
    """Call ``finetune`` with arguments, in a fork of a process that has imported everything.

    Args:
        arguments: As on the command line, without ``finetune``.
        folder: The current folder of the call.
        environment: Variables that the call has besides those of this process.
        before: Runs in the fork before the command, to prepare a fault. It must be a function of a module that the fork
            can import (not of a test, which pytest imports by its path), or a `functools.partial` of one.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    descriptor, name = tempfile.mkstemp(prefix="campaign-", suffix=".out")
    os.close(descriptor)
    process = context.Process(
        target=_child, args=(list(arguments), name, str(folder or Path.cwd()), dict(environment or {}), before)
    )
    process.start()
    return Call(process, Path(name))


def call(
    arguments: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
    seconds: float = 600,
) -> Ended:
    """Call ``finetune`` as `start` does, and wait for its end."""
    return start(arguments, folder=folder, environment=environment, before=before).wait(seconds)


def _child(
    arguments: list[str], file: str, folder: str, environment: Mapping[str, str], before: Callable[[], None] | None
) -> None:
    gc.freeze()  # what was imported stays; to look through it again and again takes longer than to train
    written = os.open(file, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(written, stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, encoding="utf-8", closefd=False) for stream in (1, 2))
    os.chdir(folder)
    os.environ.update(environment)
    tempfile.tempdir = None  # what the server found out is not what TMPDIR says now
    code = 1
    try:
        from finetune.cli import main

        if before is not None:
            before()
        main(arguments, prog_name="finetune", standalone_mode=True)
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    finally:
        atexit._run_exitfuncs()  # type: ignore[attr-defined]  # multiprocessing leaves them out
        sys.stdout.flush()
        sys.stderr.flush()
    sys.exit(code)
