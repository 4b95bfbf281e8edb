"""From scores at several sizes of train to what twice the rows are worth, with the uncertainty of the answer.

The curve is a power law, ``score(n) = a − b · n^(−c)``, whose limit for small ``c`` is a straight line in ``log n``.
Four sizes and a few seeds do not say what ``c`` is, and one best value would claim a certainty that is not there. So
each ``c`` of a range counts as much as it explains the scores (Bayesian model averaging with a flat prior on
``2^(−c)``, the factor by which the gain of one doubling follows from that of the one before). For each resample of rows
and seeds, a ``c`` is drawn by these weights, and the curve is fitted to the resampled scores.

Sources: Hestness et al. 2017, "Deep Learning Scaling is Predictable, Empirically" (power laws of the error); Viering
and Loog 2021, "The Shape of Learning Curves: A Review" (power laws fit best on average, and some curves are none);
Hoeting et al. 1999, "Bayesian Model Averaging: A Tutorial"; Smyth 2004 (variances of few values, moderated by a common
one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2

Array = Any
"""An array of numpy."""

DRAWS = 4000
"""Resamples of rows and seeds."""
SLOWEST, FASTEST = 1.1, 0.25
"""Factors from one doubling's gain to the next: 1 is a straight line in ``log n``, 0.25 is ``c = 2``. Hestness et al.
2017 measured exponents of 0.07 to 0.35. The range goes beyond the line, so that a true line is not at its edge, where
the interval would hold it in 83% of simulated cases and not in 92%."""
GRID = 61
"""Values of the factor that are tried."""
LEAST_SIZES, LEAST_SEEDS = 3, 2
REFUSED = 0.01
"""If no curve of the family explains the scores at this level, nothing is extrapolated."""
LEVEL = 0.95
POINTS = 33
"""Sizes at which the curve is computed for a picture."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """What the scores say about more rows."""

    scores: Sequence[Estimate]
    """The mean score of each size."""
    gain: Estimate | None
    """Score with twice the largest size − score with the largest size; None if it cannot be said."""
    reason: str
    """Why it cannot be said; empty if it can."""
    exponent: Estimate | None
    """``c``, as far as the scores say."""
    curve: Sequence[tuple[float, Estimate]] = ()
    """Number of rows → score of the curve, from the smallest size to twice the largest; empty without a gain."""


def extrapolate(sizes: Sequence[int], scores: Array, resampled: Array, *, seed: int = 0) -> Extrapolation:
    """Fit the curve, and say what twice the rows are worth.

    Args:
        sizes: Rows of train, ascending.
        scores: The score of each size and seed: (sizes, seeds).
        resampled: The mean score of each size on resamples of the scored rows: (resamples, sizes).
        seed: Seed of the draws.
    """
    scores, resampled = np.asarray(scores, dtype=np.float64), np.asarray(resampled, dtype=np.float64)
    if not (np.isfinite(scores).all() and np.isfinite(resampled).all()):
        nothing = Estimate(value=float("nan"), low=float("nan"), high=float("nan"))
        return Extrapolation(
            scores=[nothing] * len(sizes), gain=None, reason="a score is not defined for some runs", exponent=None
        )
    random = np.random.default_rng(seed)
    mean = scores.mean(axis=1)
    drawn, covariance = _draw(scores, resampled, random)
    points = [_estimate(float(mean[place]), mean[place] + drawn[:, place]) for place in range(len(sizes))]
    reason = _too_little(sizes, scores)
    if reason:
        return Extrapolation(scores=points, gain=None, reason=reason, exponent=None)
    factors = np.linspace(FASTEST, SLOWEST, GRID)
    fits = [_Fit(np.asarray(sizes, dtype=np.float64), float(factor), covariance) for factor in factors]
    misfit = np.array([fit.misfit(mean) for fit in fits])
    if chi2.sf(misfit.min(), len(sizes) - 2) < REFUSED:
        return Extrapolation(scores=points, gain=None, reason=_shape(sizes, mean), exponent=None)
    weights = np.exp(-(misfit - misfit.min()) / 2)
    chosen = random.choice(GRID, size=len(drawn), p=weights / weights.sum())
    wanted = np.geomspace(sizes[0], 2 * sizes[-1], POINTS)
    gains, curves = np.empty(len(drawn)), np.empty((len(drawn), POINTS))
    for place in range(GRID):
        taken = chosen == place
        fitted = fits[place].coefficients(mean + drawn[taken])
        gains[taken] = fits[place].gain(fitted)
        curves[taken] = fits[place].at(wanted, fitted)
    exponents = -np.log2(factors[chosen])
    curve = [(float(size), _estimate(None, curves[:, place])) for place, size in enumerate(wanted)]
    return Extrapolation(
        scores=points, gain=_estimate(None, gains), reason="", exponent=_estimate(None, exponents), curve=curve
    )


def _too_little(sizes: Sequence[int], scores: Array) -> str:
    """Return why the scores say nothing about a curve; empty if they do."""
    if len(sizes) < LEAST_SIZES:
        return f"a curve needs at least {LEAST_SIZES} sizes, and there are {len(sizes)}"
    if scores.shape[1] < LEAST_SEEDS:
        return "one seed does not show how far another would change the scores; take at least two"
    if float(np.ptp(scores)) == 0.0:
        return "all runs have the same score"
    return ""


def _shape(sizes: Sequence[int], mean: Array) -> str:
    """Return in words why no curve of the family explains the scores."""
    steps = np.diff(mean) / np.diff(np.log2(sizes))
    sign = np.sign(mean[-1] - mean[0])
    if (sign * steps[1:] >= sign * steps[:-1]).all():
        return "each doubling still changes the score more than the one before, so where that ends is not known"
    return "the scores do not follow a power law of the number of rows"


def _draw(scores: Array, resampled: Array, random: Any) -> tuple[Array, Array]:
    """Return how far other rows and other seeds would move the mean scores: draws (DRAWS, sizes), and the covariance.

    Rows are resampled. Few seeds cannot be: resamples of three values have two thirds of their variance. So the noise
    of the seeds is normal, with a variance that is itself uncertain, as in Student's t.
    """
    count, seeds = scores.shape
    of_rows = resampled - resampled.mean(axis=0)
    rows = of_rows[random.integers(len(of_rows), size=DRAWS)]
    if seeds < 2:
        return rows, np.cov(of_rows.T) + np.eye(count) * 1e-12
    own = scores.var(axis=1, ddof=1)
    common, degrees = float(own.mean()), count * (seeds - 1)
    variance = (own + common) / 2 / seeds  # half its own, half the common one
    scale = np.sqrt(degrees / random.chisquare(degrees, size=(DRAWS, 1)))
    noise = random.standard_normal((DRAWS, count)) * np.sqrt(variance) * scale
    least = 1e-12 + 1e-6 * float(np.ptp(scores)) ** 2
    return rows + noise, np.cov(of_rows.T) + np.diag(variance) + np.eye(count) * least


class _Fit:
    """A curve with a given factor, fitted by generalized least squares; linear in its other two numbers."""

    def __init__(self, sizes: Array, factor: float, covariance: Array) -> None:
        self.first, self.last = float(sizes[0]), float(sizes[-1])
        self.exponent = float(-np.log2(factor))
        self.design = self._design(sizes)
        self.precision = np.linalg.inv(covariance)
        weighted = self.design.T @ self.precision
        self.solution = np.linalg.solve(weighted @ self.design, weighted)

    def _design(self, sizes: Array) -> Array:
        return np.stack([np.ones(len(sizes)), self._share(sizes)], axis=1)

    def _share(self, sizes: Array) -> Array:
        """Return the share of the way from the first size to the last that the score has gone at some sizes."""
        sizes = np.asarray(sizes, dtype=np.float64) / self.first
        if self.exponent < 1e-9:
            return np.log(sizes) / np.log(self.last / self.first)
        return (1 - sizes**-self.exponent) / (1 - (self.last / self.first) ** -self.exponent)

    def coefficients(self, scores: Array) -> Array:
        """Return the score at the first size, and the way to the last one: (…, 2)."""
        return scores @ self.solution.T

    def misfit(self, scores: Array) -> float:
        """Return the squared distance of scores from the curve, in units of their noise."""
        rest = scores - self.design @ self.coefficients(scores)
        return float(rest @ self.precision @ rest)

    def gain(self, fitted: Array) -> Array:
        """Return what twice the rows add."""
        way = self._share(np.array([self.last, 2 * self.last]))
        return fitted[:, 1] * (way[1] - way[0])

    def at(self, sizes: Array, fitted: Array) -> Array:
        """Return the curve at some sizes."""
        return fitted @ self._design(sizes).T


def _estimate(value: float | None, drawn: Array) -> Estimate:
    low, middle, high = np.quantile(drawn, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
    return Estimate(value=float(middle) if value is None else value, low=float(low), high=float(high))
