"""Trainers that keep, of an evaluation's logits, what the scores need: a few numbers a token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from transformers import Trainer, TrainerCallback

from finetune.errors import Incompatible
from finetune.interfaces import IGNORE_INDEX, Job
from finetune.kit import (
    PatchedTrainer,
    align_logits,
    build_trainer,
    generate,
    generation_options,
    mask_after_eos,
    max_prompt_length,
    preserve_rng_state,
)
from finetune_lm.collate import MaskAndPad
from finetune_lm.prompts import MASK, PROMPT

NOT_PREDICTED = -1
"""Where a position has no label: less than any negative log-likelihood, as is the trainer's own padding, -100."""
FILLINGS = 5
"""How many fillings of a gap are told."""


def causal_trainer(job: Job) -> Trainer:
    """Build the trainer of a causal language model.

    Raises:
        BadOptions: What is to be written has no room, or its options contradict each other.
        Incompatible: The model sees the tokens that it is to predict.
    """
    if job.train is not None:
        require_causal(job.model, list(job.train[0]["input_ids"][:16]))
    wanted = generation_options(job.model, job.tokenizer, job.generation)
    room = max_prompt_length(job.model, wanted)
    built = build_trainer(job, CausalLMTrainer)
    built.wanted, built.room = wanted, room
    return built


def masked_trainer(job: Job) -> Trainer:
    """Build the trainer of a masked language model."""
    return build_trainer(job, MaskedLMTrainer)


class CausalLMTrainer(PatchedTrainer):
    """Evaluates to the negative log-likelihood of every token, (B, T), in nats.

    Where a block has a prompt, to that and to what the model writes after it: ids, (B, T), `IGNORE_INDEX` from their
    end on, and whether they ended by themselves, (B,). What is drawn at random depends on the seed alone.
    """

    wanted: Mapping[str, Any]
    """Options of ``generate``."""
    room: int | None
    """How many tokens a prompt may have."""

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate or predict, by the seed."""
        with preserve_rng_state():
            torch.manual_seed(self.args.seed)
            return super().evaluation_loop(*args, **kwargs)

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        return dataset  # the core has left those that the collator takes; the model takes fewer

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Any, Any, Any]:
        """Predict one batch, and let its logits go."""
        asked = {name: inputs.pop(name) for name in (PROMPT, MASK) if name in inputs}
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if logits is None:
            return loss, None, labels
        nll, _ = judged(first(logits), labels, shift=True)
        nll = functional.pad(nll, (1, 0), value=NOT_PREDICTED)
        return loss, (nll, *self.written(**self._prepare_inputs(asked))) if asked else nll, labels

    def written(self, prompt_ids: torch.Tensor, prompt_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the model writes after each prompt, and whether that ended; nothing after no prompt."""
        rows = prompt_mask.any(dim=1)
        if not rows.any():
            return prompt_ids.new_full((len(rows), 1), IGNORE_INDEX), rows
        room = self.room or prompt_ids.shape[1]
        inputs = {"input_ids": prompt_ids[rows, -room:], "attention_mask": prompt_mask[rows, -room:]}
        with self.accelerator.autocast():
            ids = generate(self.accelerator.unwrap_model(self.model), inputs, self.wanted)
        ids, ended = mask_after_eos(ids, self.wanted["eos_token_id"])
        every = ids.new_full((len(rows), ids.shape[1]), IGNORE_INDEX)
        every[rows] = ids
        return every, rows.masked_scatter(rows, ended)


