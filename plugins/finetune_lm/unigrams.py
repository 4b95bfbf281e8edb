"""How frequent each token is: what a language model must know more than."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from finetune.interfaces import Predictions


@dataclass(frozen=True, kw_only=True)
class Unigrams:
    """The shares of tokens in training texts; what never occurs there has the share of something seen once.

    Source: add-one smoothing (Laplace), over the tokenizer's vocabulary.
    """

    log_shares: Any
    """Natural logarithms, by token id."""

    @classmethod
    def of(cls, train: Predictions) -> Self:
        """Count the tokens of training features."""
        counts = np.ones(len(train.tokenizer))
        for feature in train.features:
            np.add.at(counts, np.asarray(feature["input_ids"]), 1)
        return cls(log_shares=np.log(counts / counts.sum()))

    def instead(self, predictions: Predictions, nll: Any) -> Any:
        """Return the negative log-likelihoods (features, tokens), in nats, of the tokens for which a model has one."""
        found = np.full(np.shape(nll), -1.0)
        for block, feature in enumerate(predictions.features):
            ids = np.asarray(feature["input_ids"])
            found[block, : len(ids)] = np.where(np.asarray(nll[block])[: len(ids)] < 0, -1.0, -self.log_shares[ids])
        return found

    @property
    def likeliest(self) -> int:
        """The most frequent token."""
        return int(self.log_shares.argmax())
