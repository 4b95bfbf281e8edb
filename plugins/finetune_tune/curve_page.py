"""The page of a learning curve: its sentence, a picture, a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.kit import axis_ticks, render_page, verdicts, write_atomically
from finetune_tune.curve import numbers

PAGE = "report.html"
WIDTH, HEIGHT = 480, 300
"""Size of the picture in its own units; on a phone it is as wide as the page, and its text keeps its size."""
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 44
"""What its edges keep for the numbers of the axes."""
ROOM = 0.08
"""Share of the scores' range that stays free above and below."""
MARGIN = 1.12
"""Factor by which the axis of the rows goes on at both ends."""


def write(found: Mapping[str, Any], output: Path) -> Path:
    """Write the page of a curve into its folder, and return its path."""
    path = output / PAGE
    write_atomically(path, page(found))
    return path


def page(found: Mapping[str, Any]) -> str:
    """Return a curve as one HTML file.

    Args:
        found: The content of `curve.json`.
    """
    doubling = found["doubling"]
    factor = found["factor"] if found["greater_is_better"] else -found["factor"]
    value = None
    if doubling is not None:
        ends = sorted([factor * doubling["low"], factor * doubling["high"]])
        value = dict(zip(("value", "low", "high"), numbers([factor * doubling["value"], *ends]), strict=True))
    return render_page(
        Path(__file__).parent,
        "curve.html",
        found=found,
        picture=picture(found),
        worth=value,
        runs=_runs(found),
    )


def _runs(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the runs of each size, with their scores and folders."""
    count = len(found["seeds"])
    rows = []
    for place, point in enumerate(found["points"]):
        names = found["runs"][place * count : (place + 1) * count]
        each = [
            {"seed": seed, "score": score, "folder": name}
            for seed, score, name in zip(found["seeds"], point["scores"], names, strict=True)
        ]
        rows.append({**point, "each": each})
    return rows


def picture(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return where everything in the picture is, in its own units; None without a finite score.

    Args:
        found: The content of `curve.json`.
    """
    numbers = list(_numbers(found))
    if not numbers:
        return None
    low, high = min(numbers), max(numbers)
    room = max((high - low) * ROOM, 1e-3)
    low, high = low - room, high + room
    sizes = [point["size"] for point in found["points"]]
    ends = math.log(sizes[0] / MARGIN), math.log((2 if found["curve"] else 1) * sizes[-1] * MARGIN)

    def x(size: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (math.log(size) - ends[0]) / (ends[1] - ends[0]), 1)

    def y(score: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (score - low) / (high - low), 1)

    points = []
    for point in found["points"]:
        points.append(
            {
                "x": x(point["size"]),
                "y": y(point["value"]),
                "low": y(point["low"]),
                "high": y(point["high"]),
                "each": [y(score) for score in point["scores"]],
            }
        )
    known = [entry for entry in found["curve"] if entry["size"] <= sizes[-1] * (1 + 1e-9)]
    beyond = [entry for entry in found["curve"] if entry["size"] >= sizes[-1] * (1 - 1e-9)]
    shown = [*sizes, 2 * sizes[-1]] if found["curve"] else sizes
    there = [(x(entry["size"]), y(entry["high"])) for entry in found["curve"]]
    back = [(x(entry["size"]), y(entry["low"])) for entry in reversed(found["curve"])]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
        "middle": (LEFT + WIDTH - RIGHT) / 2,
        "points": points,
        "band": _path([*there, *back]),
        "line": _path([(x(entry["size"]), y(entry["value"])) for entry in known]),
        "beyond": _path([(x(entry["size"]), y(entry["value"])) for entry in beyond]),
        "sizes": [{"x": x(size), "text": f"{size:,}", "known": size <= sizes[-1]} for size in shown],
        "ticks": [{"y": y(number), "text": text} for number, text in axis_ticks(low, high)],
        "spoken": _spoken(found),
    }


def _numbers(found: Mapping[str, Any]) -> Sequence[float]:
    numbers: list[float] = []
    for point in [*found["points"], *found["curve"]]:
        numbers += [point["value"], point["low"], point["high"], *point.get("scores", ())]
    return [number for number in numbers if isinstance(number, int | float) and math.isfinite(number)]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)


def _spoken(found: Mapping[str, Any]) -> str:
    """Return the picture in words."""
    parts = [f"{verdicts.format_score(point['value'])} with {point['size']:,} rows" for point in found["points"]]
    return f"{found['score']} on {found['split']}: {', '.join(parts)}."
