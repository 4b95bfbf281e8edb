"""Scores of multi-label classification, computed by scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.metrics import (
    accuracy_score,
    hamming_loss,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from finetune.interfaces import Decisions, Evaluator, Predictions, Record, Tallies
from finetune.kit import check_primary, check_temperature, safe_divide
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
    "subset_accuracy", "hamming_loss", "precision_micro", "precision_macro", "precision_samples", "recall_micro",
    "recall_macro", "recall_samples", "f1_micro", "f1_macro", "f1_samples", "roc_auc_macro",
)  # fmt: skip
_SUMS = tuple(name for name in SCORES if not name.endswith("_samples") and name != "roc_auc_macro")
PER_LABEL = ("precision", "recall", "f1")


@dataclass(frozen=True, kw_only=True)
class MultiLabelEvaluator(Evaluator):
    """Scores of each label, over all decisions and over examples, and the share of examples with no error."""

    primary: str = "f1_micro"
    """The score that models are chosen by: `f1_micro`, `f1_macro`, `subset_accuracy`, `f1/<label>`, …"""
    threshold: float = 0.5
    """Least probability at which a label is predicted, before the temperature changes the probability."""
    temperature: float | None = None
    """What logits are divided by before they become probabilities. None: a run fits it on validation. 1 leaves the
    probabilities as they are."""

    def __post_init__(self) -> None:
        check_primary(self.primary, SCORES, PER_LABEL)
        check_temperature(self.temperature)
        if not 0 <= self.threshold <= 1:
            raise ValueError("threshold must be between 0 and 1")

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is a better one."""
        return self.primary != "hamming_loss"

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        return dict.fromkeys((*SCORES, *PER_LABEL), "0 to 1")

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the labels of each example that reach the threshold, with the probability of every label.

        ``{'prediction': ['pos'], 'probabilities': {'neg': 0.25, 'pos': 0.75}, 'reference':
        ['pos']}``
        """
        names = label_names(predictions)
        logits = logits_of(predictions, width=len(names))  # (N, L)
        predicted = self._predicted(logits)
        probabilities = expit(logits / (self.temperature or 1.0))
        records: list[Record] = []
        rows = probabilities_of(names, probabilities)
        for row, chosen, reference in zip(rows, predicted, references(predictions), strict=True):
            record: Record = {"prediction": _chosen(names, chosen), "probabilities": row}
            if reference is not None:
                record["reference"] = _chosen(names, reference)
            records.append(record)
        return records

    def _predicted(self, logits: Any) -> Any:
        """Return which labels are predicted: an array of bool (N, L)."""
        return expit(logits) >= self.threshold

    def decisions(self, predictions: Predictions) -> Decisions | None:
        """Return two options for each label of each example: that the example does not have it, and that it has it."""
        rows, answers = labelled(predictions)
        if not answers:
            return None
        logits = logits_of(predictions, width=len(label_names(predictions)))[rows]
        predicted, true = self._predicted(logits).ravel(), np.array(answers, dtype=bool).ravel()
        return Decisions(
            scores=np.stack([np.zeros(logits.size), logits.ravel()], axis=1),
            predicted=np.stack([~predicted, predicted], axis=1),
            true=np.stack([~true, true], axis=1),
            rows=np.repeat(rows, logits.shape[1]),
        )

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the scores of all labels and of each; a score whose divisor is 0 is 0.

        An example without labels for which none is predicted counts 1 in ``f1_samples``.
        ``roc_auc_macro`` is absent if some label is on every example, or on none.
        """
        names, truth, guess = _indicators(records)
        scores = {"subset_accuracy": accuracy_score(truth, guess), "hamming_loss": hamming_loss(truth, guess)}
        for average in ("micro", "macro"):
            averaged = precision_recall_fscore_support(truth, guess, average=average, zero_division=0)
            for name, value in zip(PER_LABEL, averaged[:3], strict=True):
                scores[f"{name}_{average}"] = value
        scores |= _samples(truth, guess)
        per_label = precision_recall_fscore_support(truth, guess, average=None, zero_division=0)
        for name, values in zip(PER_LABEL, per_label[:3], strict=True):
            for label, value in zip(names, values, strict=True):
                scores[f"{name}/{label}"] = value
        if (truth.min(axis=0) < truth.max(axis=0)).all():
            scores["roc_auc_macro"] = roc_auc_score(truth, probability_table(records), average="macro")
        return {name: float(value) for name, value in scores.items()}

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return hits, predictions and references of each label, and the examples without an error.

        The mean scores over examples and ``roc_auc_macro`` cannot be computed from sums.
        """
        names, truth, guess = _indicators(records)
        whole = np.stack([(truth == guess).all(axis=1), np.ones(len(truth))], axis=1)
        values = np.concatenate([truth & guess, guess, truth, whole], axis=1).astype(np.float64)
        return Tallies(values=values, scores=partial(_scores_of_sums, names=names), most=dict.fromkeys(_SUMS, 1.0))

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the records of always predicting the labels that at least `threshold` of the training rows have.

        If there are none, it predicts the most frequent label.
        """
        names = label_names(predictions)
        shares = np.mean([np.asarray(row, dtype=float) for row in references(train)], axis=0)
        common = _chosen(names, shares >= self.threshold) or [names[int(shares.argmax())]]
        probabilities = dict(zip(names, shares.tolist(), strict=True))
        records: list[Record] = []
        for row in references(predictions):
            records.append({"prediction": common, "probabilities": probabilities, "reference": _chosen(names, row)})
        return {"most frequent": records}

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return how many labels of each record are wrong."""
        return [float(len(set(record["prediction"]) ^ set(record["reference"]))) for record in records]

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return the rows of each label, and its two-by-two table (rows are references, columns predictions)."""
        names, truth, guess = _indicators(records)
        tables = multilabel_confusion_matrix(truth, guess)
        return {
            "labels": list(names),
            "confusion_matrix": dict(zip(names, tables.tolist(), strict=True)),
            "support": dict(zip(names, truth.sum(axis=0).tolist(), strict=True)),
        }


