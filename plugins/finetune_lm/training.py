"""Trainers that keep only what the scores need of an evaluation's logits: a few numbers for each token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from transformers import Trainer, TrainerCallback

from finetune.errors import BadOptions, Incompatible
from finetune.interfaces import IGNORE_INDEX, Job
from finetune.kit import (
    PatchedTrainer,
    align_logits,
    build_trainer,
    evaluation_mode,
    generate,
    generation_options,
    mask_after_eos,
    max_prompt_length,
    preserve_rng_state,
)
from finetune_lm.causal import PROMPT, PROMPT_MASK
from finetune_lm.collate import MaskAndPad
from finetune_lm.token_losses import NO_LABEL

TOP_K = 5
"""How many fillings of a gap are predicted, as in transformers' ``fill-mask`` pipeline."""


def causal_trainer(job: Job) -> Trainer:
    """Build the trainer of a causal language model.

    Raises:
        BadOptions: The generation options leave no room for a prompt, or contradict each other.
        Incompatible: The model sees the tokens that it must predict.
    """
    if job.train is not None:
        require_causal(job.model, list(job.train[0]["input_ids"][:16]))
    options = generation_options(job.model, job.tokenizer, job.generation)
    prompt_length = max_prompt_length(job.model, options)
    trainer = build_trainer(job, CausalLMTrainer)
    trainer.generation_options, trainer.max_prompt_length = options, prompt_length
    return trainer


def masked_trainer(job: Job) -> Trainer:
    """Build the trainer of a masked language model.

    Raises:
        BadOptions: The user gave a collator, and this trainer masks words with its own.
    """
    if job.data_collator is not None:
        raise BadOptions(
            "data_collator: this task masks other words in each epoch with its own collator. Leave it out; the options "
            "of the preprocessor say what is masked."
        )
    return build_trainer(job, MaskedLMTrainer)


class CausalLMTrainer(PatchedTrainer):
    """A trainer whose evaluation returns the negative log-likelihood of every token, (B, T), in nats.

    If blocks have prompts, it also returns what the model writes after them: ids, (B, T), with
    `IGNORE_INDEX` from their end on, and whether each text ended by itself, (B,). Sampling depends
    on the seed alone.
    """

    seeds_evaluation = True
    generation_options: Mapping[str, Any]
    """Options of ``generate``."""
    max_prompt_length: int | None
    """Longest prompt in tokens, or None for any length."""

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate or predict, with the seed of the run."""
        with preserve_rng_state():
            torch.manual_seed(self.args.seed)
            return super().evaluation_loop(*args, **kwargs)

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        return dataset  # the core has selected the columns that the collator takes; the model takes fewer

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Any, Any, Any]:
        """Predict one batch and reduce its logits to the NLL of each label."""
        prompts = {name: inputs.pop(name) for name in (PROMPT, PROMPT_MASK) if name in inputs}
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if logits is None or labels is None:
            return loss, None, labels
        nll, _ = nll_and_best(logits_of_outputs(logits), labels, shift=True)
        nll = functional.pad(nll, (1, 0), value=NO_LABEL)
        if not prompts:
            return loss, nll, labels
        return loss, (nll, *self.write(**self._prepare_inputs(prompts))), labels

    def write(self, prompt_ids: torch.Tensor, prompt_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the model writes after each prompt, and whether it ended; nothing after an empty prompt."""
        rows = prompt_mask.any(dim=1)
        if not rows.any():
            return prompt_ids.new_full((len(rows), 1), IGNORE_INDEX), rows
        length = self.max_prompt_length or prompt_ids.shape[1]
        inputs = {"input_ids": prompt_ids[rows, -length:], "attention_mask": prompt_mask[rows, -length:]}
        with self.accelerator.autocast():
            ids = generate(self.accelerator.unwrap_model(self.model), inputs, self.generation_options)
        ids, ended = mask_after_eos(ids, self.generation_options["eos_token_id"])
        all_ids = ids.new_full((len(rows), ids.shape[1]), IGNORE_INDEX)
        all_ids[rows] = ids
        return all_ids, rows.masked_scatter(rows, ended)


