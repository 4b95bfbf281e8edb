"""What evaluators read from predictions, and the errors where it is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finetune.errors import BadData, TrainingFailed
from finetune.interfaces import Predictions, Record
from finetune.kit import require_key


def label_names(predictions: Predictions) -> tuple[str, ...]:
    """Return the label names in order of id, as the fitted preprocessor gave them to the model.

    Raises:
        BadOptions: The preprocessor's `model_options` hold no ``id2label``.
    """
    preprocessor = predictions.preprocessor
    remedy = "Return the names of the labels there, {0: 'neg', 1: 'pos'}, or choose another evaluator."
    options = preprocessor.model_options()
    id2label = require_key(options, "id2label", preprocessor, method="model_options()", remedy=remedy)
    return tuple(id2label[position] for position in range(len(id2label)))


def first_output(predictions: Predictions) -> Any:
    """Return the logits: some heads give hidden states or the like after them."""
    outputs = predictions.outputs
    return outputs[0] if isinstance(outputs, tuple | list) else outputs


def require_shape(logits: Any, shape: tuple[int, ...]) -> None:
    """Refuse outputs of another shape than a head for these labels gives."""
    if logits.shape != shape:
        raise TrainingFailed(f"the model's outputs have the shape {logits.shape}; expected {shape}.")


def logits_of(predictions: Predictions, *, width: int) -> Any:
    """Return the logits as an array (N, width) of doubles.

    Raises:
        TrainingFailed: A logit is not finite, or there are more or fewer logits than labels.
    """
    logits = np.asarray(first_output(predictions), dtype=np.float64)
    require_shape(logits, (len(predictions.examples), width))
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise TrainingFailed(
            f"the model's outputs for {len(bad):,} of {len(logits):,} examples are not finite, first for example "
            f"{bad[0]}: {logits[bad[0]].tolist()}. The training has diverged: lower learning_rate."
        )
    return logits


def references(predictions: Predictions) -> list[Any]:
    """Return the ``labels`` of each example, or None where it has none."""
    return [feature.get("labels") for feature in predictions.features]


def probability_table(records: Sequence[Record]) -> Any:
    """Return the probabilities of records as an array (N, L), in order of the label ids."""
    return np.array([list(record["probabilities"].values()) for record in records])


def require_records(records: Sequence[Record]) -> None:
    """Refuse to score nothing."""
    if not records:
        raise BadData("there is no example with a label to score.")
