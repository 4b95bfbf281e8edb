"""How well a masked language model predicts what is hidden from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from finetune.interfaces import Evaluator, Predictions, Record, Tallies
from finetune.kit import ratios
from finetune_lm.attribution import documents_of, judged, perplexities, perplexity, require_score, scored
from finetune_lm.unigrams import Unigrams

SCORES = ("perplexity", "accuracy")


@dataclass(frozen=True, kw_only=True)
class MaskedLMEvaluator(Evaluator):
    """Perplexity and accuracy of masked tokens, all together: no mean of batches, blocks or documents.

    The masks depend on the text alone, so that runs can be compared; every chosen token is hidden by the mask token. It
    is a pseudo-perplexity: not to be compared with a causal model's, nor with other masks.
    """

    primary: str = "perplexity"
    """The score to choose by: `perplexity` or `accuracy`."""

    def __post_init__(self) -> None:
        require_score(self.primary, SCORES)

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is a better one."""
        return self.primary == "accuracy"

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the guesses for each document's masked tokens, or, where its text has gaps of its own, fillings.

        ``{'prediction': ['tide', 'fog'], 'reference': ['tide', 'rain'], 'correct': 1, 'tokens': 2, 'nll': 1.9}``, and
        for a text that holds the mask token ``{'prediction': ['ship'], 'fillings': [[{'token': 'ship',
        'probability': 0.4}, …]]}``, which has nothing to score.
        """

        @cache
        def word(token: int) -> str:
            text: str = predictions.tokenizer.decode([token])
            return text

        nll, guesses, *best = (np.asarray(part) for part in predictions.outputs)
        records = [
            {"prediction": [], "reference": [], "correct": 0, "tokens": 0, "nll": 0.0} for _ in predictions.examples
        ]
        for part in judged(predictions, nll):
            truth = np.asarray(predictions.features[part.block]["input_ids"])[part.positions].tolist()
            guess = guesses[part.block][part.positions].tolist()
            for document, right, guessed, cost in zip(part.documents.tolist(), truth, guess, part.nll, strict=True):
                record: Any = records[document]
                record["prediction"].append(word(guessed))
                record["reference"].append(word(right))
                record["correct"] += int(right == guessed)
                record["tokens"] += 1
                record["nll"] += float(cost)
        for document, gaps in _gaps(predictions, *best).items():
            told = [[{"token": word(token), "probability": p} for token, p in gap] for gap in gaps]
            records[document] = {"prediction": [gap[0]["token"] for gap in told], "fillings": told}
        return records

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return perplexity and accuracy of the masked tokens, and how many there were."""
        found = scored(records)
        tokens = sum(record["tokens"] for record in found)
        return {
            "perplexity": perplexity(math.fsum(record["nll"] for record in found), tokens),
            "accuracy": sum(record["correct"] for record in found) / tokens,
            "tokens": tokens,
        }

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return the mean surprise at a token of each document, in nats."""
        return [record["nll"] / record["tokens"] if record.get("tokens") else 0.0 for record in records]

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return surprise, hits and masked tokens of each document."""
        nll, right, tokens = (
            np.array([record.get(name, 0) for record in records]) for name in ("nll", "correct", "tokens")
        )
        parts = {"perplexity": (nll, tokens), "accuracy": (right, tokens)}
        return ratios(parts, most={"accuracy": 1.0}, through={"perplexity": perplexities})

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the guesses of whoever knows only how frequent each token is in the training texts."""
        known = Unigrams.of(train)
        nll, guesses, *best = (np.asarray(part) for part in predictions.outputs)
        outputs = (known.instead(predictions, nll), np.full_like(guesses, known.likeliest), *best)
        return {"unigram": self.records(replace(predictions, outputs=outputs))}


Gap = list[tuple[int, float]]
"""Tokens that may fill a gap, the likeliest first, with their probabilities."""


def _gaps(predictions: Predictions, ids: Any, probabilities: Any) -> dict[int, list[Gap]]:
    """Return the fillings of the gaps that texts have of their own, by example."""
    found: dict[int, list[Gap]] = {}
    mask = predictions.tokenizer.mask_token_id
    for block in np.flatnonzero((ids >= 0).any(axis=(1, 2))) if ids.size else ():
        feature = predictions.features[int(block)]
        places = documents_of(feature)[np.asarray(feature["input_ids"]) == mask]
        for document, tokens, shares in zip(places.tolist(), ids[block], probabilities[block], strict=False):
            found.setdefault(document, []).append(list(zip(tokens.tolist(), shares.tolist(), strict=True)))
    return found
