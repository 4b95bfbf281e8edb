"""How much too good the best of several models looks on the rows by which it was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.evaluation import sides
from finetune.interfaces import Evaluator, Record


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
    found = sides.sampled([evaluator] * len(models), models, units, seed=seed)
    if evaluator.primary not in found:
        return None
    scores = found[evaluator.primary]
    kept = np.isfinite(scores.drawn).all(axis=1)
    if not kept.any():
        return None
    sign = 1.0 if evaluator.greater_is_better else -1.0
    gains = sign * (scores.drawn[kept] - scores.points)
    best = (sign * scores.drawn[kept]).argmax(axis=1)
    expected = float(gains[np.arange(len(gains)), best].mean())
    return Optimism(expected=max(expected, 0.0), if_equal=max(float(gains.max(axis=1).mean()), 0.0))