class MaskedLMTrainer(PatchedTrainer):
    """A trainer whose evaluation, under fixed masks, returns the NLL and the likeliest token of every masked token.

    The outputs are those two, (B, T) each. For mask tokens that the text itself contains, they also
    include the ids and probabilities of the likeliest fillings, (B, gaps, `TOP_K`) each.
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
        return dataset  # the core has selected the columns that the collator takes; the model takes fewer

    def begin_stream_epoch(self, epoch: int) -> None:
        """Draw other masks when the rows of a stream are read again."""
        self.data_collator.epoch.fill_(epoch)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Any, Any, Any]:
        """Predict one batch and reduce its logits to a few numbers for each label and gap."""
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if logits is None or labels is None:
            return loss, None, labels
        is_mask = inputs["input_ids"].to(labels.device) == self.data_collator.replacement.mask_token_id
        gaps = is_mask & (labels == IGNORE_INDEX)
        aligned, _ = align_logits(logits_of_outputs(logits), labels, shift=False)
        return loss, (*nll_and_best(aligned, labels, shift=False), *top_fillings(aligned, gaps)), labels


class ResampleMasks(TrainerCallback):
    """Tells the collator which epoch begins, also when a run resumes."""

    def __init__(self, collator: MaskAndPad) -> None:
        self.collator = collator

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Set the epoch that the next masks depend on."""
        self.collator.epoch.fill_(int(state.epoch or 0))


def logits_of_outputs(outputs: Any) -> torch.Tensor:
    """Return the logits, also if a model returns more than logits."""
    logits: torch.Tensor = outputs[0] if isinstance(outputs, tuple | list) else outputs
    return logits


def nll_and_best(logits: torch.Tensor, labels: torch.Tensor, *, shift: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the negative log-likelihood of each label in nats, and the likeliest token in its place; (B, T) each.

    Both are `NO_LABEL` where there is no label. The rows are converted to float32 one at a time, to
    save memory.
    """
    logits, labels = align_logits(logits, labels, shift=shift)
    nll = torch.full(labels.shape, float(NO_LABEL), device=labels.device)
    best = torch.full_like(labels, NO_LABEL)
    for row, has_label in enumerate(labels != IGNORE_INDEX):
        scores = logits[row][has_label].float()
        nll[row][has_label] = functional.cross_entropy(scores, labels[row][has_label], reduction="none")
        best[row][has_label] = scores.argmax(-1)
    return nll, best


def top_fillings(logits: torch.Tensor, gaps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids and probabilities of the likeliest tokens for the gaps of each row, in order: (B, gaps, k)."""
    most = int(gaps.sum(1).max())
    ids = torch.full((len(gaps), most, TOP_K), NO_LABEL, dtype=torch.int64, device=logits.device)
    probabilities = torch.full((len(gaps), most, TOP_K), float(NO_LABEL), device=logits.device)
    for row in gaps.any(1).nonzero()[:, 0].tolist():
        best = logits[row][gaps[row]].float().softmax(-1).topk(TOP_K)
        probabilities[row, : len(best.values)] = best.values
        ids[row, : len(best.indices)] = best.indices
    return ids, probabilities


@torch.no_grad()
def require_causal(model: Any, ids: list[int]) -> None:
    """Check that a model's outputs at one token do not depend on later tokens.

    Raises:
        Incompatible: They do. The model is an encoder such as BERT, which transformers loads as a
            causal model without a warning.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    changed = [*ids[:-1], (ids[-1] + 1) % vocabulary]
    with evaluation_mode(model):
        logits, changed_logits = (
            model(input_ids=torch.tensor([tokens], device=model.device)).logits[0, :-1].float()
            for tokens in (ids, changed)
        )
    if (logits - changed_logits).abs().max() > 1e-4 * logits.abs().max():
        raise Incompatible(
            f"model: {model.config.architectures or type(model).__name__} reads the whole text at once, so it sees the "
            "tokens that it must predict, and would learn nothing. Use the task masked-language-modeling for it, or "
            "name a decoder."
        )
