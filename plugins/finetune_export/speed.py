"""How long a model takes for a batch, beside another model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

SIZES = (1, 32)
"""Rows of a batch that are timed."""
CALLS = 100
"""Most batches of each size that are timed."""
SECONDS = 5.0
"""Longest time for the batches of one size and one model."""
WARM_UP = 2
"""Batches that are computed before, and not timed."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Times of batches of one size."""

    size: int
    """Rows of a batch."""
    calls: int
    p50_ms: float
    p99_ms: float
    rows_per_second: float
    """Of a stream of such batches."""


def measure(models: Mapping[str, Any], rows: Any) -> dict[str, list[Speed]]:
    """Time several models on the same batches of real rows, in turns, so that other work of the machine slows each.

    Args:
        models: Name → its `Inference`.
        rows: Checked rows.

    Returns:
        Name → its times for each of `SIZES`. The tokenizer's time is not counted.
    """
    found: dict[str, list[Speed]] = {name: [] for name in models}
    first = next(iter(models.values()))
    made = first.features(rows, answers=False)
    for size in SIZES:
        batches = _batches(first, made, size)
        times: dict[str, list[float]] = {name: [] for name in models}
        for number in range(WARM_UP + CALLS):
            batch = batches[number % len(batches)]
            for name, model in models.items():
                seconds = _timed(model, batch)
                if number >= WARM_UP:
                    times[name].append(seconds)
            if any(sum(own) > SECONDS for own in times.values()):
                break
        for name, own in times.items():
            found[name].append(_summary(size, own))
    return found


def _batches(model: Any, made: Any, size: int) -> list[Mapping[str, Any]]:
    """Return full batches of rows in their order, from the beginning again if there are fewer."""
    number = len(made.features)
    wanted = max(size, min(number, (WARM_UP + CALLS) * size) // size * size)
    chosen = [place % number for place in range(wanted)]
    return list(model.batches(replace(made, features=made.features.select(chosen)), size=size))


def _timed(model: Any, batch: Mapping[str, Any]) -> float:
    started = time.perf_counter()
    model.answer(batch)
    return time.perf_counter() - started


def _summary(size: int, seconds: Sequence[float]) -> Speed:
    middle, slow = (1000 * float(np.percentile(seconds, share)) for share in (50, 99))
    return Speed(
        size=size,
        calls=len(seconds),
        p50_ms=middle,
        p99_ms=slow,
        rows_per_second=size * len(seconds) / sum(seconds),
    )
