"""The model that training started from: what the log-probabilities of the trained one are held against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import is_peft_model

from finetune.errors import Incompatible
from finetune.interfaces import IGNORE_INDEX, Job
from finetune_trl.patched import PatchedTRLTrainer, forget_copied_adapter, refuse_moved_base
from finetune_trl.sft.trainer import forget_fused_head, generation_of, stops_there


def reference_of(job: Job) -> Any:
    """Return the pretrained model, frozen, or None where switching an adapter off gives it back.

    It is loaded anew, for what is trained may be a checkpoint or a finished run's model by now.
    """
    if is_peft_model(job.model):
        refuse_moved_base(job.model)
        return None
    if job.base is None:
        raise Incompatible("the job does not say how to load the pretrained model, which is the reference: Job.base.")
    return job.base().eval().requires_grad_(False).to(job.model.device)


def prepared(job: Job) -> dict[str, Any]:
    """Free a job's model of what an earlier trainer did to it, tell it where answers end, and return how it writes."""
    generation = generation_of(job)
    forget_fused_head(job.model)
    stops_there(job, generation)
    return generation


class ReferenceTrainer(PatchedTRLTrainer):
    """Sums the log-probabilities of answers under the trained model and under the reference.

    Put it before `trl.DPOTrainer` or `trl.KTOTrainer`.
    """

    beta: float
    ref_model: Any
    accelerator: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        forget_copied_adapter(self.model)

    def both_log_probs(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum over each row's answer tokens: under the model, under the reference."""
        trained = answer_log_probs(model, inputs)
        with self.reference(model) as reference, self.accelerator.autocast():
            return trained, answer_log_probs(reference, inputs)

    @contextmanager
    def reference(self, model: Any) -> Iterator[Any]:
        """Give the reference: a model of its own, or this one with its adapter switched off."""
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
        fused_lm_head=True,  # TRL's own: log-probabilities of the labels, without the table of logits
    )
    # Virtual tokens of prompt learning stand before the real ones.
    log_probs: torch.Tensor = outputs.log_probs[:, -(labels.shape[1] - 1) :]
    return log_probs.sum(-1)
