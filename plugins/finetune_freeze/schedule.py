"""When each stage of a gradual thaw begins: arithmetic of steps, and nothing else."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from math import ceil


def evenly(stages: int, *, steps: int) -> list[int]:
    """Return the step before which each stage begins, so that all are equally long.

    >>> evenly(4, steps=10)
    [0, 2, 5, 7]

    Source: Raffel et al. 2020, section 3.5.1 ("episodes" of equal length).
    """
    return [stage * steps // stages for stage in range(stages)]


def regularly(stages: int, *, every: float, steps_per_unit: int) -> list[int]:
    """Return the step before which each stage begins, one each so many units; a unit is one step, or an epoch's.

    >>> regularly(3, every=0.5, steps_per_unit=12)
    [0, 6, 12]

    Source: Howard & Ruder 2018, section 3.3, where a layer thaws each epoch.
    """
    length = Fraction(str(every)) * steps_per_unit  # exact: 3 × 0.1 epochs are not more than 0.3
    return [ceil(stage * length) for stage in range(stages)]


def stage_at(step: int, begins: Sequence[int]) -> int:
    """Return the stage that a step is made in; the first is 0.

    >>> [stage_at(step, [0, 2, 5]) for step in range(6)]
    [0, 0, 1, 1, 1, 2]
    """
    return bisect_right(begins, step) - 1
