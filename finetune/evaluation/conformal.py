"""Sets of labels that hold the right one in a stated share of all cases: split conformal prediction.

The method is LAC (least ambiguous set-valued classifier). A set holds each label whose probability is at least 1 − q,
where q is a quantile of 1 − the probability of the right label, over rows that were not trained on: the value of rank
⌈(n + 1) · coverage⌉ of n. If new rows are drawn as these were, a set holds the right label with at least this
probability, on average over all rows: for one kind of rows, it can be less. LAC gives the smallest sets on average. A
set can be empty, if no label is probable enough.

Source: Sadinle, Lei and Wasserman 2019, "Least Ambiguous Set-Valued Classifiers With Bounded Error Levels";
Angelopoulos and Bates 2023, "Conformal Prediction: A Gentle Introduction", section 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from finetune.errors import BadData
from finetune.evaluation import temperature
from finetune.interfaces import Decisions, Finding

MOST_SCORES = 2_000
"""Most scores that a result stores. Of more, it stores this many, evenly spaced in rank."""
CODE = "too-few-rows-for-coverage"
SLACK = 1e-9
"""What a label may lack: probabilities that are read from a file must give the same set as those in memory."""


def nonconformity(decisions: Decisions, value: float) -> dict[str, Any]:
    """Return what sets of labels are made from: the number of rows, and sorted scores with their ranks.

    Args:
        decisions: Those of validation.
        value: The temperature.

    Returns:
        ``method``, ``rows``, ``ranks`` and ``scores``; empty if an example has no or several decisions, or if the right
        option need not be among the options.
    """
    rows = np.arange(len(decisions.scores)) if decisions.rows is None else np.asarray(decisions.rows)
    if not decisions.one_is_true or len(np.unique(rows)) < len(rows):
        return {}
    scores = np.sort(1 - np.exp(-temperature.losses(decisions, value)))
    ranks = np.arange(1, len(scores) + 1)
    if len(scores) > MOST_SCORES:
        ranks = np.unique(np.linspace(1, len(scores), MOST_SCORES).astype(int))
    return {"method": "LAC", "rows": len(scores), "ranks": ranks.tolist(), "scores": scores[ranks - 1].tolist()}


def least_probability(sets: Mapping[str, Any], coverage: float) -> float:
    """Return how probable a label must be to be in a set with this coverage.

    If not all scores are stored, it is that of the next greater rank, so that the coverage is not less.

    Args:
        sets: What `nonconformity` returned.
        coverage: The least share of the rows whose set holds the right label, between 0 and 1.

    Raises:
        BadData: There are too few rows for this coverage.
    """
    rows = int(sets["rows"])
    rank = math.ceil((rows + 1) * coverage - 1e-9)  # 0.9 * 10 can be 9.000000000000002
    if rank > rows:
        finding = Finding(
            code=CODE,
            level="error",
            message=f"a coverage of {coverage:g} needs {least_rows(coverage):,} rows of validation with answers, and "
            f"the run had {rows:,}.",
            fix=f"Ask for a coverage of at most {math.floor(1000 * rows / (rows + 1)) / 1000:g}, or train with more "
            "rows of validation.",
            value=f"{coverage:g}",
        )
        raise BadData(f"coverage: {finding.message} {finding.fix}", findings=[finding])
    place = int(np.searchsorted(np.asarray(sets["ranks"]), rank))
    return 1 - float(sets["scores"][place])


def least_rows(coverage: float) -> int:
    """Return how many rows a coverage needs.

    >>> least_rows(0.9), least_rows(0.95), least_rows(0.99)
    (9, 19, 99)
    """
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def label_set(probabilities: Mapping[Any, float], least: float) -> list[Any]:
    """Return the labels that are probable enough, the most probable first.

    >>> label_set({"neg": 0.2, "neutral": 0.5, "pos": 0.3}, 0.25)
    ['neutral', 'pos']
    """
    labels = [label for label, probability in probabilities.items() if probability >= least - SLACK]
    return sorted(labels, key=lambda label: -probabilities[label])
