"""Numbers of each record whose sums give every score."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from finetune.interfaces import Record, Tallies
from finetune.kit import safe_divide

Array = NDArray[np.float64]

BINS = 10
"""Ranges of confidence for the expected calibration error."""
MOST_CLASSES = 100
"""With more pairs of a question and an option than this, there is no `f1_macro`: the questions differ too much."""
UNCALIBRATED = "_uncalibrated"
"""End of the names of scores at temperature 1."""
NAMES = ("log_loss", "accuracy", "f1_macro", "mae", "brier", "ece")

_SUMS = ("rows", "hits", "levels", "distance")
_PARTS = ("nll", "brier", *(f"confidence{bin_}" for bin_ in range(BINS)), *(f"right{bin_}" for bin_ in range(BINS)))


def tallies_of(records: Sequence[Record]) -> Tallies:
    """Return the tallies of records with references.

    - ``log_loss``: mean negative log-likelihood of the right option.
    - ``accuracy``: share of questions whose most probable option is the right one.
    - ``f1_macro``: mean F1 of the options of choices and yes/no questions; an option of another question is another
      class.
    - ``mae``: mean distance between the expected and the right level of scores, in levels.
    - ``brier``: half the sum, over the options, of the squared distance between the probability and 1 for the right
      option or 0 for another, on average. Source: Brier 1950.
    - ``ece``: expected calibration error of the most probable option, in ten ranges. Source: Guo et al. 2017, eq. 3.

    The names that end in `UNCALIBRATED` are those of temperature 1.
    """
    classes = _classes(records)
    rows = []
    for record in records:
        calibrated = np.array(list(record["probabilities"].values()))
        raw = softmax(np.array(record["logits"]))
        parts = [_sums(record, calibrated), _of_probabilities(calibrated, record), _of_probabilities(raw, record)]
        rows.append(np.concatenate([*parts, _of_classes(record, classes)]))
    names = list(classes)
    most = {"accuracy": 1.0, "brier": 1.0, f"brier{UNCALIBRATED}": 1.0}
    return Tallies(values=np.stack(rows), scores=partial(_scores, classes=len(names)), most=most)


def _sums(record: Record, probabilities: Array) -> Array:
    hit = float(probabilities.argmax() == record["right"])
    if record["type"] != "score":
        return np.array([1.0, hit, 0.0, 0.0])
    expected = float(probabilities @ np.arange(len(probabilities)))
    return np.array([1.0, hit, 1.0, abs(expected - record["right"])])


def _of_probabilities(probabilities: Array, record: Record) -> Array:
    right = record["right"]
    truth = np.zeros(len(probabilities))
    truth[right] = 1.0
    nll = -math.log(max(float(probabilities[right]), 1e-300))
    confidence, hits = np.zeros(BINS), np.zeros(BINS)
    best = int(probabilities.argmax())
    bin_ = min(int(probabilities[best] * BINS), BINS - 1)
    confidence[bin_], hits[bin_] = probabilities[best], float(best == right)
    return np.concatenate([[nll, ((probabilities - truth) ** 2).sum() / 2], confidence, hits])


def _classes(records: Sequence[Record]) -> dict[tuple[str, str], int]:
    """Return the classes of `f1_macro` with their numbers; none if there are too many."""
    found: dict[tuple[str, str], int] = {}
    for record in records:
        if record["type"] != "score":
            for option in record["probabilities"]:
                found.setdefault((record["question"], option), len(found))
                if len(found) > MOST_CLASSES:
                    return {}
    return found


def _of_classes(record: Record, classes: dict[tuple[str, str], int]) -> Array:
    """Return for each class whether it is a hit, predicted, and right, as (3 K,)."""
    found = np.zeros((3, len(classes)))
    if classes and record["type"] != "score":
        predicted = classes[record["question"], record["prediction"]]
        right = classes[record["question"], record["reference"]]
        found[0, predicted] = float(predicted == right)
        found[1, predicted] = 1.0
        found[2, right] = 1.0
    return found.ravel()


def _scores(sums: Array, *, classes: int) -> dict[str, Any]:
    """Return the scores of sums (…, K)."""
    rows, hits, levels, distance = (sums[..., place] for place in range(len(_SUMS)))
    found = {"accuracy": safe_divide(hits, rows), "mae": safe_divide(distance, levels)}
    start = len(_SUMS)
    for end in ("", UNCALIBRATED):
        part = sums[..., start : start + len(_PARTS)]
        gaps = np.abs(part[..., 2 : 2 + BINS] - part[..., 2 + BINS :]).sum(axis=-1)
        found[f"log_loss{end}"] = safe_divide(part[..., 0], rows)
        found[f"brier{end}"] = safe_divide(part[..., 1], rows)
        found[f"ece{end}"] = safe_divide(gaps, rows)
        start += len(_PARTS)
    if classes:
        hit, predicted, right = np.split(sums[..., start:], 3, axis=-1)
        f1 = safe_divide(2 * hit, predicted + right, otherwise=0.0)
        found["f1_macro"] = safe_divide(f1.sum(axis=-1), (predicted + right > 0).sum(axis=-1))
    return found


def calibration(records: Sequence[Record]) -> dict[str, Any]:
    """Return the ranges of confidence with the share of right answers in each, and the error."""
    tallies = tallies_of(records)
    sums = tallies.values.sum(axis=0)
    part = sums[len(_SUMS) : len(_SUMS) + len(_PARTS)]
    sizes = np.zeros(BINS, dtype=int)
    for record in records:
        sizes[min(int(max(record["probabilities"].values()) * BINS), BINS - 1)] += 1
    bins = []
    for number in np.flatnonzero(sizes).tolist():
        size = int(sizes[number])
        mean, accuracy = float(part[2 + number]) / size, float(part[2 + BINS + number]) / size
        low, high = number / BINS, (number + 1) / BINS
        bins.append({"low": low, "high": high, "size": size, "confidence": mean, "accuracy": accuracy})
    return {"bins": bins, "ece": round(float(tallies.scores(sums)["ece"]), 12)}


def question_name(instructions: Any, options: Sequence[str]) -> str:
    """Return what a question is called in records: its instructions, or its options."""
    if instructions is None:
        return ", ".join(options)
    return instructions if isinstance(instructions, str) else json.dumps(instructions, ensure_ascii=False)
