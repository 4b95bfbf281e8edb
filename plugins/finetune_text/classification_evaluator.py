"""Scores of single-label classification, computed by scikit-learn."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    matthews_corrcoef,
    precision_recall_fscore_support,
    roc_auc_score,
)

from finetune.interfaces import Decisions, Evaluator, Predictions, Record, Row, Tallies
from finetune.kit import check_primary, check_temperature, decisions_of, safe_divide
from finetune_text.labels import ids_of
from finetune_text.outputs import (
    label_names,
    labelled,
    logits_of,
    probabilities_of,
    probability_table,
    references,
    require_records,
)

SCORES = (
    "accuracy", "balanced_accuracy", "precision_micro", "precision_macro", "recall_micro", "recall_macro", "f1_micro",
    "f1_macro", "mcc", "roc_auc",
)  # fmt: skip
BINS = 10
MOST_CLASSES = 200
"""Most labels of which the confusion matrix is stored; its size is quadratic in them."""
MOST_CONFUSIONS = 1_000
"""Most pairs of labels that are stored instead of the matrix."""
PER_LABEL = ("precision", "recall", "f1")


@dataclass(frozen=True, kw_only=True)
class TextClassificationEvaluator(Evaluator):
    """Accuracy, scores of each class, scores corrected for chance, and the confusion matrix."""

    primary: str = "accuracy"
    """The score that models are chosen by: `accuracy`, `balanced_accuracy`, `f1_macro`, `mcc`, `f1/<label>`, …"""
    temperature: float | None = None
    """What logits are divided by before they become probabilities. None: a run fits it on validation. 1 leaves the
    probabilities as they are."""

    def __post_init__(self) -> None:
        check_primary(self.primary, SCORES, PER_LABEL)
        check_temperature(self.temperature)

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        return {**dict.fromkeys((*SCORES, *PER_LABEL), "0 to 1"), "mcc": "−1 to 1"}

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the most probable label of each example, with the probability of every label.

        ``{'prediction': 'pos', 'probability': 0.75, 'probabilities': {'neg': 0.25, 'pos': 0.75},
        'reference': 'pos'}``
        """
        names = label_names(predictions)
        logits = logits_of(predictions, width=len(names))  # (N, L)
        probabilities = softmax(logits / (self.temperature or 1.0), axis=-1)
        best = logits.argmax(axis=-1)
        records: list[Record] = []
        rows = probabilities_of(names, probabilities)
        for row, position, reference in zip(rows, best, references(predictions), strict=True):
            record: Record = {
                "prediction": names[position],
                "probability": float(row.row[position]),
                "probabilities": row,
            }
            if reference is not None:
                record["reference"] = names[reference]
            records.append(record)
        return records

    def decisions(self, predictions: Predictions) -> Decisions | None:
        """Return the logits of each example that has a label."""
        rows, answers = labelled(predictions)
        if not answers:
            return None
        logits = logits_of(predictions, width=len(label_names(predictions)))
        return replace(decisions_of(logits[rows], answers), rows=rows)

    def confidence(self, record: Record) -> float:
        """Return the probability of the predicted label."""
        return float(record["probability"])

    def label_probabilities(self, record: Record) -> Mapping[str, float]:
        """Return the probability of every label."""
        probabilities: Mapping[str, float] = record["probabilities"]
        return probabilities

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the scores of all classes together and of each class.

        Classes that are neither a reference nor a prediction are left out; balanced accuracy
        averages over the classes that have references. ``roc_auc`` is that of the second label if
        there are two, else the mean over each label against the rest. It is absent if a class has
        no reference.
        """
        names, truth, guess = _ids(records)
        present = np.union1d(truth, guess)
        per_class = precision_recall_fscore_support(truth, guess, labels=present, average=None, zero_division=0)
        scores = {
            "accuracy": accuracy_score(truth, guess),
            "balanced_accuracy": per_class[1][per_class[3] > 0].mean(),
            # 0 by definition; scikit-learn would warn.
            "mcc": matthews_corrcoef(truth, guess) if len(present) > 1 else 0.0,
        }
        for average in ("micro", "macro"):
            averaged = precision_recall_fscore_support(truth, guess, labels=present, average=average, zero_division=0)
            for name, value in zip(PER_LABEL, averaged[:3], strict=True):
                scores[f"{name}_{average}"] = value
        for name, values in zip(PER_LABEL, per_class[:3], strict=True):
            for position, value in zip(present, values, strict=True):
                scores[f"{name}/{names[position]}"] = value
        scores |= _roc_auc(records, names, truth)
        return {name: float(value) for name, value in scores.items()}

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return hits, predictions and references of each class; ``roc_auc`` cannot be computed from sums."""
        names, truth, guess = _ids(records)
        classes = np.arange(len(names))
        true, predicted = truth[:, None] == classes, guess[:, None] == classes  # (N, L)
        values = np.concatenate([true & predicted, predicted, true], axis=1).astype(np.float64)
        return Tallies(
            values=values, scores=partial(_scores_of_sums, names=names), most=dict.fromkeys(SCORES[:-2], 1.0)
        )

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the records of always predicting the most frequent label of the training rows."""
        names = label_names(predictions)
        counts = Counter(references(train))
        shares = {name: counts[position] / counts.total() for position, name in enumerate(names)}
        best = max(shares, key=lambda name: shares[name])
        records = []
        for reference in references(predictions):
            record = {"prediction": best, "probability": shares[best], "probabilities": shares}
            records.append({**record, "reference": names[reference]})
        return {"majority": records}

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return the negative log-likelihood (NLL) of the right label for each wrong record, and 0 for right ones."""
        losses = []
        for record in records:
            probability = record["probabilities"][record["reference"]]
            is_right = record["prediction"] == record["reference"]
            losses.append(0.0 if is_right else -math.log(max(probability, 1e-300)))
        return losses

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
        """Return the right label of each example."""
        return {"label": [record["reference"] for record in records]}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return the confusion matrix (rows are references, columns predictions), the rows of each class, calibration.

        Each of the ``bins`` of ``calibration`` holds the range of probabilities (``low``,
        ``high``), the number of predictions in it (``size``), their mean probability
        (``confidence``) and the share that is right (``accuracy``). ``ece``, the expected
        calibration error, is the mean distance between confidence and accuracy.

        With more labels than `MOST_CLASSES`, there is no matrix. ``confusions`` lists the most frequent
        pairs of a reference and a wrong prediction, and ``confusions_in_all`` says how many pairs there are.

        Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
        """
        names, truth, guess = _ids(records)
        support = np.bincount(truth, minlength=len(names)).tolist()
        return {
            "labels": list(names),
            **_confusions(names, truth, guess),
            "support": dict(zip(names, support, strict=True)),
            "calibration": calibration([record["probability"] for record in records], truth == guess),
        }


def _confusions(names: Sequence[str], truth: Any, guess: Any) -> dict[str, Any]:
    """Return the confusion matrix, or the most frequent confusions if there are many labels."""
    if len(names) <= MOST_CLASSES:
        return {"confusion_matrix": confusion_matrix(truth, guess, labels=range(len(names))).tolist()}
    wrong = truth != guess
    pairs = Counter(zip(truth[wrong].tolist(), guess[wrong].tolist(), strict=True))
    listed = []
    for (reference, prediction), count in pairs.most_common(MOST_CONFUSIONS):
        listed.append({"reference": names[reference], "prediction": names[prediction], "count": count})
    return {"confusions": listed, "confusions_in_all": len(pairs)}


def calibration(probabilities: Sequence[float], right: Any) -> dict[str, Any]:
    """Return how often predictions of a probability are right, in ten equal ranges, and the mean distance.

    >>> calibration([0.95, 0.95, 0.85, 0.85], [True, True, True, False])["ece"]
    0.2
    """
    confidence, right = np.asarray(probabilities, dtype=np.float64), np.asarray(right, dtype=np.float64)
    bin_of = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    distance = 0.0
    for number in np.unique(bin_of).tolist():
        inside = bin_of == number
        size, mean, accuracy = int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean())
        low, high = number / BINS, (number + 1) / BINS
        bins.append({"low": low, "high": high, "size": size, "confidence": mean, "accuracy": accuracy})
        distance += size * abs(mean - accuracy)
    return {"bins": bins, "ece": round(distance / len(confidence), 12)}


def _ids(records: Sequence[Record]) -> tuple[tuple[str, ...], Any, Any]:
    """Return the label names, and two arrays (N,) of label ids: references and predictions."""
    require_records(records)
    names = tuple(records[0]["probabilities"])
    ids = ids_of(names, ids=False)
    truth = np.zeros(len(records), np.int64)
    guess = np.zeros(len(records), np.int64)
    for row, record in enumerate(records):
        truth[row], guess[row] = ids[record["reference"]], ids[record["prediction"]]
    return names, truth, guess


def _scores_of_sums(sums: Any, *, names: Sequence[str]) -> dict[str, Any]:
    """Return the scores of hits, predictions and references of each class: (…, 3 L)."""
    hits, predicted, true = np.split(sums, 3, axis=-1)
    size, right = true.sum(axis=-1), hits.sum(axis=-1)
    per_class = {
        "precision": safe_divide(hits, predicted, otherwise=0.0),
        "recall": safe_divide(hits, true, otherwise=0.0),
        "f1": safe_divide(2 * hits, predicted + true, otherwise=0.0),
    }
    present = predicted + true > 0
    # Matthews' correlation of several classes: Gorodkin 2004, equation 8.
    chance = (predicted * true).sum(axis=-1)
    spread = np.sqrt((size**2 - (predicted**2).sum(axis=-1)) * (size**2 - (true**2).sum(axis=-1)))
    scores = {
        "accuracy": safe_divide(right, size),
        "balanced_accuracy": safe_divide(per_class["recall"].sum(axis=-1), (true > 0).sum(axis=-1)),
        "mcc": safe_divide(right * size - chance, spread, otherwise=0.0),
    }
    for name, values in per_class.items():
        scores[f"{name}_micro"] = scores["accuracy"]
        scores[f"{name}_macro"] = safe_divide((values * present).sum(axis=-1), present.sum(axis=-1))
        for k, label in enumerate(names):
            scores[f"{name}/{label}"] = np.where(present[..., k], values[..., k], np.nan)
    return scores


def _roc_auc(records: Sequence[Record], names: Sequence[str], truth: Any) -> dict[str, float]:
    if len(names) < 2 or len(np.unique(truth)) < len(names):
        return {}
    probabilities = probability_table(records)
    if len(names) == 2:
        return {"roc_auc": roc_auc_score(truth, probabilities[:, 1])}
    return {"roc_auc": roc_auc_score(truth, probabilities, multi_class="ovr", average="macro")}
