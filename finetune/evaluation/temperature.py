"""One number that makes the probabilities of a trained model as sure as they should be.

The scores of all options are divided by a temperature before the softmax. A temperature above 1 makes a model less
sure, one below 1 makes it surer. The order of the options stays, so no label changes.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. scikit-learn fits the same number in
`CalibratedClassifierCV(method="temperature")`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax

from finetune.interfaces import Decisions

LEAST, MOST = 1 / 20, 20.0
"""The range of temperatures. A fit that ends at its edge is not determined by the rows; see `is_determined`."""
STEPS = 25
"""Temperatures that are tried, evenly spaced in their logarithm, before the search between the best one's neighbours:
the loss of an answer that is spread over several options can have more than one minimum."""


def fit_temperature(scores: Sequence[Sequence[float]] | Any, answers: Sequence[int] | Any) -> float:
    """Return the temperature that minimises the negative log-likelihood (NLL) of the right answers.

    It is the same for the same rows on every machine, up to the last digits. Fit it on rows that did not train the
    model, and divide the scores by it before the softmax.

    Args:
        scores: For each question, the score of each option, such as logits or logarithms of probabilities. Questions
            can have different numbers of options.
        answers: For each question, the position of the right option.

    Raises:
        ValueError: There is no question, an answer is not among the options of its question, or a score is not finite;
            −∞ stands for an option that a question does not have.

    >>> round(fit_temperature([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]], [0, 0, 1]), 3)  # right in 2 of 3 cases
    2.885
    """
    return fit(decisions_of(scores, answers))


def decisions_of(scores: Sequence[Sequence[float]] | Any, answers: Sequence[int] | Any) -> Decisions:
    """Return decisions from the scores of their options and the positions of the right ones; see `fit_temperature`."""
    right = np.asarray(answers, dtype=np.int64)
    if not len(scores) or len(scores) != len(right):
        raise ValueError(f"there are {len(scores):,} rows of scores and {len(right):,} answers. Give one answer each.")
    sizes = np.array([len(row) for row in scores])
    table = np.full((len(sizes), sizes.max()), -np.inf)
    for number, row in enumerate(scores):
        table[number, : sizes[number]] = row
    _require_scores(table, sizes, right)
    options = np.arange(table.shape[1])
    predicted = options == table.argmax(axis=1)[:, None]
    return Decisions(scores=table, predicted=predicted, true=options == right[:, None])


def _require_scores(table: Any, sizes: Any, right: Any) -> None:
    """Check that scores are numbers, and that each answer is an option with a finite score.

    Raises:
        ValueError: They are not.
    """
    outside = np.flatnonzero((right < 0) | (right >= sizes))
    if len(outside):
        row = outside[0]
        raise ValueError(f"row {row} has {sizes[row]} options, and the answer is number {right[row]} from 0.")
    bad = np.flatnonzero((np.isnan(table) | np.isposinf(table)).any(axis=1))
    if len(bad):
        raise ValueError(f"row {bad[0]} holds a score that is not a number, or infinite: {table[bad[0]].tolist()}.")
    bad = np.flatnonzero(~np.isfinite(table[np.arange(len(table)), right]))
    if len(bad):
        raise ValueError(f"row {bad[0]}: the score of the right answer is not finite: {table[bad[0]].tolist()}.")


def fit(decisions: Decisions) -> float:
    """Return the temperature with the least mean NLL, between `LEAST` and `MOST`."""

    def mean(logarithm: float) -> float:
        return float(losses(decisions, float(np.exp(logarithm))).mean())

    tried = np.linspace(np.log(LEAST), np.log(MOST), STEPS)
    found = np.array([mean(each) for each in tried])
    best = int(np.argmin(found))
    low, high = tried[max(best - 1, 0)], tried[min(best + 1, STEPS - 1)]
    searched = minimize_scalar(mean, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    chosen = searched.x if searched.fun < found[best] else tried[best]
    return float(np.exp(chosen))


def is_determined(temperature: float) -> bool:
    """Return whether rows determine a temperature: at an edge of the range, a more extreme one would fit better.

    That is so if every prediction is right, or if the scores say nothing about the answers.
    """
    return LEAST * 1.01 < temperature < MOST / 1.01


def probabilities(scores: Any, temperature: float) -> Any:
    """Return the probability of each option: an array (N, K), like the scores."""
    return softmax(np.asarray(scores, dtype=np.float64) / temperature, axis=-1)


def losses(decisions: Decisions, temperature: float) -> Any:
    """Return the NLL of what is true for each decision, in nats: an array (N,)."""
    return -_log_share(decisions, temperature, decisions.true)


def confidence(decisions: Decisions, temperature: float) -> Any:
    """Return the probability of the prediction of each decision: an array (N,)."""
    return np.exp(_log_share(decisions, temperature, decisions.predicted))


def is_right(decisions: Decisions) -> Any:
    """Return whether the prediction of each decision is right: an array of bool (N,)."""
    return (decisions.predicted & decisions.true).any(axis=1)


def brier(decisions: Decisions, temperature: float) -> Any:
    """Return the Brier score of each decision: 0 is best, 1 is worst; an array (N,).

    It is half the sum, over the options, of the squared difference between the probability and 1 for the right option
    or 0 for another. With two options, that is the squared difference for either. If it is only known whether the
    prediction is right, the options are the prediction and all others.

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability".
    """
    if not decisions.one_is_true:
        return (confidence(decisions, temperature) - is_right(decisions)) ** 2
    shares = probabilities(decisions.scores, temperature)
    return ((shares - decisions.true) ** 2).sum(axis=1) / 2


def _log_share(decisions: Decisions, temperature: float, chosen: Any) -> Any:
    """Return the logarithm of the probability of the chosen options of each decision."""
    logarithms = log_softmax(decisions.scores / temperature, axis=1)
    with np.errstate(divide="ignore"):  # no option is chosen where the right answer cannot be: log 0
        return np.minimum(logsumexp(np.where(chosen, logarithms, -np.inf), axis=1), 0.0)
