"""The rewards of the answers that a model generates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from finetune.errors import BadData
from finetune.interfaces import Evaluator, Predictions, Record, Tallies
from finetune.kit import ratios
from finetune_trl.generation import decode_answers, without_padding


@dataclass(frozen=True, kw_only=True)
class RLEvaluator(Evaluator):
    """Scores the answers that the model generates to held-out prompts by their rewards.

    - ``reward``: their mean.
    - ``reward_std``: their standard deviation.
    - ``length``: mean length of an answer in tokens, its end included.

    Each prompt is answered once, by greedy decoding unless the recipe's `generation` section says otherwise. There is
    no right answer, so a record's ``reference`` is None.
    """

    primary: Literal["reward"] = "reward"
    """The score that models are chosen by."""

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        return {"length": "mean, in tokens"}

    def records(self, predictions: Predictions) -> list[Record]:
        """Return a record for each prompt: the answer, its reward (None if no reward function gave one), its length."""
        ids, rewards = predictions.outputs
        answers = decode_answers(ids, predictions.tokenizer)
        lengths = map(len, without_padding(ids))
        records: list[Record] = []
        for answer, reward, length in zip(answers, map(float, rewards), lengths, strict=True):
            reward_or_none = None if math.isnan(reward) else reward
            records.append({"prediction": answer, "reference": None, "reward": reward_or_none, "length": length})
        return records

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the mean reward, its standard deviation, and the mean length.

        Raises:
            BadData: No answer has a reward.
        """
        rewards = _known_rewards(records)
        if not rewards:
            raise BadData("no answer has a reward: every reward function returned None for all of them.")
        return {
            "reward": float(np.mean(rewards)),
            "reward_std": float(np.std(rewards)),
            "length": float(np.mean([record["length"] for record in records])),
        }

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return how far each reward is below the greatest; 0 for an answer without a reward."""
        greatest = max(_known_rewards(records), default=0.0)
        return [0.0 if record["reward"] is None else greatest - record["reward"] for record in records]

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return reward and length of each answer; an answer without a reward does not count in the mean reward."""
        table = np.zeros((len(records), 3))
        for row, record in zip(table, records, strict=True):
            row[0] = record["length"]
            if record["reward"] is not None:
                row[1:] = record["reward"], 1
        lengths, rewards, has_reward = table.T
        return ratios({"reward": (rewards, has_reward), "length": (lengths, np.ones(len(records)))})


def _known_rewards(records: Sequence[Record]) -> list[float]:
    return [record["reward"] for record in records if record["reward"] is not None]
