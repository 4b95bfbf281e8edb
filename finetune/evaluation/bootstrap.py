"""Bootstrap intervals of scores, and of differences between two scores on the same examples.

The bootstrap resamples independent units: a context with all its questions, a prompt with all its
pairs. If an evaluator gives tallies (`finetune.interfaces.Tallies`), a few matrix products score
all resamples.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap"; Efron 1987, "Better Bootstrap
Confidence Intervals" (bias-corrected and accelerated, BCa).
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
"""Most weights in memory at one time."""
MOST_SUMS = 1 << 22
"""Most sums of which scores are computed at one time."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95% interval: other samples of the same kind would give a score between these in 19 of 20 cases."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The difference of two scores on the same examples, with its 95% interval."""

    value: float
    """First − second."""
    low: float
    high: float


def intervals(tallies: Tallies, units: Sequence[int] | Array | None = None, *, seed: int = 0) -> dict[str, Interval]:
    """Return the 95% interval of every score that has one.

    If all units are equal (every answer is right, or there is one unit), no resample differs. The
    interval is then that of a mean of bounded values at this confidence: with 100 of 100 right,
    from 0.964 to 1. If the score has no known bounds, it has no interval in this case.

    Args:
        tallies: One row for each example.
        units: The independent unit of each example, numbered from 0; None if each example is
            independent.
        seed: Seed of the resamples.
    """
    sums = by_unit(tallies.values, units)
    scores = tallies.scores(sums.sum(axis=0))
    drawn = _resampled(lambda weights: tallies.scores(weights @ sums), len(sums), seed)
    left_out = in_parts(lambda rows: tallies.scores(sums.sum(axis=0) - rows), sums) if len(sums) > 1 else {}
    found = {}
    for name, score in scores.items():
        if not np.isfinite(score):
            continue
        edges = (0.0, tallies.most[name]) if name in tallies.most else None
        bounds = interval_of(float(score), drawn[name], left_out.get(name), edges=edges, size=len(sums))
        if bounds is not None:
            found[name] = bounds
    return found


def differences(
    first: Tallies, second: Tallies, units: Sequence[int] | Array | None = None, *, seed: int = 0
) -> dict[str, Difference]:
    """Return first − second for every score that both have, with its 95% interval.

    Each resample draws the same units for both, so an example that is hard for both widens neither
    interval. If no resample differs, the rule of `intervals` applies: from one unit, nothing is
    conclusive.

    Args:
        first: One row for each example.
        second: Rows of the same examples in the same order.
        units: The independent unit of each example, numbered from 0; None if each example is
            independent.
        seed: Seed of the resamples.
    """
    a, b = by_unit(first.values, units), by_unit(second.values, units)

    def scored(left: Array, right: Array) -> dict[str, Array]:
        one, other = first.scores(left), second.scores(right)
        return {name: one[name] - other[name] for name in one if name in other}

    values = scored(a.sum(axis=0), b.sum(axis=0))
    drawn = _resampled(lambda weights: scored(weights @ a, weights @ b), len(a), seed)
    left_out = in_parts(lambda x, y: scored(a.sum(axis=0) - x, b.sum(axis=0) - y), a, b) if len(a) > 1 else {}
    found = {}
    for name, value in values.items():
        if not np.isfinite(value):
            continue
        edges = None
        if name in first.most and name in second.most:
            most = max(first.most[name], second.most[name])
            edges = (-most, most)
        bounds = interval_of(float(value), drawn[name], left_out.get(name), edges=edges, size=len(a))
        if bounds is None and value == 0:  # both have the same numbers, row by row
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
    """Return tallies of scores that are each a quotient of two sums: means, precision, bits per byte.

    >>> half = ratios({"accuracy": ([1, 0], [1, 1])})
    >>> {name: float(score) for name, score in half.scores(half.values.sum(axis=0)).items()}
    {'accuracy': 0.5}

    Args:
        parts: Score → what each example adds to the numerator, and to the denominator.
        most: See `Tallies`.
        through: Score → function of its quotient: `numpy.exp` for a perplexity.
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
    """Return quotients, and ``otherwise`` where the denominator is 0."""
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
    """Return the 95% intervals of scores that have no tallies, such as a rank correlation.

    Args:
        scores: Returns the scores of the examples at some positions; a position may be repeated.
        size: Number of examples.
        units: See `intervals`.
        seed: Seed of the resamples.
        resamples: Number of resamples; ``scores`` is called for each.
    """
    drawn: dict[str, list[float]] = {}
    for chosen in places(size, units, seed=seed, resamples=resamples):
        for name, score in scores(chosen).items():
            drawn.setdefault(name, []).append(score)
    found = {}
    for name, values in drawn.items():
        known = np.array(values)[np.isfinite(values)]
        if len(known) and not all_equal(known, float(known[0])):  # else there is one unit, or all are equal
            low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
            found[name] = Interval(low=float(low), high=float(high))
    return found


def places(
    size: int, units: Sequence[int] | Array | None = None, *, seed: int = 0, resamples: int
) -> Iterator[list[int]]:
    """Yield the positions of the examples of each resample; see `by_recomputing`."""
    members = members_of(np.arange(size) if units is None else np.asarray(units))
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = rng.integers(len(members), size=len(members))
        yield np.concatenate([members[unit] for unit in drawn]).tolist()


