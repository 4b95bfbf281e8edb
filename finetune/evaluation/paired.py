"""The difference of two models on the same examples with its standard error, for tests at any level.

`finetune.evaluation.bootstrap` gives 95% intervals. A sweep makes many comparisons and needs smaller error rates, for
which a thousand resamples are too few; here the error comes from leaving out one unit at a time (the jackknife).

Source: Efron and Tibshirani 1993, equation 11.5; Welch 1947 for the degrees of freedom of two sources of noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from finetune.evaluation import bootstrap
from finetune.interfaces import Evaluator, Record

Array = Any
"""An array of numpy."""

RESAMPLES = 200
"""Resamples for a score without tallies, which is computed again for each."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """A difference of two scores on the same examples, first − second, as a mean over seeds."""

    value: float
    rows_error: float
    """Standard error from the rows: how far other rows would change the difference."""
    seeds_error: float
    """Standard error from the seeds; 0 for one seed, which says nothing about others."""
    units: int
    """Independent units of the rows."""
    seeds: int
    """Number of seeds."""

    @property
    def error(self) -> float:
        """The standard error of both sources."""
        return math.hypot(self.rows_error, self.seeds_error)

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the error, by Welch and Satterthwaite."""
        rows, seeds = self.rows_error**2, self.seeds_error**2
        if rows + seeds == 0:
            return float(max(self.units - 1, 1))
        parts = rows**2 / max(self.units - 1, 1) + (seeds**2 / (self.seeds - 1) if self.seeds > 1 else 0.0)
        return (rows + seeds) ** 2 / parts

    def interval(self, confidence: float = bootstrap.CONFIDENCE) -> tuple[float, float]:
        """Return the interval of the difference at a confidence."""
        margin = float(student.ppf((1 + confidence) / 2, self.degrees)) * self.error
        return self.value - margin, self.value + margin

    def probability_of_less(self) -> float:
        """Return the p-value of the hypothesis that first is at least as great as second; small if it is less."""
        if self.error == 0:
            return 1.0 if self.value >= 0 else 0.0
        return float(student.cdf(self.value / self.error, self.degrees))


def difference(
    evaluator: Evaluator,
    first: Sequence[Sequence[Record]],
    second: Sequence[Sequence[Record]],
    *,
    units: Any = None,
    seed: int = 0,
) -> Paired | None:
    """Return first − second of the primary score; None if it cannot be computed.

    Args:
        evaluator: Scores the records.
        first: For each seed, one record for each example.
        second: For the same seeds, records of the same examples in the same order.
        units: The independent unit of each example, numbered from 0; None if each example is independent.
        seed: Seed of the resamples of a score without tallies.
    """
    values: list[float] = []
    left_out: list[Array | None] = []
    for own, theirs in zip(first, second, strict=True):
        value, without = _by_jackknife(evaluator, own, theirs, units)
        if not math.isfinite(value):
            return None
        values.append(value)
        left_out.append(without)
    size = len(first[0]) if units is None else int(np.max(units)) + 1
    known = [without for without in left_out if without is not None]
    if len(known) < len(left_out):
        rows_error = _by_resampling(evaluator, first, second, units, seed=seed)
    else:
        mean = np.mean(known, axis=0)
        rows_error = math.sqrt((len(mean) - 1) / len(mean) * float(((mean - mean.mean()) ** 2).sum()))
    count = len(values)
    seeds_error = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    return Paired(value=float(np.mean(values)), rows_error=rows_error, seeds_error=seeds_error, units=size, seeds=count)


def _by_jackknife(
    evaluator: Evaluator, first: Sequence[Record], second: Sequence[Record], units: Any
) -> tuple[float, Array | None]:
    """Return a difference, and the differences without each unit; None for these if the score has no tallies."""
    name = evaluator.primary
    ours, theirs = _leave_one_out(evaluator, first, units), _leave_one_out(evaluator, second, units)
    if ours is None or theirs is None:
        scores = evaluator.scores(first), evaluator.scores(second)
        return scores[0].get(name, math.nan) - scores[1].get(name, math.nan), None
    without = ours[1] - theirs[1]
    return ours[0] - theirs[0], without if np.isfinite(without).all() and len(without) > 1 else None


