"""The primary score of several runs on the same resamples of their rows, as data for further statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finetune.evaluation import bootstrap
from finetune.interfaces import Evaluator, Record

Array = Any
"""An array of numpy."""

RECOMPUTED = 200
"""Resamples of a score without tallies, which is computed again for each."""
_TOGETHER = 50
"""Resamples that are drawn at one time."""


def resampled_scores(
    evaluators: Sequence[Evaluator], runs: Sequence[Sequence[Record]], *, units: Any = None, seed: int = 0
) -> Array:
    """Return the primary score of each run on each resample of the rows: (resamples, runs).

    Each resample draws the same units for all runs, so that differences between runs are paired.

    Args:
        evaluators: The evaluator of each run; what they have learned can differ, and their primary score is the same.
        runs: For each run, one record for each example, in the same order.
        units: The independent unit of each example, numbered from 0; None if each example is independent.
        seed: Seed of the resamples.
    """
    size = len(runs[0])
    numbers = np.arange(size) if units is None else np.asarray(units)
    count = int(numbers.max()) + 1
    random = np.random.default_rng(seed)
    tallies = [evaluator.tallies(records) for evaluator, records in zip(evaluators, runs, strict=True)]
    known = [each for each in tallies if each is not None]
    sums = [bootstrap.by_unit(each.values, units) for each in known]
    name = evaluators[0].primary
    if len(known) == len(runs) and all(
        name in each.scores(own.sum(axis=0)) for each, own in zip(known, sums, strict=True)
    ):
        parts = []
        for _ in range(bootstrap.RESAMPLES // _TOGETHER):
            weights = random.multinomial(count, np.full(count, 1 / count), size=_TOGETHER).astype(np.float64)
            drawn = [each.scores(weights @ own)[name] for each, own in zip(known, sums, strict=True)]
            parts.append(np.stack(drawn, axis=1))
        return np.concatenate(parts)
    places = [np.flatnonzero(numbers == unit) for unit in range(count)]
    rows = []
    for _ in range(RECOMPUTED):
        chosen = np.concatenate([places[unit] for unit in random.integers(count, size=count)])
        scores = []
        for evaluator, records in zip(evaluators, runs, strict=True):
            found = evaluator.scores([records[place] for place in chosen])
            scores.append(found.get(name, np.nan))
        rows.append(scores)
    return np.asarray(rows, dtype=np.float64)
