"""What evaluators read from predictions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from finetune.errors import BadData, TrainingFailed, did_you_mean
from finetune.interfaces import Predictions, Record


def label_names(predictions: Predictions) -> tuple[str, ...]:
    """Return the label names in order of id, as the fitted preprocessor gave them to the model."""
    id2label = predictions.preprocessor.model_options()["id2label"]
    return tuple(id2label[position] for position in range(len(id2label)))


def logits_of(predictions: Predictions, *, width: int) -> Any:
    """Return the logits as an array (N, width) of doubles.

    Raises:
        TrainingFailed: A logit is not finite, or there are more or fewer than the labels.
    """
    outputs = predictions.outputs
    # Some heads give hidden states or the like beside the logits, which come first.
    logits = np.asarray(outputs[0] if isinstance(outputs, tuple | list) else outputs, dtype=np.float64)
    wanted = (len(predictions.examples), width)
    if logits.shape != wanted:
        raise TrainingFailed(f"the model's outputs have the shape {logits.shape}; {wanted} was wanted.")
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise TrainingFailed(
            f"the model's outputs for {len(bad):,} of {len(logits):,} examples are not finite, first for example "
            f"{bad[0]}: {logits[bad[0]].tolist()}. The training has diverged: lower learning_rate."
        )
    return logits


def references(predictions: Predictions) -> list[Any]:
    """Return what each example's ``labels`` are, or None where it has none."""
    return [feature.get("labels") for feature in predictions.features]


def require_records(records: Sequence[Record]) -> None:
    """Refuse to score nothing."""
    if not records:
        raise BadData("there is no example with a label to score.")


def require_score(name: str, known: Collection[str], per_label: Collection[str] = ()) -> None:
    """Refuse a primary score that does not exist: ``f1-macro``.

    Raises:
        ValueError: With the nearest name.
    """
    if name in known or (name.partition("/")[0] in per_label and "/" in name):
        return
    also = "".join(f", {score}/<label>" for score in per_label)
    raise ValueError(
        f"primary is no score of this evaluator.{did_you_mean(name, known)} It has: {', '.join(known)}{also}"
    )