def _leave_one_out(evaluator: Evaluator, records: Sequence[Record], units: Any) -> tuple[float, Array] | None:
    """Return the primary score, and the scores without each unit; None if the evaluator has no tallies of it."""
    tallies, name = evaluator.tallies(records), evaluator.primary
    if tallies is None:
        return None
    sums = bootstrap.by_unit(tallies.values, units)
    total = sums.sum(axis=0)
    if name not in tallies.scores(total):
        return None
    without = bootstrap.in_parts(lambda rows: tallies.scores(total - rows), sums)[name]
    return float(tallies.scores(total)[name]), np.asarray(without)


def _by_resampling(
    evaluator: Evaluator,
    first: Sequence[Sequence[Record]],
    second: Sequence[Sequence[Record]],
    units: Any,
    *,
    seed: int,
) -> float:
    """Return the standard error of a difference from scores that are computed again for resampled units."""
    name, drawn = evaluator.primary, []
    for chosen in bootstrap.places(len(first[0]), units, seed=seed, resamples=RESAMPLES):
        values = []
        for own, theirs in zip(first, second, strict=True):
            ours = evaluator.scores([own[place] for place in chosen]).get(name, math.nan)
            values.append(ours - evaluator.scores([theirs[place] for place in chosen]).get(name, math.nan))
        drawn.append(float(np.mean(values)))
    known = np.array(drawn)[np.isfinite(drawn)]
    return float(known.std(ddof=1)) if len(known) > 1 else math.inf


@dataclass(frozen=True, kw_only=True)
class Optimism:
    """How much too good the best of several models looks on the rows by which it was chosen."""

    expected: float
    """Expected difference between the score of the best on these rows and on others, as a number to subtract from a
    score of which greater is better, and to add to another."""
    if_equal: float
    """The same if all models were equally good: the greatest that the expectation can be."""


def optimism(
    evaluator: Evaluator, models: Sequence[Sequence[Record]], *, units: Any = None, seed: int = 0
) -> Optimism | None:
    """Return the selection bias of the best of several models on the same examples; None if it cannot be computed.

    Each resample of the examples chooses its own best; how much better that one looks in the resample than on all
    examples estimates the bias.

    Args:
        evaluator: Scores the records.
        models: For each model, one record for each example.
        units: The independent unit of each example, numbered from 0; None if each example is independent.
        seed: Seed of the resamples.

    Source: Tibshirani and Tibshirani 2009, "A bias correction for the minimum error rate in cross-validation".
    """
    size = len(models[0]) if units is None else int(np.max(units)) + 1
    whole = np.array([evaluator.scores(records).get(evaluator.primary, math.nan) for records in models])
    drawn = np.stack([_resampled(evaluator, records, units, size=size, seed=seed) for records in models])
    kept = np.isfinite(drawn).all(axis=0)
    if not kept.any() or not np.isfinite(whole).all():
        return None
    sign = 1.0 if evaluator.greater_is_better else -1.0
    gains = sign * (drawn[:, kept] - whole[:, None])
    best = (sign * drawn[:, kept]).argmax(axis=0)
    expected = float(gains[best, np.arange(gains.shape[1])].mean())
    return Optimism(expected=max(expected, 0.0), if_equal=max(float(gains.max(axis=0).mean()), 0.0))


def _resampled(evaluator: Evaluator, records: Sequence[Record], units: Any, *, size: int, seed: int) -> Array:
    """Return the primary score of a model in each resample; the same seed draws the same units for each model."""
    tallies, name = evaluator.tallies(records), evaluator.primary
    rng = np.random.default_rng(seed)
    weights = np.stack([np.bincount(rng.integers(size, size=size), minlength=size) for _ in range(RESAMPLES)])
    if tallies is not None:
        sums = bootstrap.by_unit(tallies.values, units)
        scores = tallies.scores(weights.astype(np.float64) @ sums)
        if name in scores:
            return np.asarray(scores[name])
    members = bootstrap.members_of(np.arange(len(records)) if units is None else np.asarray(units))
    found = []
    for row in weights:
        places = np.concatenate([members[unit] for unit in np.repeat(np.arange(size), row)])
        found.append(evaluator.scores([records[place] for place in places]).get(name, math.nan))
    return np.array(found)
