"""How well a model separates desirable answers from undesirable ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from sklearn.metrics import roc_auc_score

from finetune.interfaces import Evaluator, Limit, Predictions, Record, Tallies
from finetune.kit import ratios
from finetune_trl.generation import texts
from finetune_trl.preference.collate import COMPLETION_IDS, LABEL
from finetune_trl.preference.evaluator import kl_or_zero, mean_scores
from finetune_trl.row_limits import row_limits


@dataclass(frozen=True, kw_only=True)
class KTOEvaluator(Evaluator):
    """Scores answers by the implicit rewards of Kahneman-Tversky optimization: beta · log p(model) / p(reference).

    - ``accuracy``: share of answers whose reward has the sign that their label asks for. A reward of 0 counts half, so
      that the base model has 0.5.
    - ``auc``: how often a desirable answer has a greater reward than an undesirable one, whatever their signs.
    - ``margin``: ``desirable_reward`` − ``undesirable_reward``, the mean rewards of the two kinds of answers.
    - ``kl``: mean, by token of all answers, of log p(model) − log p(reference); see `PreferenceEvaluator`.

    With answers of one kind only, the scores that compare two kinds are left out. For a prompt without an answer, the
    record's ``prediction`` is the text that the model generates.
    """

    primary: Literal["accuracy", "auc", "margin"] = "accuracy"
    """The score that models are chosen by: `accuracy`, `auc` or `margin`."""

    def limits(self, predictions: Predictions, *, generation: Mapping[str, Any]) -> list[Limit]:
        """Return `max_length` of the preprocessor, with the tokens of each row."""
        return row_limits(predictions)

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        return {"accuracy": "0 to 1", "auc": "0 to 1", "kl": "nats per token"}

    def records(self, predictions: Predictions) -> list[Record]:
        """Return a record for each answer: whether its reward is above 0, and the reward."""
        if COMPLETION_IDS not in predictions.features[0]:
            return [{"prediction": text} for text in texts(predictions)]
        log_probs, rewards = (np.asarray(output, float) for output in predictions.outputs)
        log_ratios = log_probs[:, 0] - log_probs[:, 1]
        records = []
        for feature, reward, log_ratio in zip(predictions.features, rewards.tolist(), log_ratios.tolist(), strict=True):
            record: Record = {"prediction": None if reward == 0 else reward > 0, "reference": bool(feature[LABEL])}
            record |= {"reward": reward, "log_ratio": log_ratio, "tokens": len(feature[COMPLETION_IDS])}
            records.append(record)
        return records

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return accuracy, the scores that compare the two kinds, and the distance from the reference."""
        means = mean_scores(self.tallies(records))
        scores = {"accuracy": means["accuracy"]}
        labels = [record["reference"] for record in records]
        if len(set(labels)) == 2:
            rewards = [record["reward"] for record in records]
            scores["auc"] = float(roc_auc_score(labels, rewards)) if np.isfinite(rewards).all() else math.nan
            for name in ("margin", "desirable_reward", "undesirable_reward"):
                scores[name] = means[name]
        scores["kl"] = kl_or_zero(means["kl"], records)
        return scores

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return how far each reward lies on the wrong side of 0."""
        losses = []
        for record in records:
            reward = record["reward"]
            losses.append(max(-reward if record["reference"] else reward, 0.0))
        return losses

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return credit and rewards of the answers of either kind; ``auc`` is not made of sums."""
        table = np.zeros((len(records), 5))
        for row, record in zip(table, records, strict=True):
            row[:] = _credit(record), record["reference"], record["reward"], record["log_ratio"], record["tokens"]
        credit, desirable, rewards, log_ratios, tokens = table.T
        undesirable = 1 - desirable
        tallies = ratios(
            {
                "accuracy": (credit, np.ones(len(records))),
                "desirable_reward": (np.where(desirable, rewards, 0), desirable),
                "undesirable_reward": (np.where(undesirable, rewards, 0), undesirable),
                "kl": (log_ratios, tokens),
            },
            most={"accuracy": 1.0},
        )

        def scores_with_margin(sums: Any) -> dict[str, Any]:
            scores = tallies.scores(sums)
            return {**scores, "margin": scores["desirable_reward"] - scores["undesirable_reward"]}

        return replace(tallies, scores=scores_with_margin)


def _credit(record: Record) -> float:
    """Return 1 for a reward on the right side of 0, a half for 0 itself, and 0 for one on the wrong side or NaN."""
    if math.isnan(record["reward"]):
        return 0.0
    if record["prediction"] is None:
        return 0.5
    return float(record["prediction"] == record["reference"])
