"""Scores and differences with their intervals, placed on one axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.evaluation import verdicts

MARGIN = 0.06
"""Share of the axis that stays free at each end."""
FINEST = 1e-3
"""Least room at each end of an axis: scores are shown with three decimals."""
STEPS = (1.0, 2.0, 5.0, 10.0)
"""A step between ticks is one of these times a power of ten."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A number to place on an axis."""

    name: str
    value: float
    bounds: Mapping[str, float] | None = None
    """``low`` and ``high`` of its interval."""
    tone: str = ""
    """How it looks: ``main``, ``good``, ``bad``, or as the others."""
    size: int | None = None
    """Number of rows behind it."""


def panel(
    points: Iterable[Point], *, mark: float | None = None, differences: bool = False, ends: Iterable[float] = ()
) -> dict[str, Any] | None:
    """Return the places of points on one axis, in percent of its width, and its ticks; None without a finite number.

    Args:
        points: What to show, in order.
        mark: A number that a line marks, such as 0, or the score of all rows.
        differences: Whether numbers are differences, shown with their sign.
        ends: Numbers that the axis must also hold, so that several panels have the same axis.
    """
    shown = [point for point in points if math.isfinite(point.value)]
    if not shown:
        return None
    numbers = [*ends_of(shown), *filter(math.isfinite, ends)]
    if mark is not None and math.isfinite(mark):
        numbers.append(mark)
    low, high = min(numbers), max(numbers)
    largest = max(abs(low), abs(high))
    room = max((high - low) * MARGIN, FINEST, 1e-6 * largest) if high > low else max(largest * MARGIN, FINEST)
    low, high = low - room, high + room

    def at(number: float) -> float:
        return round(100 * (number - low) / (high - low), 2)

    rows = []
    for point in shown:
        bounds = _finite_bounds(point)
        row: dict[str, Any] = {"name": point.name, "tone": point.tone, "size": point.size, "at": at(point.value)}
        row["shown"] = verdicts.signed(point.value) if differences else verdicts.format_score(point.value)
        row |= {"low_at": None, "width": None, "span": ""}
        if bounds:
            row |= {"low_at": at(bounds[0]), "width": round(at(bounds[1]) - at(bounds[0]), 2), "span": span(bounds)}
        rows.append(row)
    marked = at(mark) if mark is not None and math.isfinite(mark) else None
    found = [{"at": at(number), "text": text} for number, text in ticks(low, high)]
    return {"rows": rows, "ticks": found, "mark": marked}


def ends_of(points: Iterable[Point]) -> list[float]:
    """Return the finite numbers that an axis for points must hold."""
    numbers = [number for point in points for number in (point.value, *_finite_bounds(point))]
    return [number for number in numbers if math.isfinite(number)]


def span(bounds: Sequence[float]) -> str:
    """Return an interval as text."""
    return f"{verdicts.format_score(bounds[0])} to {verdicts.format_score(bounds[1])}"


def ticks(low: float, high: float, *, most: int = 5) -> list[tuple[float, str]]:
    """Return at most `most` round numbers between two numbers, with equal distances, and their texts.

    Examples:
        >>> ticks(0.13, 0.97)
        [(0.2, '0.2'), (0.4, '0.4'), (0.6, '0.6'), (0.8, '0.8')]
        >>> [text for _, text in ticks(-3.0, 41.0)]
        ['0', '10', '20', '30', '40']
    """
    width = high - low
    if not (width > 0 and math.isfinite(width)):
        return []
    power = 10.0 ** math.floor(math.log10(width / most))
    # After the last of these steps, at most `most` numbers can lie between the ends.
    for step in (factor * power for factor in (*STEPS, 20.0)):
        first, last = math.ceil(low / step), math.floor(high / step)
        if last - first + 1 <= most:
            decimals = max(0, -math.floor(math.log10(step) + 1e-9))
            return [(round(count * step, 12), f"{count * step:,.{decimals}f}") for count in range(first, last + 1)]
    return []


def _finite_bounds(point: Point) -> tuple[float, ...]:
    """Return the ends of the interval of a point, if both are numbers."""
    if point.bounds is None:
        return ()
    ends = (point.bounds["low"], point.bounds["high"])
    return ends if all(map(math.isfinite, ends)) else ()
