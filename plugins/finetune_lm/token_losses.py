"""The losses of predicted tokens, and the documents that the tokens belong to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetune.errors import BadData, TrainingFailed
from finetune.interfaces import Predictions, Record, Row
from finetune.kit import require_key

Array = NDArray[Any]
NO_LABEL = -1
"""Output at a position without a label: less than any negative log-likelihood, as is -100, the
trainer's padding."""
_REMEDY = "Add a column with the number of tokens of each document in the block, or choose another evaluator."


class TokenLosses(NamedTuple):
    """The predicted tokens of one block."""

    block: int
    """Index of the feature."""
    positions: Array
    """Positions of the tokens in the block."""
    documents: Array
    """Index of the example that each token belongs to."""
    nll: Array
    """Negative log-likelihood of each token, in nats."""


def token_losses(predictions: Predictions, nll: Any) -> Iterator[TokenLosses]:
    """Yield the predicted tokens of every block with the examples that they belong to.

    Args:
        predictions: Features and examples.
        nll: What the model returned for each position of each block, (blocks, T); negative where
            there is no label.

    Raises:
        BadOptions: The features do not say which document each token belongs to.
        TrainingFailed: A likelihood is not a finite number.
    """
    for block, (feature, row) in enumerate(zip(predictions.features, np.asarray(nll), strict=True)):
        require_key(feature, "seq_lengths", predictions.preprocessor, method="features()", remedy=_REMEDY)
        documents = document_indices(feature)
        values = row[: len(documents)].astype(np.float64)
        positions = np.flatnonzero(~(values < 0))  # NaN counts as predicted, so that it is found
        if not np.isfinite(values[positions]).all():
            raise TrainingFailed(
                f"the model's outputs for block {block} are not finite. The training has diverged: lower learning_rate."
            )
        yield TokenLosses(block, positions, documents[positions], values[positions])


def document_indices(feature: Row) -> Array:
    """Return the example that each token of a block belongs to.

    >>> document_indices({"example": 7, "seq_lengths": [3, 1]}).tolist()
    [7, 7, 7, 8]
    """
    lengths = feature["seq_lengths"]
    indices: Array = feature["example"] + np.repeat(np.arange(len(lengths)), lengths)
    return indices


def loss_per_token(record: Record) -> float:
    """Return the mean NLL of a document's tokens in nats; 0 if none was predicted."""
    return float(record["nll"] / record["tokens"]) if record.get("tokens") else 0.0


def perplexity(nll: float, tokens: int) -> float:
    """Return ``exp(nll / tokens)``, at most the greatest float, because JSON has no infinity."""
    return float(perplexities(nll / tokens))


def perplexities(nll_per_token: Any) -> Any:
    """Return the exponential of an array, limited as in `perplexity`."""
    return np.exp(np.minimum(nll_per_token, np.log(np.finfo(np.float64).max)))


def with_tokens(records: Sequence[Record]) -> list[Record]:
    """Return the records that have a predicted token to score.

    Raises:
        BadData: There are none.
    """
    scorable = [record for record in records if record.get("tokens")]
    if not scorable:
        raise BadData("no text has a predicted token, so nothing can be scored. Check that the texts are long enough.")
    return scorable
