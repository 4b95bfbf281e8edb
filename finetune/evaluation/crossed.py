"""Intervals of a score that several seeds gave on the same rows: seeds and rows are crossed.

Every model, one for each seed, is scored on the same rows. Two things in such a mean are drawn at random: the rows and
the seeds. With J seeds, its variance is

    V = C + M / J

where C is the covariance, over samples of rows, of the scores of two models, and M the variance of the scores of the
models on the given rows. C is estimated by the bootstrap over independent units, as in `finetune.evaluation.bootstrap`,
and M by the sample variance of the J scores. M also holds the noise of the rows in the differences between models; it
cannot be less than this noise, so it is set to the noise if the sample variance is smaller. The interval takes Student's
t with Satterthwaite's degrees of freedom, because few seeds estimate M badly:

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

from collections.abc import Callable, Mapping, Sequence
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
    """Least and greatest possible value; None if there are no bounds."""
    size: int
    """Number of independent units."""

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
            edges=self.edges_of_difference(other),
        )

    def edges_of_difference(self, other: Sampled) -> tuple[float, float] | None:
        """Return the least and greatest possible difference from another score; None if there are no bounds."""
        if self.edges is None or other.edges is None:
            return None
        return self.edges[0] - other.edges[1], self.edges[1] - other.edges[0]


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


def sampled(tallies: Sequence[Tallies], units: Sequence[int] | Array | None = None, *, seed: int) -> dict[str, Sampled]:
    """Score J models on the same resamples of their rows.

    Args:
        tallies: Those of each model, with one row for each example, in the same order.
        units: The independent unit of each example, numbered from 0; None if each example is independent.
        seed: Seed of the resamples.

    Returns:
        Each score that all models have → its values.
    """
    sums = [bootstrap.by_unit(each.values, units) for each in tallies]
    size = len(sums[0])
    wholes = [each.scores(part.sum(axis=0)) for each, part in zip(tallies, sums, strict=True)]
    names = [name for name in wholes[0] if all(np.isfinite(whole.get(name, np.nan)) for whole in wholes)]
    drawn: dict[str, list[Array]] = {name: [] for name in names}
    for weights in bootstrap.weights(size, seed):
        scored = [each.scores(weights @ part) for each, part in zip(tallies, sums, strict=True)]
        for name in names:
            drawn[name].append(np.stack([one[name] for one in scored], axis=1))
    without = []
    for each, part in zip(tallies, sums, strict=True):
        without.append(bootstrap.in_parts(_without_one(each, part), part) if size > 1 else {})
    found = {}
    for name in names:
        known = all(name in one for one in without)
        bounded = all(name in each.most for each in tallies)
        found[name] = Sampled(
            points=np.array([float(whole[name]) for whole in wholes]),
            drawn=np.concatenate(drawn[name]),
            left_out=np.stack([one[name] for one in without], axis=1) if known else None,
            edges=(0.0, max(each.most[name] for each in tallies)) if bounded else None,
            size=size,
        )
    return found


def _without_one(tallies: Tallies, sums: Array) -> Callable[[Array], Mapping[str, Array]]:
    """Return a function from rows of sums to the scores of everything else."""
    whole = sums.sum(axis=0)
    return lambda rows: tallies.scores(whole - rows)


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

    The groups are on the same resamples of rows; their seeds are independent. For the same seeds on both sides, give the
    paired differences (`Sampled.minus`). A group of one model counts as that model: what its seed changes is not known.

    Returns:
        The mean with its intervals; None if no resample differs and the score has no bounds.
    """
    groups = [(1.0, first)] + ([(-1.0, second)] if second is not None else [])
    drawn = np.concatenate([group.drawn for _, group in groups], axis=1)
    finite = np.isfinite(drawn).all(axis=1)
    value = sum(sign * float(group.points.mean()) for sign, group in groups)
    means = sum(sign * group.drawn[finite].mean(axis=1) for sign, group in groups)
    left_out: Array | None = None
    if all(group.left_out is not None for _, group in groups):
        left_out = sum(sign * group.left_out.mean(axis=1) for sign, group in groups if group.left_out is not None)
    edges = first.edges if second is None else first.edges_of_difference(second)
    rows = bootstrap.interval_of(value, means, left_out, edges=edges, size=first.size)
    if rows is None and value == 0 and bootstrap.all_equal(means, 0.0):  # both have the same numbers, row by row
        rows = Interval(low=0.0, high=0.0)
    if rows is None:
        return None
    return _combined(value, rows, groups, finite=finite, edges=edges)


def _combined(
    value: float,
    rows: Interval,
    groups: Sequence[tuple[float, Sampled]],
    *,
    finite: Array,
    edges: tuple[float, float] | None,
) -> Crossed:
    """Return both intervals of a mean or a difference whose interval from rows is known; see the head of the module."""
    units = groups[0][1].size
    correction = units / (units - 1) if units > 1 else 1.0  # the bootstrap divides by the number of units
    means = sum(sign * group.drawn[finite].mean(axis=1) for sign, group in groups)
    of_rows = float(np.var(means, ddof=1)) * correction
    common, of_seeds, between, freedom, spread = of_rows, 0.0, 0.0, 0.0, 0.0
    for _, group in groups:
        count = len(group.points)
        if count < 2:
            continue
        variance = float(np.var(group.points, ddof=1))
        noise = _noise(group.drawn[finite]) * correction
        between += variance / count
        spread += (variance / count) ** 2 / (count - 1)
        if variance > noise:
            of_seeds += (variance - noise) / count
            common -= noise / count
            freedom += (variance / count) ** 2 / (count - 1)
    total = of_rows + of_seeds
    freedom += max(common, 0.0) ** 2 / max(units - 1, 1)
    degrees = total**2 / freedom if freedom > 0 else np.inf
    several = any(len(group.points) > 1 for _, group in groups)
    alone = len(groups) == 1 and several
    return Crossed(
        value=value,
        both=_widened(value, rows, of_seeds, degrees=degrees, edges=edges),
        rows=rows,
        seeds=_of_seeds(value, between, spread, edges=edges) if several else None,
        deviation=float(np.std(groups[0][1].points, ddof=1)) if alone else None,
        variance_of_rows=of_rows,
        variance_of_seeds=of_seeds,
    )


def _noise(drawn: Array) -> float:
    """Return the variance, over resamples of rows, that is not common to the models: variance − covariance."""
    centred = drawn - drawn.mean(axis=1, keepdims=True)
    return float(np.var(centred, axis=0, ddof=1).sum() / (drawn.shape[1] - 1))


def _widened(
    value: float, rows: Interval, of_seeds: float, *, degrees: float, edges: tuple[float, float] | None
) -> Interval:
    """Return the interval from rows, each side of it made wider by the variance that seeds add."""
    normal = stats.norm.ppf((1 + CONFIDENCE) / 2)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, degrees)
    below, above = max(value - rows.low, 0.0) / normal, max(rows.high - value, 0.0) / normal
    low, high = value - reach * np.hypot(below, of_seeds**0.5), value + reach * np.hypot(above, of_seeds**0.5)
    return _within(float(low), float(high), edges)


def _of_seeds(value: float, between: float, spread: float, *, edges: tuple[float, float] | None) -> Interval:
    """Return the interval of Student's t for other seeds on the same rows."""
    degrees = between**2 / spread if spread > 0 else np.inf
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * between**0.5
    return _within(value - reach, value + reach, edges)


def _within(low: float, high: float, edges: tuple[float, float] | None) -> Interval:
    """Return an interval without what lies beyond the possible values."""
    if edges is not None:
        low, high = max(low, edges[0]), min(high, edges[1])
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
