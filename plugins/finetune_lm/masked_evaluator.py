"""How well a masked language model predicts masked tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from finetune.interfaces import Evaluator, Predictions, Record, Tallies
from finetune.kit import check_primary, ratios
from finetune_lm.token_losses import (
    document_indices,
    loss_per_token,
    perplexities,
    perplexity,
    token_losses,
    with_tokens,
)
from finetune_lm.unigrams import Unigrams

SCORES = ("perplexity", "accuracy")


@dataclass(frozen=True, kw_only=True)
class MaskedLMEvaluator(Evaluator):
    """Perplexity and accuracy of all masked tokens together, not the mean over batches, blocks or documents.

    The masks depend on the text alone, so runs can be compared. The mask token replaces each chosen
    token. This is a pseudo-perplexity: do not compare it with a causal model's, or with a
    perplexity under other masks.
    """

    primary: str = "perplexity"
    """The score that models are chosen by: `perplexity` or `accuracy`."""

    def __post_init__(self) -> None:
        check_primary(self.primary, SCORES)

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is a better one."""
        return self.primary == "accuracy"

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        return {"perplexity": "1 or more", "accuracy": "0 to 1", "tokens": "tokens"}

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the predictions for each document's masked tokens, or the fillings if its text contains mask tokens.

        ``{'prediction': ['tide', 'fog'], 'reference': ['tide', 'rain'], 'correct': 1, 'tokens': 2,
        'nll': 1.9}``, and for a text that contains the mask token ``{'prediction': ['ship'],
        'fillings': [[{'token': 'ship', 'probability': 0.4}, …]]}``, which has nothing to score.

        Raises:
            BadOptions: The preprocessor does not give what this evaluator needs.
            TrainingFailed: A likelihood is not a finite number.
        """

        @cache
        def word(token: int) -> str:
            return str(predictions.tokenizer.decode([token]))

        nll, best_ids, *gaps = predictions.outputs
        records: list[Record] = []
        for _ in predictions.examples:
            records.append({"prediction": [], "reference": [], "correct": 0, "tokens": 0, "nll": 0.0})
        for losses in token_losses(predictions, nll):
            true_ids = np.asarray(predictions.features[losses.block]["input_ids"])[losses.positions]
            predicted_ids = np.asarray(best_ids[losses.block])[losses.positions]
            rows = zip(losses.documents, true_ids.tolist(), predicted_ids.tolist(), losses.nll, strict=True)
            for document, true_id, predicted_id, loss in rows:
                record = records[int(document)]
                record["prediction"].append(word(predicted_id))
                record["reference"].append(word(true_id))
                record["correct"] += int(true_id == predicted_id)
                record["tokens"] += 1
                record["nll"] += float(loss)
        for document, fillings in _fillings(predictions, *gaps).items():
            named = []
            for filling in fillings:
                named.append([{"token": word(token), "probability": p} for token, p in filling])
            records[document] = {"prediction": [best["token"] for best, *_ in named], "fillings": named}
        return records

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return perplexity and accuracy of the masked tokens, and how many there were."""
        scorable = with_tokens(records)
        tokens = sum(record["tokens"] for record in scorable)
        return {
            "perplexity": perplexity(math.fsum(record["nll"] for record in scorable), tokens),
            "accuracy": sum(record["correct"] for record in scorable) / tokens,
            "tokens": tokens,
        }

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return the mean NLL per masked token of each document, in nats."""
        return [loss_per_token(record) for record in records]

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return NLL, correct and masked tokens of each document."""
        columns = {}
        for name in ("nll", "correct", "tokens"):
            columns[name] = np.array([record.get(name, 0) for record in records])
        quotients = {
            "perplexity": (columns["nll"], columns["tokens"]),
            "accuracy": (columns["correct"], columns["tokens"]),
        }
        return ratios(quotients, most={"accuracy": 1.0}, through={"perplexity": perplexities})

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the records of a model that knows only how frequent each token is in the training texts."""
        unigrams = Unigrams.of(train)
        nll, best_ids, *gaps = predictions.outputs
        most_frequent = np.full_like(np.asarray(best_ids), unigrams.most_frequent)
        outputs = (unigrams.nll(predictions, nll), most_frequent, *gaps)
        return {"unigram": self.records(replace(predictions, outputs=outputs))}


Filling = list[tuple[int, float]]
"""Tokens that may fill a gap, the likeliest first, with their probabilities."""


def _fillings(predictions: Predictions, ids: Any, probabilities: Any) -> dict[int, list[Filling]]:
    """Return the fillings of the mask tokens that a text itself contains: example → one filling for each gap."""
    ids = np.asarray(ids)
    fillings: dict[int, list[Filling]] = {}
    if not ids.size:
        return fillings
    mask = predictions.tokenizer.mask_token_id
    for block in np.flatnonzero((ids >= 0).any(axis=(1, 2))).tolist():
        feature = predictions.features[block]
        gaps = np.asarray(feature["input_ids"]) == mask
        # a block with fewer gaps than the widest one of its batch is padded
        rows = zip(document_indices(feature)[gaps], ids[block], np.asarray(probabilities[block]), strict=False)
        for document, tokens, shares in rows:
            filling = list(zip(tokens.tolist(), shares.tolist(), strict=True))
            fillings.setdefault(int(document), []).append(filling)
    return fillings
