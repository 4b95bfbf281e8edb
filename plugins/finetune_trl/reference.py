"""The reference: the pretrained model, whose log-probabilities are compared with those of the trained one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import is_peft_model

from finetune.errors import Incompatible
from finetune.interfaces import IGNORE_INDEX, Job
from finetune_trl.generation import prepare_generation
from finetune_trl.patched import PatchedTRLTrainer, forget_copied_adapter, refuse_moved_base
from finetune_trl.sft.trainer import forget_fused_head


def reference_of(job: Job) -> Any:
    """Return the pretrained model, frozen; None if switching an adapter off gives it.

    It is loaded from its source, because the model to train may hold the weights of a checkpoint or a finished run.

    Raises:
        Incompatible: The adapter changes the pretrained weights, or the job cannot load the pretrained model.
    """
    if is_peft_model(job.model):
        refuse_moved_base(job.model)
        return None
    if job.base is None:
        raise Incompatible("the job cannot load the pretrained model, which is the reference. Set Job.base.")
    return job.base().eval().requires_grad_(False).to(job.model.device)


def prepare_model(job: Job) -> dict[str, Any]:
    """Undo what an earlier trainer did to a job's model, write the ends of an answer into it, and return the options.

    Raises:
        BadOptions: See `prepare_generation`.
    """
    forget_fused_head(job.model)
    return prepare_generation(job)


class ReferenceTrainer(PatchedTRLTrainer):
    """Sums the log-probabilities of answers, under the trained model and under the reference.

    Put it before `trl.DPOTrainer` or `trl.KTOTrainer`.
    """

    beta: float
    ref_model: Any
    accelerator: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        forget_copied_adapter(self.model)

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
