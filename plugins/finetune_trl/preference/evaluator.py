"""How well a model separates chosen answers from rejected ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from finetune.interfaces import Evaluator, Limit, Predictions, Record, Row, Tallies
from finetune.kit import ratios
from finetune_trl.generation import texts
from finetune_trl.preference.collate import CHOSEN_IDS, REJECTED_IDS
from finetune_trl.row_limits import row_limits

CHOSEN, REJECTED, TIE = "chosen", "rejected", "tie"
_CREDIT = {CHOSEN: 1.0, TIE: 0.5, REJECTED: 0.0}
_MEANS = ("margin", "chosen_reward", "rejected_reward")


@dataclass(frozen=True, kw_only=True)
class PreferenceEvaluator(Evaluator):
    """Scores pairs by the implicit rewards of direct preference optimization.

    - ``accuracy``: share of pairs whose chosen answer has the greater reward. A tie counts half, so that the base
      model, whose rewards are all 0, has 0.5.
    - ``margin``: mean of chosen reward − rejected reward.
    - ``chosen_reward``, ``rejected_reward``: their means. Both may fall while the margin grows.
    - ``kl``: how far the model has moved from the reference on the chosen answers: the mean, by token, of
      log p(model) − log p(reference). It estimates the Kullback-Leibler divergence, in nats per token, only as far as
      the model would generate these answers itself. It is negative if the model finds them less likely than before.

    For a prompt without answers, the record's ``prediction`` is the text that the model generates.
    """

    primary: Literal["accuracy", "margin"] = "accuracy"
    """The score that models are chosen by: `accuracy` or `margin`."""

    def limits(self, predictions: Predictions, *, generation: Mapping[str, Any]) -> list[Limit]:
        """Return `max_length` of the preprocessor, with the tokens of each row."""
        return row_limits(predictions)

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        return {"accuracy": "0 to 1", "kl": "nats per token"}

    def records(self, predictions: Predictions) -> list[Record]:
        """Return a record for each pair: the answer that the model prefers, and by how much."""
        if CHOSEN_IDS not in predictions.features[0]:
            return [{"prediction": text} for text in texts(predictions)]
        log_probs, rewards = predictions.outputs
        log_ratios = np.asarray(log_probs, float)[:, 0, 0] - np.asarray(log_probs, float)[:, 1, 0]
        records = []
        for feature, pair, log_ratio in zip(predictions.features, rewards, log_ratios.tolist(), strict=True):
            record = preference_record(float(pair[0]), float(pair[1]))
            record |= {"log_ratio": log_ratio, "tokens": len(feature[CHOSEN_IDS])}
            records.append(record)
        return records

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return accuracy, margin, mean rewards and the distance from the reference."""
        scores = mean_scores(self.tallies(records))
        return {**scores, "kl": kl_or_zero(scores["kl"], records)}

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return by how much each rejected answer is preferred."""
        return reversed_margins(records)

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return credit, margin and rewards of each pair; the core resamples all pairs of a prompt together."""
        parts = preference_sums(records)
        log_ratios = [record["log_ratio"] for record in records]
        tokens = [record["tokens"] for record in records]
        return ratios({**parts, "kl": (log_ratios, tokens)}, most={"accuracy": 1.0})

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the preference for the longer answer, a bias that many preference data have."""
        records = []
        for feature in predictions.features:
            record = prefer_longer(feature)
            record |= {"log_ratio": 0.0, "tokens": len(feature[CHOSEN_IDS])}
            records.append(record)
        return {"longer": records}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return how many pairs the model decides for each answer."""
        return {"decided": count_decisions(records)}


@dataclass(frozen=True, kw_only=True)
class RewardEvaluator(Evaluator):
    """Scores pairs by the numbers that a reward model gives their answers.

    - ``accuracy``: share of pairs whose chosen answer has the greater number; a tie counts half.
    - ``margin``: mean of chosen − rejected; ``chosen_reward`` and ``rejected_reward``: the mean of each.

    The record of a single completion has its number under ``prediction``.
    """

    primary: Literal["accuracy", "margin"] = "accuracy"
    """The score that models are chosen by: `accuracy` or `margin`."""

    def limits(self, predictions: Predictions, *, generation: Mapping[str, Any]) -> list[Limit]:
        """Return `max_length` of the preprocessor, with the tokens of each row."""
        return row_limits(predictions)

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        return {"accuracy": "0 to 1"}

    def records(self, predictions: Predictions) -> list[Record]:
        """Return a record for each pair, or for each single completion."""
        rewards = np.asarray(predictions.outputs, float)
        if rewards.ndim == 1:
            return [{"prediction": reward} for reward in rewards.tolist()]
        return [preference_record(chosen, rejected) for chosen, rejected in rewards.tolist()]

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return accuracy, margin and mean rewards."""
        return mean_scores(self.tallies(records))

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return by how much each rejected answer is preferred."""
        return reversed_margins(records)

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return credit, margin and rewards of each pair; the core resamples all pairs of a prompt together."""
        return ratios(preference_sums(records), most={"accuracy": 1.0})

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the preference for the longer answer, a bias that many preference data have."""
        return {"longer": list(map(prefer_longer, predictions.features))}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return how many pairs the model decides for each answer."""
        return {"decided": count_decisions(records)}


def preference_record(chosen: float, rejected: float) -> Record:
    """Return the record of a pair with these rewards.

    >>> preference_record(1.5, 1.0)
    {'prediction': 'chosen', 'reference': 'chosen', 'margin': 0.5, 'chosen_reward': 1.5, 'rejected_reward': 1.0}
    """
    better = CHOSEN if chosen > rejected else REJECTED
    return {
        "prediction": TIE if chosen == rejected else better,
        "reference": CHOSEN,
        "margin": chosen - rejected,
        "chosen_reward": chosen,
        "rejected_reward": rejected,
    }


def preference_sums(records: Sequence[Record]) -> dict[str, tuple[Any, Any]]:
    """Return numerator and denominator of accuracy, margin and mean rewards, for `ratios`."""
    ones = np.ones(len(records))
    sums: dict[str, tuple[Any, Any]] = {"accuracy": ([_CREDIT[record["prediction"]] for record in records], ones)}
    for name in _MEANS:
        sums[name] = [record[name] for record in records], ones
    return sums


def mean_scores(tallies: Tallies) -> dict[str, float]:
    """Return the scores that tallies give."""
    return {name: float(score) for name, score in tallies.scores(tallies.values.sum(axis=0)).items()}


def kl_or_zero(kl: float, records: Sequence[Record]) -> float:
    """Return the score ``kl``; 0 if ``max_length`` left no token of any answer."""
    return kl if any(record["tokens"] for record in records) else 0.0


def reversed_margins(records: Sequence[Record]) -> list[float]:
    """Return by how much the reward of the rejected answer is greater, 0 where it is not."""
    return [max(-record["margin"], 0.0) for record in records]


def prefer_longer(feature: Row) -> Record:
    """Return the record of a pair if the reward of an answer is its number of tokens."""
    return preference_record(float(len(feature[CHOSEN_IDS])), float(len(feature[REJECTED_IDS])))


def count_decisions(records: Sequence[Record]) -> Mapping[str, int]:
    """Return how many pairs the model decides for each answer."""
    predictions = [record["prediction"] for record in records]
    return {side: predictions.count(side) for side in (CHOSEN, TIE, REJECTED)}
