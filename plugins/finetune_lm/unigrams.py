"""The baseline of language models: how frequent each token is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from finetune.interfaces import Predictions


@dataclass(frozen=True, kw_only=True)
class Unigrams:
    """The shares of tokens in training texts; a token that never occurs counts as if it occurred once.

    Source: add-one smoothing (Laplace), over the tokenizer's vocabulary.
    """

    log_shares: NDArray[np.float64]
    """Natural logarithms of the shares, by token id."""

    @classmethod
    def of(cls, train: Predictions) -> Self:
        """Count the tokens of training features."""
        counts = np.ones(len(train.tokenizer))
        for feature in train.features:
            np.add.at(counts, np.asarray(feature["input_ids"]), 1)
        return cls(log_shares=np.log(counts / counts.sum()))

    def nll(self, predictions: Predictions, nll: Any) -> NDArray[np.float64]:
        """Return the NLL of the tokens by their shares, in nats, (features, T).

        Args:
            predictions: The features.
            nll: The model's NLL, which shows what is predicted: a position where it is negative
                stays -1.
        """
        unigram_nll = np.full(np.shape(nll), -1.0)
        for block, feature in enumerate(predictions.features):
            ids = np.asarray(feature["input_ids"])
            has_label = ~(np.asarray(nll[block])[: len(ids)] < 0)
            unigram_nll[block, : len(ids)] = np.where(has_label, -self.log_shares[ids], -1.0)
        return unigram_nll

    @property
    def most_frequent(self) -> int:
        """The id of the most frequent token."""
        return int(self.log_shares.argmax())
