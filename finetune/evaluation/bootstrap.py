"""How far a score may be trusted: bootstrap intervals of scores, and of differences between two on the same examples.

What is drawn anew is the independent unit: a context with all of its questions, a prompt with all of its pairs. An
evaluator that says what its scores are made of (`finetune.interfaces.Tallies`) has thousands of resamples scored as a
few products of matrices.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap"; Efron 1987, "Better Bootstrap Confidence
Intervals" (bias-corrected and accelerated, BCa).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from finetune.interfaces import Tallies

Array = Any
"""An array of numpy."""

CONFIDENCE = 0.95
RESAMPLES = 1000
CHUNK = 1 << 22
"""Weights held at one time."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where a score would lie, had other examples of the same kind been drawn: 19 times of 20 between these."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far one score is from another on the same examples."""

    value: float
    """First less second."""
    low: float
    high: float

    def told_apart(self) -> bool:
        """Say whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def intervals(tallies: Tallies, units: Sequence[int] | Array | None = None, *, seed: int = 0) -> dict[str, Interval]:
    """Return the 95 % interval of every score that is a number and of which anything can be said.

    Where all units are alike (every answer right, or a single unit), no resample differs, and the interval is what a
    mean of bounded values can be at that confidence: with 100 of 100 right, from 0.964 to 1. Where no resample differs
    and no bound is known, there is none.

    Args:
        tallies: What the scores are made of, a row an example.
        units: Which independent unit each example belongs to, numbered from 0; None where each is its own.
        seed: Of what is drawn.
    """
    sums = by_unit(tallies.values, units)
    scores = tallies.scores(sums.sum(axis=0))
    drawn = _resampled(lambda weights: tallies.scores(weights @ sums), len(sums), seed)
    left_out = tallies.scores(sums.sum(axis=0) - sums) if len(sums) > 1 else {}
    found = {}
    for name, score in scores.items():
        edges = (0.0, tallies.most[name]) if name in tallies.most else None
        if np.isfinite(score) and (
            bounds := _interval(float(score), drawn[name], left_out.get(name), edges=edges, size=len(sums))
        ):
            found[name] = bounds
    return found


def differences(
    first: Tallies, second: Tallies, units: Sequence[int] | Array | None = None, *, seed: int = 0
) -> dict[str, Difference]:
    """Return, score by score, by how much the first is greater than the second, with its 95 % interval.

    Both are drawn anew together, example by example, so that what is hard for both counts for neither. Where no
    resample differs, see `intervals`: one unit tells nothing apart.
    """
    a, b = by_unit(first.values, units), by_unit(second.values, units)

    def scored(left: Array, right: Array) -> dict[str, Array]:
        one, other = first.scores(left), second.scores(right)
        return {name: one[name] - other[name] for name in one if name in other}

    values = scored(a.sum(axis=0), b.sum(axis=0))
    drawn = _resampled(lambda weights: scored(weights @ a, weights @ b), len(a), seed)
    left_out = scored(a.sum(axis=0) - a, b.sum(axis=0) - b) if len(a) > 1 else {}
    found = {}
    for name, value in values.items():
        if np.isfinite(value):
            most = max(first.most[name], second.most[name]) if name in first.most and name in second.most else None
            edges = None if most is None else (-most, most)
            bounds = _interval(float(value), drawn[name], left_out.get(name), edges=edges, size=len(a))
            if bounds is None and value == 0:  # the same numbers, row by row
                bounds = Interval(low=0.0, high=0.0)
            if bounds is not None:
                found[name] = Difference(value=float(value), low=bounds.low, high=bounds.high)
    return found


def ratios(
    parts: Mapping[str, tuple[Sequence[float] | Array, Sequence[float] | Array]],
    *,
    most: Mapping[str, float] | None = None,
    through: Mapping[str, Callable[[Array], Array]] | None = None,
) -> Tallies:
    """Return tallies of scores that are each one sum by another: means, precision, bits per byte.

    >>> half = ratios({"accuracy": ([1, 0], [1, 1])})
    >>> {name: float(score) for name, score in half.scores(half.values.sum(axis=0)).items()}
    {'accuracy': 0.5}

    Args:
        parts: Score → what each example adds above and below the line.
        most: See `Tallies`.
        through: Score → what is made of the quotient: `numpy.exp` for a perplexity.
    """
    names = list(parts)
    columns = [np.asarray(column, dtype=np.float64) for name in names for column in parts[name]]

    def scores(sums: Array) -> dict[str, Array]:
        found = {}
        for place, name in enumerate(names):
            quotient = safe_divide(sums[..., 2 * place], sums[..., 2 * place + 1])
            found[name] = through[name](quotient) if through and name in through else quotient
        return found

    return Tallies(values=np.stack(columns, axis=1), scores=scores, most=most or {})


