"""What evaluators read from predictions, and the errors where it is missing."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
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


def labelled(predictions: Predictions) -> tuple[Any, Any]:
    """Return the positions of the examples that have ``labels``, as an array, and the labels, as a list."""
    known = references(predictions)
    rows = [position for position, reference in enumerate(known) if reference is not None]
    return np.array(rows, dtype=np.int64), [known[position] for position in rows]


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


class Probabilities(Mapping[str, float]):
    """The probability of each label, by its name: a row of an array, which takes a tenth of the memory of a `dict`."""

    __slots__ = ("_positions", "row")

    def __init__(self, positions: Mapping[str, int], row: Any) -> None:
        self._positions = positions
        self.row = row

    def __getitem__(self, label: str) -> float:
        return float(self.row[self._positions[label]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def items(self) -> ItemsView[str, float]:
        """Return each label with its probability."""
        return dict(zip(self._positions, self.row.tolist(), strict=True)).items()

    def values(self) -> ValuesView[float]:
        """Return the probabilities in order of the label ids."""
        return dict(self.items()).values()

    def __repr__(self) -> str:
        return repr(dict(self.items()))


def probabilities_of(names: Sequence[str], table: Any) -> list[Probabilities]:
    """Return the probabilities of each row of an array of doubles (N, L)."""
    positions = {name: position for position, name in enumerate(names)}
    return [Probabilities(positions, row) for row in table]


def probability_table(records: Sequence[Record]) -> Any:
    """Return the probabilities of records as an array (N, L), in order of the label ids."""
    rows = []
    for record in records:
        probabilities = record["probabilities"]
        is_array = isinstance(probabilities, Probabilities)
        rows.append(probabilities.row if is_array else np.array(list(probabilities.values())))
    return np.stack(rows)


def require_records(records: Sequence[Record]) -> None:
    """Refuse to score nothing."""
    if not records:
        raise BadData("there is no example with a label to score.")
