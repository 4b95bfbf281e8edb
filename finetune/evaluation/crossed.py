"""Intervals of a score that several seeds gave on the same rows: seeds and rows are crossed.

Every model, one for each seed, is scored on the same rows. Two things in such a mean are drawn at random: the rows and
the seeds. With J seeds, its variance is

    V = C + M / J

where C is the covariance, over samples of rows, of the scores of two models, and M the variance of the scores of the
models on the given rows. C is estimated by the bootstrap over independent units, as in `finetune.evaluation.bootstrap`,
and M by the sample variance of the J scores. M also holds the noise of the rows in the differences between models; it
cannot be less than this noise, so it is set to the noise if the sample variance is smaller. The interval takes
Student's t with Satterthwaite's degrees of freedom, because few seeds estimate M badly:

    df = V² / ((M / J)² / (J - 1) + C² / (units - 1))

Readers and cases of a diagnostic study are crossed in the same way. Source: Obuchowski and Rockette 1995, "Hypothesis
testing of diagnostic accuracy for multiple readers and multiple tests", Communications in Statistics 24(2) (the model);
Hillis 2007, "A comparison of denominator degrees of freedom methods for multiple observer ROC analysis", Statistics in
Medicine 26(3) (the degrees of freedom); Satterthwaite 1946, "An approximate distribution of estimates of variance
components". The bootstrap of rows is skewed if a score is near its bounds; the interval keeps this shape, each side
with its own variance. Source: Zou and Donner 2008, "Construction of confidence limits about effect measures: A general
approach", Statistics in Medicine 27(10). How often the intervals hold the true value is measured by
``tests/benchmarks/seed_intervals.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from finetune.evaluation import bootstrap
from finetune.evaluation.bootstrap import CONFIDENCE, Interval
from finetune.interfaces import Tallies

Array = Any
"""An array of numpy."""

RECOMPUTED = 200
"""Resamples of a score that has no tallies."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One score of J models on the same rows, and on B resamples of these rows."""

    points: Array
    """The scores on the rows: (J,)."""
    drawn: Array
    """Those on each resample: (B, J)."""
    left_out: Array | None
    """Those without each unit: (units, J); None if they are not known."""
    edges: tuple[float, float] | None
    """Least and greatest possible value of each row, if the score is a mean over rows; see `Tallies.most`."""
    size: int
    """Number of independent units."""
    limits: tuple[float, float] | None = None
    """Least and greatest possible value of the score; None if they are not known."""

    def minus(self, other: Sampled) -> Sampled:
        """Return the paired differences of the models: first − first, second − second, and so on."""
        left_out = None
        if self.left_out is not None and other.left_out is not None:
            left_out = self.left_out - other.left_out
        return replace(
            self,
            points=self.points - other.points,
            drawn=self.drawn - other.drawn,
            left_out=left_out,
            edges=_difference(self.edges, other.edges),
            limits=_difference(self.limits, other.limits),
        )


