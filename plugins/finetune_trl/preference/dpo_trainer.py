"""The trainer of direct preference optimization."""

from __future__ import annotations

from typing import Any

import torch
from trl import DPOConfig, DPOTrainer

from finetune.interfaces import Job
from finetune_trl.patched import built_by_trl, prepare_model, train_features
from finetune_trl.preference.collate import CHOSEN_IDS, PROMPT_IDS, REJECTED_IDS
from finetune_trl.reference import ReferenceTrainer, reference_of
from finetune_trl.refused_options import DPO, refuse_options


class PatchedDPOTrainer(ReferenceTrainer, DPOTrainer):
    """TRL's trainer; it predicts log-probabilities of pairs rather than tables of logits."""

    def outputs_of(
        self, trained: torch.Tensor, reference: torch.Tensor, inputs: dict[str, Any]
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
        """Return the outputs of `pair_outputs`, and labels."""
        # The labels are not used: transformers computes no metrics without any.
        return pair_outputs(trained, reference, beta=self.beta), trained.new_ones(len(trained) // 2)


def pair_outputs(trained: torch.Tensor, reference: torch.Tensor, *, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities ``(B, 2, 2)``, model and reference by chosen and rejected, and rewards ``(B, 2)``.

    Args:
        trained: Summed log-probability under the model of every chosen answer, then of every rejected one.
        reference: The same under the reference.
        beta: A reward is beta times the logarithm of the ratio of the two.

    Source: Rafailov et al. 2023, "Direct Preference Optimization", §4: the implicit reward.
    """
    both = torch.stack([trained, reference]).float()  # (2, 2B)
    log_probs = torch.stack(both.chunk(2, dim=1), dim=2).transpose(0, 1)  # (B, 2, 2)
    return log_probs.contiguous(), beta * (log_probs[:, 0] - log_probs[:, 1])


def trainer(job: Job) -> PatchedDPOTrainer:
    """Build the trainer.

    It reads the preprocessor's trainer option ``conversational``: whether prompts are turns of a chat (default false).

    Raises:
        BadOptions: See `refuse_options`.
        Incompatible: The strategy and TRL's loss do not go together.
    """
    refuse_options(job, DPOConfig, DPO)
    more = train_features(job, columns=(PROMPT_IDS, CHOSEN_IDS, REJECTED_IDS))
    return built_by_trl(job, PatchedDPOTrainer, ref_model=reference_of(job), generation=prepare_model(job), **more)