class MaskedLMTrainer(PatchedTrainer):
    """Evaluates under fixed masks, to the negative log-likelihood and the best guess of every masked token.

    The outputs are those two, (B, T) each, and for gaps that the text itself has, the ids and probabilities of the best
    fillings: (B, gaps, `FILLINGS`).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.data_collator: MaskAndPad = self.data_collator.seeded(self.args.seed)
        self.add_callback(ResampleMasks(self.data_collator))

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """Return a loader with fixed masks."""
        with self._fixed_masks():
            return super().get_eval_dataloader(*args, **kwargs)

    def get_test_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """Return a loader with fixed masks."""
        with self._fixed_masks():
            return super().get_test_dataloader(*args, **kwargs)

    @contextmanager
    def _fixed_masks(self) -> Iterator[None]:
        training = self.data_collator
        self.data_collator = training.evaluating()
        try:
            yield
        finally:
            self.data_collator = training

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        return dataset  # the core has left those that the collator takes; the model takes fewer

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Any, Any, Any]:
        """Predict one batch, and let its logits go."""
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if logits is None:
            return loss, None, labels
        mask = self.data_collator.replacement.mask_token_id
        gaps = (inputs["input_ids"].to(labels.device) == mask) & (labels == IGNORE_INDEX)
        logits, _ = align_logits(first(logits), labels, shift=False)
        return loss, (*judged(logits, labels, shift=False), *fillings(logits, gaps)), labels


class ResampleMasks(TrainerCallback):
    """Tells the collator which epoch begins, on resuming too."""

    def __init__(self, collator: MaskAndPad) -> None:
        self.collator = collator

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Let the next masks be other ones."""
        self.collator.epoch.fill_(int(state.epoch or 0))


def first(logits: Any) -> torch.Tensor:
    """Return the logits, where a model gives more beside them."""
    found: torch.Tensor = logits[0] if isinstance(logits, tuple | list) else logits
    return found


def judged(logits: torch.Tensor, labels: torch.Tensor, *, shift: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the negative log-likelihood of each label in nats, and the likeliest token in its place; (B, T) each.

    Where there is no label, both are `NOT_PREDICTED`. One row at a time, so that a batch's logits never stand in
    float32 beside themselves.
    """
    logits, labels = align_logits(logits, labels, shift=shift)
    nll = torch.full(labels.shape, float(NOT_PREDICTED), device=labels.device)
    guess = torch.full_like(labels, NOT_PREDICTED)
    for row, seen in enumerate(labels != IGNORE_INDEX):
        scores = logits[row][seen].float()
        nll[row][seen] = functional.cross_entropy(scores, labels[row][seen], reduction="none")
        guess[row][seen] = scores.argmax(-1)
    return nll, guess


def fillings(logits: torch.Tensor, gaps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids and the probabilities of the likeliest tokens for each row's gaps, in order: (B, gaps, k)."""
    most = int(gaps.sum(1).max())
    ids = torch.full((len(gaps), most, FILLINGS), NOT_PREDICTED, dtype=torch.int64, device=logits.device)
    probabilities = torch.full((len(gaps), most, FILLINGS), float(NOT_PREDICTED), device=logits.device)
    for row in gaps.any(1).nonzero()[:, 0].tolist():
        best = logits[row][gaps[row]].float().softmax(-1).topk(FILLINGS)
        probabilities[row, : len(best.values)], ids[row, : len(best.indices)] = best
    return ids, probabilities


@torch.no_grad()
def require_causal(model: Any, ids: list[int]) -> None:
    """Refuse a model whose outputs at one token change with a later one: it would read what it is to predict.

    Raises:
        Incompatible: It is an encoder, such as BERT, which transformers loads as a causal model without a word.
    """
    training = model.training
    model.eval()
    other = [*ids[:-1], (ids[-1] + 1) % model.get_input_embeddings().weight.shape[0]]
    one, two = (model(input_ids=torch.tensor([tokens], device=model.device)).logits[0] for tokens in (ids, other))
    model.train(training)
    before = one[:-1].float(), two[:-1].float()
    if (before[0] - before[1]).abs().max() > 1e-4 * before[0].abs().max():
        raise Incompatible(
            f"model: {model.config.architectures or type(model).__name__} reads the whole text at once, so it would be "
            "shown what it is to predict, and learn nothing. Use masked-language-modeling for it, or a decoder here."
        )