def as_unit_ids(values: Sequence[Any]) -> Array:
    """Return the unit of each value, numbered from 0; equal values are one unit.

    >>> as_unit_ids(["pier", "quay", "pier"]).tolist()
    [0, 1, 0]
    """
    known: dict[Any, int] = {}
    return np.array([known.setdefault(repr(value), len(known)) for value in values], dtype=np.int64)


def by_unit(values: Array, units: Sequence[int] | Array | None) -> Array:
    """Return the sums of the tallies (examples, K) over each unit: (units, K)."""
    values = np.asarray(values, dtype=np.float64)
    if units is None:
        return values
    units = np.asarray(units)
    sums = np.zeros((int(units.max()) + 1 if len(units) else 0, values.shape[1]))
    np.add.at(sums, units, values)
    return sums


def _resampled(scored: Callable[[Array], dict[str, Array]], size: int, seed: int) -> dict[str, Array]:
    return _join([scored(each) for each in weights(size, seed)])


def in_parts(scored: Callable[..., Mapping[str, Array]], *sums: Array) -> dict[str, Array]:
    """Return the scores of the rows of sums (N, K), computed for few rows at a time, which takes less memory."""
    size = max(1, MOST_SUMS // max(1, sums[0].shape[1]))
    starts = range(0, len(sums[0]), size)
    return _join([dict(scored(*(each[start : start + size] for each in sums))) for start in starts])


def _join(parts: list[dict[str, Array]]) -> dict[str, Array]:
    """Return the scores of all parts; the parts are emptied, so that little is in memory twice."""
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}


def weights(size: int, seed: int) -> Iterator[Array]:
    """Yield how often each of `RESAMPLES` resamples draws each unit, in chunks (resamples, units)."""
    rng, left = np.random.default_rng(seed), RESAMPLES
    while left:
        count = min(left, max(1, CHUNK // size))
        drawn = rng.integers(size, size=(count, size)) + np.arange(count)[:, None] * size
        yield np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size).astype(np.float64)
        left -= count


def interval_of(
    score: float, drawn: Array, left_out: Array | None, *, edges: tuple[float, float] | None, size: int
) -> Interval | None:
    """Return the 95% interval of a score; None if no resample differs and the score has no bounds.

    Args:
        score: The score of all units.
        drawn: The score of each resample.
        left_out: The score without each unit; None if it is not known.
        edges: Least and greatest possible score; None if there are no bounds.
        size: Number of units.
    """
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or all_equal(drawn, score):
        return None if edges is None else _unmoved(score, edges=edges, size=size)
    low, high = np.quantile(drawn, _levels(score, drawn, left_out))
    return Interval(low=float(low), high=float(high))


def all_equal(drawn: Array, score: float) -> bool:
    """Return whether no resample differs, except in the last digits of its sums."""
    return bool(np.ptp(drawn) <= 1e-12 * max(1.0, abs(score)))


def _levels(score: float, drawn: Array, left_out: Array | None) -> tuple[float, float]:
    """Return the quantiles of the resamples that bound the interval: BCa's, or plain ones if BCa is undefined.

    The level α becomes Φ(z0 + (z0 + z) / (1 - a (z0 + z))), where z = Φ⁻¹(α), z0 = Φ⁻¹(share of
    resamples below the score) corrects the bias, and the acceleration a comes from the skewness of
    the leave-one-unit-out scores.
    Source: Efron and Tibshirani 1993, equations 14.10, 14.14 and 14.15.
    """
    plain = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    # Ties count half, because most scores of small samples are discrete.
    below = float(np.mean(drawn < score) + np.mean(drawn == score) / 2)
    if left_out is None or not 0 < below < 1 or not np.isfinite(left_out).all():
        return plain
    away = left_out.mean() - left_out
    spread = float((away**2).sum())
    if spread <= 0:
        return plain
    bias, acceleration = ndtri(below), float((away**3).sum()) / (6 * spread**1.5)
    shifted = bias + ndtri(np.array(plain))
    # The floor keeps the denominator positive: with few units and a strong skew it can pass through
    # 0.
    low, high = ndtr(bias + shifted / np.maximum(1 - acceleration * shifted, 0.1))
    return float(low), float(high)


def _unmoved(score: float, *, edges: tuple[float, float], size: int) -> Interval:
    """Return the interval of a score if no resample differs, because all units are equal or there is one.

    If n independent values are all equal, at most a share of 1 - (α/2)^(1/n) of the population
    differs from them (Clopper and Pearson 1934). In the worst case these values lie at an edge of
    the possible range, which bounds the mean.
    """
    elsewhere = 1 - ((1 - CONFIDENCE) / 2) ** (1 / size)
    least, most = edges
    score = min(max(score, least), most)
    return Interval(low=score - elsewhere * (score - least), high=score + elsewhere * (most - score))


def members_of(units: Array) -> list[Array]:
    """Return the places of each unit."""
    order = np.argsort(units, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(units[order])) + 1)