def _indicators(records: Sequence[Record]) -> tuple[tuple[str, ...], Any, Any]:
    """Return the label names, and two arrays (N, L) of 0 and 1: references and predictions."""
    require_records(records)
    names = tuple(records[0]["probabilities"])
    position = ids_of(names, ids=False)
    truth = np.zeros((len(records), len(names)), np.int64)
    guess = np.zeros_like(truth)
    for row, record in enumerate(records):
        for table, side in ((truth, "reference"), (guess, "prediction")):
            for name in record[side]:
                table[row, position[name]] = 1
    return names, truth, guess


def _chosen(names: Sequence[str], row: Sequence[Any]) -> list[str]:
    """Return the labels that have a 1 in a row."""
    return [name for name, value in zip(names, row, strict=True) if value]


def _scores_of_sums(sums: Any, *, names: Sequence[str]) -> dict[str, Any]:
    """Return the scores of hits, predictions and references of each label (…, 3 L), then right and all examples."""
    hits, predicted, true = np.split(sums[..., :-2], 3, axis=-1)
    size = sums[..., -1]
    per_label = {
        "precision": safe_divide(hits, predicted, otherwise=0.0),
        "recall": safe_divide(hits, true, otherwise=0.0),
        "f1": safe_divide(2 * hits, predicted + true, otherwise=0.0),
    }
    all_hits, all_predicted, all_true = hits.sum(axis=-1), predicted.sum(axis=-1), true.sum(axis=-1)
    scores = {
        "subset_accuracy": safe_divide(sums[..., -2], size),
        "hamming_loss": safe_divide(all_predicted + all_true - 2 * all_hits, size * len(names)),
        "precision_micro": safe_divide(all_hits, all_predicted, otherwise=0.0),
        "recall_micro": safe_divide(all_hits, all_true, otherwise=0.0),
        "f1_micro": safe_divide(2 * all_hits, all_predicted + all_true, otherwise=0.0),
    }
    for name, values in per_label.items():
        scores[f"{name}_macro"] = values.mean(axis=-1)
        for k, label in enumerate(names):
            scores[f"{name}/{label}"] = values[..., k]
    return scores


def _samples(truth: Any, guess: Any) -> dict[str, float]:
    """Return the mean scores over examples; an example that rightly has no label is 1, where scikit-learn gives 0."""
    rest = (truth.sum(axis=1) > 0) | (guess.sum(axis=1) > 0)
    if not rest.any():
        return {"precision_samples": 1.0, "recall_samples": 1.0, "f1_samples": 1.0}
    averaged = precision_recall_fscore_support(truth[rest], guess[rest], average="samples", zero_division=0)
    share = rest.mean()
    scores = {}
    for name, value in zip(PER_LABEL, averaged[:3], strict=True):
        scores[f"{name}_samples"] = value * share + 1 - share
    return scores
