"""Two ways of the same work, timed in turn: the ratio of their CPU seconds, and a row of `docs/reference/speed.md`."""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How much less CPU time our way takes than the reference."""

    work: str
    reference: str
    """What the reference is."""
    ours: float
    """CPU seconds, the median."""
    theirs: float
    ratio: float
    """Median of the ratios of each turn."""
    least: float
    most: float
    goal: float
    limit: str = ""
    """What keeps the ratio from growing, or what the reference leaves out."""
    command: str = ""

    def __str__(self) -> str:
        met = "met" if self.ratio >= self.goal else "NOT MET"
        return (
            f"{self.work}: {self.ours:.3f} CPU s; {self.reference}: {self.theirs:.3f} CPU s; {self.ratio:.2f}× "
            f"[{self.least:.2f}-{self.most:.2f}], goal {self.goal:g}×: {met}"
        )

    def row(self) -> str:
        """Return a row of the table."""
        met = "" if self.ratio >= self.goal else ", not met"
        cells = (
            self.work,
            f"{self.reference}: {_seconds(self.theirs)}",
            _seconds(self.ours),
            f"{self.ratio:.2f}× ({self.least:.2f}-{self.most:.2f})",
            f"{self.goal:g}×{met}",
            self.limit,
            f"`{self.command}`",
        )
        return "| " + " | ".join(cells) + " |"


def _seconds(value: float) -> str:
    return f"{value:.3g} s"


def compare(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    *,
    repeats: int,
    same: Callable[[Any, Any], bool] | None = None,
    **line: Any,
) -> Ratio:
    """Time two ways in turn, so that neither has the quieter machine.

    Args:
        ours: Our way.
        theirs: The reference.
        repeats: Turns.
        same: Returns whether their results are the same; None if these cannot be compared.
        **line: Further fields of `Ratio`.

    Raises:
        SystemExit: The results differ.
    """
    times: list[tuple[float, float]] = []
    for number in range(repeats):
        # the one that begins changes with each turn
        pair = [_timed(ours), _timed(theirs)] if number % 2 == 0 else [_timed(theirs), _timed(ours)][::-1]
        if same is not None and not same(pair[0][1], pair[1][1]):
            raise SystemExit(f"{line['work']}: the results differ")
        times.append((pair[0][0], pair[1][0]))
    ratios = [second / first for first, second in times]
    return Ratio(
        ours=median(first for first, _ in times),
        theirs=median(second for _, second in times),
        ratio=median(ratios),
        least=min(ratios),
        most=max(ratios),
        **line,
    )


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    began = time.process_time()
    result = work()
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Seconds):
        return float(result[0]), result[1]
    return time.process_time() - began, result


class Seconds(float):
    """CPU seconds that a way measured itself, because a part of it does not count."""


def main(lines: Callable[[int], Iterator[Ratio]], *, about: str) -> None:
    """Print a line for each comparison of a script.

    Args:
        lines: Returns the comparisons, for a number of repeats.
        about: The docstring of the script.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    for line in lines(parser.parse_args().repeats):
        print(line, flush=True)
