"""Show the progress of a run on standard error: bars on a terminal, lines of text elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

BYTES = 2**20

QUIET = 10
"""Seconds after which something is shown of a phase, if the output is no terminal."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of a run, with its time and memory."""

    name: str
    """What the run does in it: ``train``."""
    seconds: float
    """Wall time."""
    peak_memory_mb: float
    """Peak resident memory of the process during the phase in MiB, sampled every 50 ms."""
    peak_gpu_memory_mb: float | None = None
    """Peak memory allocated on the GPU in MiB; None without a GPU."""


class Reporter:
    """Receives the phases, notes and steps of a run. This class keeps the phases and shows nothing.

    Override `began`, `ended`, `note` and `step` to show them.
    """

    def __init__(self) -> None:
        self.phases: list[Phase] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure time and memory of a `with` block.

        Args:
            name: Name of the phase.
        """
        self.began(name)
        watch = _Watch()
        with watch:
            yield
        self.phases.append(Phase(name=name, **asdict(watch.measured)))
        self.ended(self.phases[-1])

    def began(self, name: str) -> None:
        """Receive the start of a phase."""

    def ended(self, phase: Phase) -> None:
        """Receive the end of a phase that did not fail."""

    def note(self, text: str) -> None:
        """Receive a sentence that the user must read."""

    def step(self, done: int, total: int, **numbers: float) -> None:
        """Receive the progress of the phase.

        Args:
            done: Number of steps that are done.
            total: Number of all steps.
            **numbers: Numbers to show, such as the loss.
        """


class Console(Reporter):
    """Shows phases, bars and notes on standard error."""

    def __init__(self) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__()
        self.console = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        self._columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=20),  # a line fits into 80 columns
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[numbers]}"),
        )
        self._progress_class = Progress
        self._bar: Any = None
        self._task: Any = None
        self._name = ""
        self._printed = 0.0
        """When the last line was printed."""
        self._status: Any = None
        """The line that names the phase on a terminal, until its bar appears."""
        self._timer: threading.Timer | None = None
        """Names the phase elsewhere, if it takes long."""

    def began(self, name: str) -> None:
        """Name the phase; its bar appears with the first step. Without a terminal, name it after ten seconds."""
        self._name = name
        self._printed = time.monotonic()
        if self.console.is_terminal:
            self._status = self.console.status(f"{name} …")
            self._status.start()
        else:
            self._timer = threading.Timer(QUIET, self._still)
            self._timer.daemon = True
            self._timer.start()

    def _still(self) -> None:
        self._printed = time.monotonic()
        self.console.print(f"  {self._name} …")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure time and memory of a `with` block, and show it."""
        try:
            with super().phase(name):
                yield
        finally:
            self._close()

    def ended(self, phase: Phase) -> None:
        """Close the bar, and print a line with the time."""
        self._close()
        self.console.print(f"[green]✓[/] {phase.name} [dim]{phase.seconds:.1f} s[/]")

    def note(self, text: str) -> None:
        """Print a line."""
        from rich.markup import escape

        self.console.print(f"  {escape(text)}")

    def step(self, done: int, total: int, **numbers: float) -> None:
        """Advance the bar; without a terminal, print a line every ten seconds."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        if not self.console.is_terminal:
            if self._name and time.monotonic() - self._printed > QUIET:
                self._cancel()
                self._printed = time.monotonic()
                self.console.print(f"  {self._name}: {done} of {total}  {shown}".rstrip())
            return
        if self._bar is None:
            self._close()
            self._bar = self._progress_class(*self._columns, console=self.console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=total, numbers=shown)
        fields = {"numbers": shown} if shown else {}
        self._bar.update(self._task, completed=done, total=total, **fields)
        if done >= total:
            self._close()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._cancel()
        if self._status is not None:
            self._status.stop()
            self._status = None
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@dataclass
class _Measured:
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    peak_gpu_memory_mb: float | None = None


@dataclass
class _Watch:
    """Samples the memory of this process in a thread."""

    measured: _Measured = field(default_factory=_Measured)

    def __enter__(self) -> None:
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._gpu = _gpu()
        if self._gpu:
            self._gpu.reset_peak_memory_stats()
        self._began = time.perf_counter()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.measured.seconds = round(time.perf_counter() - self._began, 3)
        if self._gpu:
            self.measured.peak_gpu_memory_mb = round(self._gpu.max_memory_allocated() / BYTES, 1)

    def _sample(self) -> None:
        while True:
            used = round(self._process.memory_info().rss / BYTES, 1)
            self.measured.peak_memory_mb = max(self.measured.peak_memory_mb, used)
            if self._stop.wait(0.05):
                return


def _gpu() -> Any:
    """Return `torch.cuda` if torch is imported and has a GPU, else None."""
    import sys

    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


@contextmanager
def suppress_progress_bars() -> Iterator[None]:
    """Hide the progress bars of `datasets`, which it can only switch off globally."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()
