"""What the answers that a model writes are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from finetune.errors import BadData
from finetune.interfaces import IGNORE_INDEX, Evaluator, Predictions, Record, Tallies
from finetune.kit import ratios
from finetune_trl.writing import ids_to_texts


@dataclass(frozen=True, kw_only=True)
class RLEvaluator(Evaluator):
    """Scores the answers that the model writes to held-out prompts by their rewards.

    - ``reward``: their mean; ``reward_low`` and ``reward_high`` bound its 95 % interval (Student's t, by prompt).
    - ``reward_std``: their standard deviation.
    - ``length``: mean length of an answer in tokens, its end included.

    Each prompt is answered once: by the likeliest words, unless the recipe's `generation` section says how to draw.
    There is no right answer, so a record's ``reference`` is None.
    """

    primary: Literal["reward"] = "reward"
    """The score that stands for the others."""

    def records(self, predictions: Predictions) -> list[Record]:
        """Return a record for each prompt: the answer, its reward (None where no reward has an opinion), its length."""
        ids, rewards = (np.asarray(part) for part in predictions.outputs)
        return [
            {
                "prediction": text,
                "reference": None,
                "reward": None if math.isnan(reward) else reward,
                "length": int((row != IGNORE_INDEX).sum()),
            }
            for text, reward, row in zip(
                ids_to_texts(ids, predictions.tokenizer), rewards.astype(float).tolist(), ids, strict=True
            )
        ]

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the mean reward with its interval, and what goes with it.

        Raises:
            BadData: No answer has a reward.
        """
        rewards = np.array([record["reward"] for record in records if record["reward"] is not None], float)
        if not len(rewards):
            raise BadData("no answer has a reward: every reward function returned None for all of them.")
        low, high = mean_interval(rewards)
        return {
            "reward": float(rewards.mean()),
            "reward_low": low,
            "reward_high": high,
            "reward_std": float(rewards.std()),
            "length": float(np.mean([record["length"] for record in records])),
        }

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return how far each reward is below the greatest."""
        rewards = [record["reward"] for record in records if record["reward"] is not None]
        return [0.0 if record["reward"] is None else max(rewards) - record["reward"] for record in records]

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return reward and length of each answer; one without a reward counts for neither side of the mean."""
        known = [float(record["reward"] is not None) for record in records]
        rewards = [record["reward"] or 0.0 for record in records]
        lengths = [record["length"] for record in records]
        return ratios({"reward": (rewards, known), "length": (lengths, [1] * len(records))})


def mean_interval(values: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]:
    """Return the 95 % interval of a mean; of a single value, or of equal ones, that value twice.

    >>> [round(bound, 3) for bound in mean_interval([1.0, 2.0, 3.0])]
    [-0.484, 4.484]

    Source: Student 1908, "The probable error of a mean".
    """
    mean, size = float(np.mean(values)), len(values)
    if size < 2:
        return mean, mean
    half = float(stats.t.ppf(0.975, size - 1)) * float(np.std(values, ddof=1)) / math.sqrt(size)
    return mean - half, mean + half