def _difference(first: tuple[float, float] | None, second: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the least and greatest possible difference; None if there are no bounds."""
    return None if first is None or second is None else (first[0] - second[1], first[1] - second[0])


@dataclass(frozen=True, kw_only=True)
class Crossed:
    """A mean over seeds, or a difference of two, with the variance between seeds and that between rows apart."""

    value: float
    both: Interval
    """Other rows and other seeds would give a mean between these in 19 of 20 cases."""
    rows: Interval
    """The same for other rows alone: the models stay."""
    seeds: Interval | None
    """The same for other seeds alone: the rows stay. None if no side has two seeds."""
    deviation: float | None
    """Standard deviation between seeds; None if there are two groups of seeds, or one seed."""
    variance_of_rows: float
    """Variance of the mean that rows explain."""
    variance_of_seeds: float
    """What seeds add to it."""
    probability_of_less: float
    """The p-value of the hypothesis that the mean is at least 0: small if it is less. It is below 0.025 only if `both`
    ends below 0."""


def sampled(
    tallies: Sequence[Tallies],
    units: Sequence[int] | Array | None = None,
    *,
    seed: int,
    names: Collection[str] | None = None,
) -> dict[str, Sampled]:
    """Score J models on the same resamples of their rows.

    Args:
        tallies: Those of each model, with one row for each example, in the same order.
        units: The independent unit of each example, numbered from 0; None if each example is independent.
        seed: Seed of the resamples.
        names: The scores that are wanted; None for all.

    Returns:
        Each score that all models have → its values.
    """
    sums = [bootstrap.by_unit(each.values, units) for each in tallies]
    size = len(sums[0])
    wholes = [each.scores(part.sum(axis=0)) for each, part in zip(tallies, sums, strict=True)]
    shared = []
    for name in wholes[0]:
        if (names is None or name in names) and all(np.isfinite(whole.get(name, np.nan)) for whole in wholes):
            shared.append(name)
    drawn: dict[str, list[Array]] = {name: [] for name in shared}
    for weights in bootstrap.weights(size, seed):
        scored = [each.scores(weights @ part) for each, part in zip(tallies, sums, strict=True)]
        for name in shared:
            drawn[name].append(np.stack([one[name] for one in scored], axis=1))
    without = []
    for each, part in zip(tallies, sums, strict=True):
        without.append(bootstrap.in_parts(_without_one(each, part, shared), part) if size > 1 else {})
    found = {}
    for name in shared:
        known = all(name in one for one in without)
        bounded = all(name in each.most for each in tallies)
        edges = (0.0, max(each.most[name] for each in tallies)) if bounded else None
        found[name] = Sampled(
            points=np.array([float(whole[name]) for whole in wholes]),
            drawn=np.concatenate(drawn[name]),
            left_out=np.stack([one[name] for one in without], axis=1) if known else None,
            edges=edges,
            size=size,
            limits=edges,
        )
    return found


def _without_one(tallies: Tallies, sums: Array, names: Sequence[str]) -> Callable[[Array], Mapping[str, Array]]:
    """Return a function from rows of sums to some scores of everything else."""
    whole = sums.sum(axis=0)

    def scores(rows: Array) -> Mapping[str, Array]:
        found = tallies.scores(whole - rows)
        return {name: found[name] for name in names}

    return scores


def recomputed(
    scores: Callable[[Sequence[int]], Sequence[float]],
    size: int,
    units: Sequence[int] | Array | None = None,
    *,
    seed: int,
) -> Sampled | None:
    """Return the same for a score without tallies, such as a rank correlation; None if a model does not have it.

    Args:
        scores: Returns the score of each model for the examples at some positions; a position may be repeated.
        size: Number of examples.
        units: See `sampled`.
        seed: Seed of the resamples.
    """
    points = np.array(scores(range(size)), dtype=np.float64)
    if not np.isfinite(points).all():
        return None
    drawn = [scores(places) for places in bootstrap.places(size, units, seed=seed, resamples=RECOMPUTED)]
    independent = size if units is None else len(np.unique(np.asarray(units)))
    return Sampled(points=points, drawn=np.array(drawn), left_out=None, edges=None, size=independent)


def combine(first: Sampled, second: Sampled | None = None) -> Crossed | None:
    """Return the mean over the seeds, or the difference first − second of the means of two groups of seeds.

    The groups are on the same resamples of rows; their seeds are independent. For the same seeds on both sides, give
    the paired differences (`Sampled.minus`). A group of one model counts as that model: what another seed would change
    is not known.

    Returns:
        The mean with its intervals; None if no resample differs and the score has no bounds.
    """
    groups = [first] if second is None else [first, second]
    whole = _of_means(first) if second is None else _of_means(first).minus(_of_means(second))
    finite = np.isfinite(whole.drawn[:, 0])
    value, means = float(whole.points[0]), whole.drawn[finite, 0]
    left_out = None if whole.left_out is None else whole.left_out[:, 0]
    rows = bootstrap.interval_of(value, means, left_out, edges=whole.edges, size=whole.size)
    if rows is None and value == 0 and len(means) and bootstrap.all_equal(means, 0.0):  # the same numbers, row by row
        rows = Interval(low=0.0, high=0.0)
    if rows is None:
        return None
    units = whole.size
    correction = units / (units - 1) if units > 1 else 1.0  # the bootstrap divides by the number of units
    of_rows = float(np.var(means, ddof=1)) * correction
    parts = [_part(group, finite, correction) for group in groups if len(group.points) > 1]
    total, degrees = _total(of_rows, parts, units=units)
    of_seeds = max(total - of_rows, 0.0)
    return Crossed(
        value=value,
        both=_widened(value, rows, of_seeds, degrees=degrees, limits=whole.limits),
        rows=rows,
        seeds=_of_seeds(value, parts, limits=whole.limits) if parts else None,
        deviation=float(np.std(first.points, ddof=1)) if second is None and parts else None,
        variance_of_rows=of_rows,
        variance_of_seeds=of_seeds,
        probability_of_less=_probability_of_less(value, rows, total, of_seeds, degrees=degrees),
    )


def _of_means(group: Sampled) -> Sampled:
    """Return the mean of the models of a group as one model."""
    left_out = None if group.left_out is None else group.left_out.mean(axis=1, keepdims=True)
    points, drawn = group.points.mean(keepdims=True), group.drawn.mean(axis=1, keepdims=True)
    return replace(group, points=points, drawn=drawn, left_out=left_out)


@dataclass(frozen=True)
class _Part:
    """What a group of seeds adds to the variance of a mean."""

    between: float
    """M / J: the sample variance of the scores, divided by their number."""
    noise: float
    """The part of it that rows explain, as the bootstrap finds it."""
    degrees: int
    """J − 1."""


def _part(group: Sampled, finite: Array, correction: float) -> _Part:
    count = len(group.points)
    variance = float(np.var(group.points, ddof=1))
    return _Part(variance / count, _noise(group.drawn[finite]) * correction / count, count - 1)


def _total(of_rows: float, parts: Sequence[_Part], *, units: int) -> tuple[float, float]:
    """Return the variance of a mean, V, and its degrees of freedom; see the head of the module."""
    beyond = [part for part in parts if part.between > part.noise]
    common = max(of_rows - sum(part.noise for part in beyond), 0.0)
    total = common + sum(part.between for part in beyond)
    inverse = common**2 / max(units - 1, 1) + sum(part.between**2 / part.degrees for part in beyond)
    return total, total**2 / inverse if inverse > 0 else np.inf


def _noise(drawn: Array) -> float:
    """Return the variance, over resamples of rows, that is not common to the models: variance − covariance."""
    centred = drawn - drawn.mean(axis=1, keepdims=True)
    return float(np.var(centred, axis=0, ddof=1).sum() / (drawn.shape[1] - 1))


def _widened(
    value: float, rows: Interval, of_seeds: float, *, degrees: float, limits: tuple[float, float] | None
) -> Interval:
    """Return the interval from rows, each side of it made wider by the variance that seeds add."""
    normal = stats.norm.ppf((1 + CONFIDENCE) / 2)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, degrees)
    below, above = max(value - rows.low, 0.0) / normal, max(rows.high - value, 0.0) / normal
    low, high = value - reach * np.hypot(below, of_seeds**0.5), value + reach * np.hypot(above, of_seeds**0.5)
    return _within(float(low), float(high), limits)


def _probability_of_less(value: float, rows: Interval, total: float, of_seeds: float, *, degrees: float) -> float:
    """Return the p-value of the hypothesis that a mean is at least 0.

    The error is that of the upper side of the interval, and at least the root of the variance: a few rows can have an
    upper end at the mean itself.
    """
    above = max(rows.high - value, 0.0) / stats.norm.ppf((1 + CONFIDENCE) / 2)
    error = max(float(np.hypot(above, of_seeds**0.5)), total**0.5)
    if error == 0:
        return 1.0 if value >= 0 else 0.0
    return float(stats.t.cdf(value / error, degrees))


def _of_seeds(value: float, parts: Sequence[_Part], *, limits: tuple[float, float] | None) -> Interval:
    """Return the interval of Student's t for other seeds on the same rows."""
    variance = sum(part.between for part in parts)
    inverse = sum(part.between**2 / part.degrees for part in parts)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, variance**2 / inverse)) if inverse > 0 else 0.0
    return _within(value - reach * variance**0.5, value + reach * variance**0.5, limits)


def _within(low: float, high: float, limits: tuple[float, float] | None) -> Interval:
    """Return an interval without what lies beyond the possible values."""
    if limits is not None:
        low, high = max(low, limits[0]), min(high, limits[1])
    return Interval(low=low, high=high)


def deviation_interval(deviation: float, count: int) -> Interval:
    """Return the 95% interval of a standard deviation of normally distributed values, from a sample of them.

    >>> found = deviation_interval(0.01, 3)
    >>> round(found.low, 4), round(found.high, 4)
    (0.0052, 0.0628)

    Args:
        deviation: The standard deviation of the sample.
        count: Size of the sample, at least 2.
    """
    ends = stats.chi2.ppf([(1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2], count - 1)
    low, high = (deviation * ((count - 1) / end) ** 0.5 for end in ends)
    return Interval(low=float(low), high=float(high))
