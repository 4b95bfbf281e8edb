"""How well a model tells the chosen answer from the rejected one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from finetune.interfaces import Evaluator, Predictions, Record, Tallies
from finetune.kit import ratios
from finetune_trl.preference.collate import CHOSEN_IDS, REJECTED_IDS
from finetune_trl.writing import texts

CHOSEN, REJECTED, TIE = "chosen", "rejected", "tie"
_WORTH = {CHOSEN: 1.0, TIE: 0.5, REJECTED: 0.0}
_LEVEL = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True, kw_only=True)
class PreferenceEvaluator(Evaluator):
    """Scores pairs by the implicit rewards of direct preference optimization.

    - ``accuracy``: share of pairs whose chosen answer has the greater reward; a tie counts half, so that the untouched
      model, to whom every reward is 0, has 0.5. ``accuracy_low`` and ``accuracy_high`` bound its 95 % interval
      (Wilson's, as if the pairs were independent).
    - ``margin``: mean of chosen reward − rejected reward.
    - ``chosen_reward``, ``rejected_reward``: their means. Both may fall while the margin grows.
    - ``kl``: how far the model has moved from the reference on the chosen answers: the mean, by token, of
      log p(model) − log p(reference). It estimates the Kullback-Leibler divergence, in nats a token, only as far as the
      model would write those answers itself; it is negative where the model finds them less likely than before.

    A prompt without answers is answered: its record's ``prediction`` is the text that the model writes.
    """

    primary: Literal["accuracy", "margin"] = "accuracy"
    """The score that stands for the others: `accuracy` or `margin`."""

    def records(self, predictions: Predictions) -> list[Record]:
        """Return a record for each pair: which answer the model prefers, and by how much."""
        if CHOSEN_IDS not in predictions.features[0]:
            return [{"prediction": text} for text in texts(predictions)]
        log_probs, rewards = (np.asarray(part, float) for part in predictions.outputs)
        return [
            {
                **preferred(chosen, rejected),
                "log_ratio": ours - reference,
                "tokens": len(feature[CHOSEN_IDS]),
            }
            for feature, (chosen, rejected), (ours, reference) in zip(
                predictions.features, rewards.tolist(), log_probs[:, :, 0].tolist(), strict=True
            )
        ]

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return accuracy with its interval, margin, mean rewards and the distance from the reference."""
        tokens = sum(record["tokens"] for record in records)
        return {
            **preference_scores(records),
            "kl": sum(record["log_ratio"] for record in records) / max(tokens, 1),
        }

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return by how much each rejected answer is preferred."""
        return [max(-record["margin"], 0.0) for record in records]

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return who wins by how much in each pair; all pairs of a prompt are drawn together."""
        ratio, tokens = ([record[name] for record in records] for name in ("log_ratio", "tokens"))
        return ratios({**preference_sums(records), "kl": (ratio, tokens)}, most={"accuracy": 1.0})

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the choices of whoever prefers the longer answer: a bias that many preference data have."""
        return {"longer": [longer(feature, CHOSEN_IDS, REJECTED_IDS) for feature in predictions.features]}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return how many pairs the model decides which way."""
        return {"decided": decided(records)}


def preferred(chosen: float, rejected: float) -> Record:
    """Return the record of a pair with these rewards.

    >>> preferred(1.5, 1.0)
    {'prediction': 'chosen', 'reference': 'chosen', 'margin': 0.5, 'chosen_reward': 1.5, 'rejected_reward': 1.0}
    """
    prediction = TIE if chosen == rejected else CHOSEN if chosen > rejected else REJECTED
    return {
        "prediction": prediction,
        "reference": CHOSEN,
        "margin": chosen - rejected,
        "chosen_reward": chosen,
        "rejected_reward": rejected,
    }


def preference_scores(records: Sequence[Record]) -> dict[str, float]:
    """Return accuracy, its interval, margin and mean rewards of records that `preferred` made."""
    accuracy = float(np.mean([_WORTH[record["prediction"]] for record in records]))
    low, high = wilson(accuracy, len(records))
    means = {
        name: float(np.mean([r[name] for r in records])) for name in ("margin", "chosen_reward", "rejected_reward")
    }
    return {"accuracy": accuracy, "accuracy_low": low, "accuracy_high": high, **means}


def preference_sums(records: Sequence[Record]) -> dict[str, tuple[Any, Any]]:
    """Return what `preference_scores` are made of, above and below the line."""
    ones = np.ones(len(records))
    means = {
        name: (np.array([record[name] for record in records], dtype=float), ones)
        for name in ("margin", "chosen_reward", "rejected_reward")
    }
    return {"accuracy": (np.array([_WORTH[record["prediction"]] for record in records]), ones), **means}


def longer(feature: Any, chosen: str, rejected: str) -> Record:
    """Return the record of whoever gives an answer its number of tokens as its reward."""
    lengths = [len(feature[name]) for name in (chosen, rejected)]
    return {**preferred(float(lengths[0]), float(lengths[1])), "log_ratio": 0.0, "tokens": lengths[0]}


def decided(records: Sequence[Record]) -> Mapping[str, int]:
    """Return how many pairs the model decides which way."""
    return {side: sum(record["prediction"] == side for record in records) for side in (CHOSEN, TIE, REJECTED)}


def wilson(share: float, size: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of ``size`` independent cases.

    >>> [round(bound, 3) for bound in wilson(0.5, 100)]
    [0.404, 0.596]

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    square = _LEVEL**2 / size
    middle = (share + square / 2) / (1 + square)
    half = _LEVEL * math.sqrt((share * (1 - share) + square / 4) / size) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
