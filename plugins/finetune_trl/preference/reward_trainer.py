"""The trainer of reward models, and what is scored of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from trl import RewardConfig, RewardTrainer

from finetune.interfaces import Evaluator, Job, Predictions, Record, Tallies
from finetune.kit import build_trainer, ratios
from finetune_trl.patched import PatchedTRLTrainer, train_features
from finetune_trl.preference.collate import CHOSEN_IDS, REJECTED_IDS
from finetune_trl.preference.evaluator import decided, longer, preference_scores, preference_sums, preferred
from finetune_trl.refused_options import REWARD, refuse_options

_PAIR = (CHOSEN_IDS, REJECTED_IDS)


class PatchedRewardTrainer(PatchedTRLTrainer, RewardTrainer):
    """TRL's trainer, which predicts scores: of both answers of a pair (B, 2), or of single answers (B,)."""

    _signature_columns: list[str] | None

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Return the loss where it is asked for, and the scores."""
        inputs = self._prepare_inputs(inputs)
        paired = inputs.pop("paired", True)
        with torch.no_grad(), self.compute_loss_context_manager():
            scored = paired and (prediction_loss_only or self.compute_metrics is not None)
            loss = self.compute_loss(model, dict(inputs)).detach() if scored else None
            if prediction_loss_only:
                return loss, None, None
            rewards = model(**inputs).logits.squeeze(-1).float()
        if not paired:
            return loss, rewards, None
        # The labels are nobody's: without any, transformers computes no metrics.
        return loss, torch.stack(rewards.chunk(2), dim=1), rewards.new_ones(len(rewards) // 2)

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            self._signature_columns = [*_PAIR, "completion_ids"]


def trainer(job: Job) -> PatchedRewardTrainer:
    """Build the trainer.

    Raises:
        BadOptions: See `refuse_options`.
    """
    refuse_options(job, RewardConfig, REWARD)
    return build_trainer(job, PatchedRewardTrainer, **train_features(job, columns=_PAIR))


@dataclass(frozen=True, kw_only=True)
class RewardEvaluator(Evaluator):
    """Scores pairs by what a reward model gives their answers.

    - ``accuracy``: share of pairs whose chosen answer has the greater score; a tie counts half. ``accuracy_low`` and
      ``accuracy_high`` bound its 95 % interval (Wilson's, as if the pairs were independent).
    - ``margin``: mean of chosen score − rejected score; ``chosen_reward`` and ``rejected_reward``: their means.

    A single completion's record has its score under ``prediction``.
    """

    primary: Literal["accuracy", "margin"] = "accuracy"
    """The score that stands for the others: `accuracy` or `margin`."""

    def records(self, predictions: Predictions) -> list[Record]:
        """Return a record for each pair, or for each single completion."""
        rewards = np.asarray(predictions.outputs, float)
        if rewards.ndim == 1:
            return [{"prediction": reward} for reward in rewards.tolist()]
        return [preferred(chosen, rejected) for chosen, rejected in rewards.tolist()]

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return accuracy with its interval, margin and mean scores."""
        return preference_scores(records)

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return by how much each rejected answer is preferred."""
        return [max(-record["margin"], 0.0) for record in records]

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return who wins by how much in each pair; all pairs of a prompt are drawn together."""
        return ratios(preference_sums(records), most={"accuracy": 1.0})

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the choices of whoever prefers the longer answer: a bias that many preference data have."""
        return {"longer": [longer(feature, CHOSEN_IDS, REJECTED_IDS) for feature in predictions.features]}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return how many pairs the model decides which way."""
        return {"decided": decided(records)}
