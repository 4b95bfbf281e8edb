"""The reference: the pretrained model, whose log-probabilities are compared with those of the trained one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import is_peft_model

from finetune.errors import Incompatible
from finetune.interfaces import IGNORE_INDEX, Job
from finetune_trl.generation import generate_answers
from finetune_trl.patched import PatchedTRLTrainer, delete_copied_adapter, refuse_changed_base


def reference_of(job: Job) -> Any:
    """Return the pretrained model, frozen; None if switching an adapter off gives it.

    It is loaded from its source, because the model to train may hold the weights of a checkpoint or a finished run.

    Raises:
        Incompatible: The adapter changes the pretrained weights, or the job cannot load the pretrained model.
    """
    if is_peft_model(job.model):
        refuse_changed_base(job.model)
        return None
    if job.base is None:
        raise Incompatible("the job cannot load the pretrained model, which is the reference. Set Job.base.")
    return job.base().eval().requires_grad_(False).to(job.model.device)


class ReferenceTrainer(PatchedTRLTrainer):
    """Predicts log-probabilities of answers, under the trained model and the reference, rather than tables of logits.

    Put it before `trl.DPOTrainer` or `trl.KTOTrainer`.
    """

    beta: float
    ref_model: Any
    accelerator: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        delete_copied_adapter(self.model)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Return the loss if it is asked for, and what `outputs_of` gives.

        For prompts without answers, return the generated ids.
        """
        inputs = self._prepare_inputs(inputs)
        if "completion_mask" not in inputs:
            return None, generate_answers(self, model, inputs), None
        with torch.no_grad(), self.compute_loss_context_manager():
            # Prediction alone needs no loss, which would cost both models' forward passes once more.
            needs_loss = prediction_loss_only or self.compute_metrics is not None
            loss = self.detached_loss(model, inputs) if needs_loss else None
            if prediction_loss_only:
                return loss, None, None
            outputs, labels = self.outputs_of(*self.both_log_probs(model, inputs), inputs)
        return loss, outputs, labels

    @abstractmethod
    def outputs_of(self, trained: torch.Tensor, reference: torch.Tensor, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """Return the outputs and the labels of a batch.

        Args:
            trained: Summed log-probability of each row's answer under the model, (B,).
            reference: The same under the reference.
            inputs: The batch.
        """

    def detached_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Return TRL's loss of a batch, without gradients."""
        loss = self.compute_loss(model, inputs)
        assert isinstance(loss, torch.Tensor)  # without return_outputs, it is
        return loss.detach()

    def both_log_probs(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed log-probability of each row's answer: under the model, and under the reference, (B,)."""
        trained = answer_log_probs(model, inputs)
        with self.reference(model) as reference, self.accelerator.autocast():
            return trained, answer_log_probs(reference, inputs)

    @contextmanager
    def reference(self, model: Any) -> Iterator[Any]:
        """Give the reference: a separate model, or this one with its adapter switched off."""
        if self.ref_model is not None:
            yield self.ref_model
            return
        with self.accelerator.unwrap_model(model).disable_adapter():
            yield model


def answer_log_probs(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Return the summed log-probability of each row's answer: ``inputs`` holds ids and ``completion_mask``, (B, L)."""
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, IGNORE_INDEX)
    outputs = model(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        labels=labels,
        use_cache=False,
        fused_lm_head=True,  # of TRL: log-probabilities of the labels, without the table of logits
    )
    # Virtual tokens of prompt learning stand before the real ones.
    log_probs: torch.Tensor = outputs.log_probs[:, -(labels.shape[1] - 1) :]
    return log_probs.sum(-1)
