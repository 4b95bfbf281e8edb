"""The trainer of Kahneman-Tversky optimization."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from trl import KTOConfig, KTOTrainer

from finetune.errors import BadOptions
from finetune.interfaces import Job
from finetune.kit import model_columns
from finetune_trl.patched import built_by_trl, prepare_model, train_features
from finetune_trl.preference.collate import COMPLETION_IDS, LABEL, PROMPT_IDS, PadKTO
from finetune_trl.reference import ReferenceTrainer, reference_of
from finetune_trl.refused_options import KTO, refuse_options


class PatchedKTOTrainer(ReferenceTrainer, KTOTrainer):
    """TRL's trainer; it predicts log-probabilities of answers rather than tables of logits."""

    def outputs_of(
        self, trained: torch.Tensor, reference: torch.Tensor, inputs: dict[str, Any]
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
        """Return log-probabilities, model and reference, (B, 2), with rewards, (B,); and the labels, (B,)."""
        both = torch.stack([trained, reference], dim=1).float()
        return (both, self.beta * (both[:, 0] - both[:, 1])), inputs[LABEL]


def trainer(job: Job) -> PatchedKTOTrainer:
    """Build the trainer; the training rows are shuffled once, because TRL takes them in order.

    It reads the preprocessor's trainer option ``conversational``: whether prompts are turns of a chat (default false).

    Raises:
        BadOptions: The batches are too small, or drawn in another way than TRL's; or see `refuse_options`.
        Incompatible: The strategy and TRL's loss do not go together.
    """
    refuse_options(job, KTOConfig, KTO)
    refuse_batches(job)
    more = train_features(job, columns=(PROMPT_IDS, COMPLETION_IDS))
    if job.train is not None:
        # In the order of the file, a batch might hold one kind of label alone.
        rows = model_columns(job.train.shuffle(seed=job.seed), job)
        more = {"train_dataset": rows, "data_collator": collator_with_spare(job, rows)}
    return built_by_trl(job, PatchedKTOTrainer, ref_model=reference_of(job), generation=prepare_model(job), **more)


def collator_with_spare(job: Job, rows: Any) -> Any:
    """Return the collator; if the last batch holds one row, it is compared with the answer of the first row.

    A collator that is not `PadKTO` comes back as it is, and must do this by itself.

    Raises:
        BadOptions: There is one row to train on, and TRL's estimate needs two.
    """
    collator = job.preprocessor.collator(job.tokenizer, job.model)
    if not isinstance(collator, PadKTO):
        return collator
    if len(rows) < 2:
        raise BadOptions("training: KTO needs at least two rows: it puts each answer after the prompt of another row.")
    return replace(collator, spare=rows[0][COMPLETION_IDS])


def refuse_batches(job: Job) -> None:
    """Refuse batches from which TRL cannot estimate how far the model has moved.

    Raises:
        BadOptions: The batches are such.
    """
    if job.train is None or job.arguments.get("loss_type") == "apo_zero_unpaired":
        return
    if job.arguments.get("per_device_train_batch_size", KTOConfig.per_device_train_batch_size) < 2:
        raise BadOptions(
            "training: 'per_device_train_batch_size' must be 2 or more for KTO, whose estimate of the KL divergence "
            "puts each answer of a batch after the prompt of another row. Raise it, or set loss_type: "
            "apo_zero_unpaired."
        )
    if job.arguments.get("train_sampling_strategy", "sequential") != "sequential":
        raise BadOptions(
            "training: leave 'train_sampling_strategy' out for KTO: TRL takes the rows in order, and they are shuffled "
            "once before."
        )