def safe_divide(above: Array, below: Array, *, otherwise: float = np.nan) -> Array:
    """Return quotients, and ``otherwise`` where there is nothing to divide by."""
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, otherwise), where=below != 0)


def by_recomputing(
    scores: Callable[[Sequence[int]], Mapping[str, float]],
    size: int,
    units: Sequence[int] | Array | None = None,
    *,
    seed: int = 0,
    resamples: int = 200,
) -> dict[str, Interval]:
    """Return the 95 % intervals of scores that do not add up, such as a rank correlation, by computing each anew.

    Args:
        scores: Returns the scores of examples, given by their places; a place may come twice.
        size: How many examples there are.
        units: See `intervals`.
        seed: Of what is drawn.
        resamples: How often.
    """
    members = _members(np.arange(size) if units is None else np.asarray(units))
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(resamples):
        chosen = np.concatenate([members[unit] for unit in rng.integers(len(members), size=len(members))])
        for name, score in scores(chosen.tolist()).items():
            drawn.setdefault(name, []).append(score)
    found = {}
    for name, values in drawn.items():
        known = np.array(values)[np.isfinite(values)]
        if len(known) and not alike(known, float(known[0])):  # else one unit, or equals: nothing can be said
            low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
            found[name] = Interval(low=float(low), high=float(high))
    return found


def as_unit_ids(values: Sequence[Any]) -> Array:
    """Return for each value the number of its kind, from 0: equal values are one unit.

    >>> numbered(["pier", "quay", "pier"]).tolist()
    [0, 1, 0]
    """
    known: dict[Any, int] = {}
    return np.array([known.setdefault(repr(value), len(known)) for value in values], dtype=np.int64)


def by_unit(values: Array, units: Sequence[int] | Array | None) -> Array:
    """Return the tallies (examples, K) added up by unit: (units, K)."""
    values = np.asarray(values, dtype=np.float64)
    if units is None:
        return values
    units = np.asarray(units)
    sums = np.zeros((int(units.max()) + 1 if len(units) else 0, values.shape[1]))
    np.add.at(sums, units, values)
    return sums


def _resampled(scored: Callable[[Array], dict[str, Array]], size: int, seed: int) -> dict[str, Array]:
    parts = [scored(weights) for weights in _weights(size, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _weights(size: int, seed: int) -> Iterator[Array]:
    """Yield how often each unit is drawn in each of `RESAMPLES` resamples, some resamples (R, units) at a time."""
    rng, left = np.random.default_rng(seed), RESAMPLES
    while left:
        count = min(left, max(1, CHUNK // size))
        drawn = rng.integers(size, size=(count, size)) + np.arange(count)[:, None] * size
        yield np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size).astype(np.float64)
        left -= count


def _interval(
    score: float, drawn: Array, left_out: Array | None, *, edges: tuple[float, float] | None, size: int
) -> Interval | None:
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or alike(drawn, score):
        return None if edges is None else _unmoved(score, edges=edges, size=size)
    low, high = np.quantile(drawn, _levels(score, drawn, left_out))
    return Interval(low=float(low), high=float(high))


def alike(drawn: Array, score: float) -> bool:
    """Say whether no resample differs, but for the last digits of its sums."""
    return bool(np.ptp(drawn) <= 1e-12 * max(1.0, abs(score)))


def _levels(score: float, drawn: Array, left_out: Array | None) -> tuple[float, float]:
    """Return which quantiles of the resamples bound the interval: BCa's, or the plain ones where it is undefined."""
    plain = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    # Ties count half: most scores of small samples are discrete.
    below = float(np.mean(drawn < score) + np.mean(drawn == score) / 2)
    if left_out is None or not 0 < below < 1 or not np.isfinite(left_out).all():
        return plain
    away = left_out.mean() - left_out
    spread = float((away**2).sum())
    if spread <= 0:
        return plain
    bias, acceleration = ndtri(below), float((away**3).sum()) / (6 * spread**1.5)
    shifted = bias + ndtri(np.array(plain))
    low, high = ndtr(bias + shifted / np.maximum(1 - acceleration * shifted, 0.1))
    return float(low), float(high)


def _unmoved(score: float, *, edges: tuple[float, float], size: int) -> Interval:
    """Return what can be said where no resample differs: all units are alike, or there is one.

    Of n independent values that are all alike, a share of at most 1 - (α/2)^(1/n) of all can be elsewhere (Clopper and
    Pearson 1934), at the worst at an edge of what is possible; and so far can the mean be away.
    """
    elsewhere = 1 - ((1 - CONFIDENCE) / 2) ** (1 / size)
    least, most = edges
    score = min(max(score, least), most)
    return Interval(low=score - elsewhere * (score - least), high=score + elsewhere * (most - score))


def _members(units: Array) -> list[Array]:
    order = np.argsort(units, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(units[order])) + 1)
