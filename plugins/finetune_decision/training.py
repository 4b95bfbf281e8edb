"""The trainer, which keeps of all logits those of the options."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch
from transformers import Trainer

from finetune.interfaces import Job
from finetune.kit import PatchedTrainer, base_model_of, build_trainer, logits_of
from finetune_decision.collator import option_logits


def decision_trainer(job: Job) -> Trainer:
    """Build the trainer of a decision model."""
    return build_trainer(job, DecisionTrainer)


class DecisionTrainer(PatchedTrainer):
    """A trainer whose outputs are the logits of the options of each question, (B, C)."""

    learns_from_logits = False  # from those of the options, at one place of each row

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        return dataset  # the core has selected the columns that the collator takes; the model takes fewer

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch and, if asked, the logits of the options."""
        reads: Any = partial(self._read, model)
        return super().compute_loss(reads, dict(inputs), *args, **kwargs)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Any, Any, Any]:
        """Predict one batch."""
        reads: Any = model  # with labels, `compute_loss` is called
        if "labels" not in inputs:
            reads = partial(self._read, model)
        predicted: tuple[Any, Any, Any] = super().prediction_step(reads, inputs, prediction_loss_only, ignore_keys)
        return predicted

    def _read(
        self,
        model: Any,
        *,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        option_ids: torch.Tensor,
        num_items_in_batch: Any = None,
    ) -> dict[str, torch.Tensor]:
        """Run a model, and return the logits of the options.

        Args:
            model: The model, as the trainer wrapped it.
            input_ids: The prompts.
            attention_mask: Their tokens.
            option_ids: The tokens of the options.
            num_items_in_batch: Not used: the loss is not the model's.
        """
        kept = {}
        if _keeps_logits(self.accelerator.unwrap_model(model)):
            # the answers stand at the ends of the prompts: no logits are made of what comes before the shortest
            kept["logits_to_keep"] = attention_mask.shape[1] - int(attention_mask.sum(dim=1).min()) + 1
        outputs = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **kept)
        return {"logits": option_logits(logits_of(outputs), attention_mask, option_ids)}


def _keeps_logits(model: Any) -> bool:
    """Return whether a model can leave out the logits of the first positions."""
    return "logits_to_keep" in inspect.signature(type(base_model_of(model)).forward).parameters
