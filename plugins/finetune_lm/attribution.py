"""Numbers of tokens → the documents that the tokens are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from finetune.errors import BadData, TrainingFailed, did_you_mean
from finetune.interfaces import Predictions, Record

Numbers = Any
"""An array."""


class Judged(NamedTuple):
    """The predicted tokens of one block."""

    block: int
    """Which feature."""
    positions: Numbers
    """Where they stand in it."""
    documents: Numbers
    """Which example each is of."""
    nll: Numbers
    """Negative log-likelihood of each, in nats."""


def judged(predictions: Predictions, nll: Numbers) -> Iterator[Judged]:
    """Yield the predicted tokens of every block with the examples they are of.

    Raises:
        TrainingFailed: A likelihood is not a finite number.
    """
    for block, (feature, row) in enumerate(zip(predictions.features, np.asarray(nll), strict=True)):
        documents = documents_of(feature)
        values = row[: len(documents)].astype(np.float64)
        positions = np.flatnonzero(~(values < 0))
        if not np.isfinite(values[positions]).all():
            raise TrainingFailed(
                f"the model's outputs for block {block} are not finite. The training has diverged: lower learning_rate."
            )
        yield Judged(block, positions, documents[positions], values[positions])


def documents_of(feature: Any) -> Numbers:
    """Return which example each token of a block is of.

    >>> documents_of({"example": 7, "pieces": [3, 1]}).tolist()
    [7, 7, 7, 8]
    """
    return feature["example"] + np.repeat(np.arange(len(feature["pieces"])), feature["pieces"])


def perplexity(nll: float, tokens: int) -> float:
    """Return ``exp(nll / tokens)``; beyond what a float holds, the greatest of them, since JSON has no infinity."""
    return float(perplexities(nll / tokens))


def perplexities(surprise: Numbers) -> Numbers:
    """Return the exponential of surprise by token, as `perplexity` does."""
    return np.exp(np.minimum(surprise, np.log(np.finfo(np.float64).max)))


def scored(records: Sequence[Record]) -> list[Record]:
    """Return the records that have something to score.

    Raises:
        BadData: There are none.
    """
    found = [record for record in records if record.get("tokens")]
    if not found:
        raise BadData("there is no predicted token to score.")
    return found


def require_score(name: str, known: Sequence[str]) -> None:
    """Refuse a primary score that does not exist.

    Raises:
        ValueError: With the nearest name.
    """
    if name not in known:
        raise ValueError(
            f"primary is no score of this evaluator.{did_you_mean(name, known)} It has: {', '.join(known)}"
        )
