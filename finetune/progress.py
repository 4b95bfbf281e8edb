"""Show the progress of a run on standard error: bars on a terminal, lines of text elsewhere."""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
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


BAR = 20
"""Cells of a bar, if the line has room for them."""


class Console(Reporter):
    """Shows phases, bars and notes on standard error.

    Args:
        lasting: Whether a line stays of each phase, with its time. If not, a phase is shown while it lasts.
    """

    def __init__(self, *, lasting: bool = True) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import Progress

        super().__init__()
        self.console = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        self._lasting = lasting
        self._progress_class = Progress
        self._bar: Any = None
        self._task: Any = None
        self._name = ""
        self._printed = 0.0
        """When the last line was printed."""
        self._first: tuple[int, float] | None = None
        """The first step of the phase that was seen, and when."""
        self._status: Any = None
        """The line that names the phase on a terminal, until its bar appears."""
        self._timer: threading.Timer | None = None
        """Names the phase elsewhere, if it takes long."""

    def began(self, name: str) -> None:
        """Name the phase; its bar appears with the first step. Without a terminal, name it after ten seconds."""
        self._name = name
        self._printed = time.monotonic()
        self._first = None
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
            self._name = ""

    def ended(self, phase: Phase) -> None:
        """Close the bar, and print a line with the time."""
        self._close()
        if self._lasting:
            self.console.print(f"[green]✓[/] {phase.name} [dim]{phase.seconds:.1f} s[/]")

    def note(self, text: str) -> None:
        """Print a line, which breaks between words on a terminal."""
        from rich.markup import escape

        lines = [text]
        if self.console.is_terminal:
            lines = textwrap.wrap(text, max(self.console.width - 2, 20), break_long_words=False, break_on_hyphens=False)
        for line in lines:
            self.console.print(f"  {escape(line)}")

    def step(self, done: int, total: int, **numbers: float) -> None:
        """Advance the bar; without a terminal, print a line every ten seconds."""
        pieces = [f"{name} {value:.4g}" for name, value in numbers.items()]
        left = self._left(done, total)
        if not self.console.is_terminal:
            if self._name and time.monotonic() - self._printed > QUIET:
                self._cancel()
                self._printed = time.monotonic()
                self.console.print("  ".join([f"  {self._name}: {done} of {total}{left}", *pieces]))
            return
        if self._bar is None:
            self._close()
            self._bar = self._progress_class(*self._columns(total), console=self.console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=total, numbers="")
        fields = {"numbers": fitting(pieces, self._room(total))} if pieces else {}
        self._bar.update(self._task, completed=done, total=total, **fields)
        if done >= total:
            self._close()

    def _columns(self, total: int) -> list[Any]:
        """Return the columns of a line; all but the numbers are always whole."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.table import Column

        return [
            TextColumn("  {task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=self._bar_width(total), table_column=Column(no_wrap=True)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("[dim]{task.fields[numbers]}"),
        ]

    def _bar_width(self, total: int) -> int:
        return max(min(BAR, self.console.width - self._taken(total)), 3)

    def _taken(self, total: int) -> int:
        """Return the cells that the name, the count, the time left and the spaces between the columns take."""
        return 2 + len(self._name) + 2 * len(str(total)) + 1 + len("00:00:00") + 4

    def _room(self, total: int) -> int:
        """Return the cells that are left for numbers."""
        return self.console.width - self._taken(total) - self._bar_width(total)

    def _left(self, done: int, total: int) -> str:
        """Return how long the phase will still take, if that can be known."""
        now = time.monotonic()
        if self._first is None:
            self._first = (done, now)  # what comes before the first step says nothing about the others
        first, began = self._first
        if done <= first or done >= total:
            return ""
        minutes, seconds = divmod(round((now - began) / (done - first) * (total - done)), 60)
        return f", {minutes}:{seconds:02} left"

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


def fitting(pieces: Sequence[str], room: int) -> str:
    """Return the first pieces that fit into some cells, each whole.

    >>> fitting(["loss 0.5", "grad_norm 0.1"], 20), fitting(["loss 0.5", "grad_norm 0.1"], 4)
    ('loss 0.5', '')
    """
    text = ""
    for piece in pieces:
        longer = f"{text}  {piece}" if text else piece
        if len(longer) > room:
            break
        text = longer
    return text


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
