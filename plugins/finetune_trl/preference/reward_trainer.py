"""The trainer of reward models."""

from __future__ import annotations

from typing import Any

import torch
from trl import RewardConfig, RewardTrainer

from finetune.interfaces import Job
from finetune.kit import build_trainer
from finetune_trl.chat.columns import MARGIN
from finetune_trl.patched import PatchedTRLTrainer, train_features
from finetune_trl.preference.collate import CHOSEN_IDS, COMPLETION_IDS, REJECTED_IDS
from finetune_trl.refused_options import REWARD, refuse_options


class PatchedRewardTrainer(PatchedTRLTrainer, RewardTrainer):
    """TRL's trainer; it predicts the scores of both answers of a pair (B, 2), or of single answers (B,)."""

    _signature_columns: Any

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Return the loss if it is asked for, and the scores."""
        inputs = self._prepare_inputs(inputs)
        paired = inputs.pop("paired", True)
        with torch.no_grad(), self.compute_loss_context_manager():
            needs_loss = paired and (prediction_loss_only or self.compute_metrics is not None)
            loss = self.compute_loss(model, dict(inputs)).detach() if needs_loss else None
            if prediction_loss_only:
                return loss, None, None
            inputs.pop(MARGIN, None)
            rewards = model(**inputs).logits.squeeze(-1).float()
        if not paired:
            return loss, rewards, None
        # The labels are not used: transformers computes no metrics without any.
        return loss, torch.stack(rewards.chunk(2), dim=1), rewards.new_ones(len(rewards) // 2)

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            self._signature_columns = [CHOSEN_IDS, REJECTED_IDS, COMPLETION_IDS, MARGIN]


def trainer(job: Job) -> PatchedRewardTrainer:
    """Build the trainer.

    Raises:
        BadOptions: See `refuse_options`.
    """
    refuse_options(job, RewardConfig, REWARD)
    return build_trainer(job, PatchedRewardTrainer, **train_features(job, columns=(CHOSEN_IDS, REJECTED_IDS)))
