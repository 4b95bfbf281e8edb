"""The temperature of each question type, fitted on the records of validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from finetune.interfaces import Record

FEWEST = 20
"""Fewest questions of a type from which a temperature is fitted; of fewer, it is 1."""
RANGE = (0.05, 20.0)
"""Between these the temperature is looked for."""


def fit(records: Sequence[Record], *, fewest: int = FEWEST) -> dict[str, float]:
    """Return the temperature of each question type that has enough records.

    It divides the logits of the options, and has the least negative log-likelihood of the right ones. It changes no
    answer, only how sure the model is.

    Args:
        records: Records with ``logits`` and ``right``.
        fewest: Fewest records of a type.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", §4.2.
    """
    found = {}
    for kind in sorted({record["type"] for record in records}):
        chosen = [record for record in records if record["type"] == kind and "right" in record]
        if len(chosen) >= fewest:
            found[kind] = _best([np.array(record["logits"]) for record in chosen], [r["right"] for r in chosen])
    return found


def _best(logits: Sequence[NDArray[np.float64]], right: Sequence[int]) -> float:
    def nll(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        losses = [-log_softmax(row / temperature)[place] for row, place in zip(logits, right, strict=True)]
        return float(np.mean(losses))

    # the loss is convex in 1 / temperature, so it has one minimum
    low, high = np.log(RANGE)
    return float(np.exp(minimize_scalar(nll, bounds=(low, high), method="bounded").x))
