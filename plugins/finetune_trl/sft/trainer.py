"""The trainer of supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig
from trl import SFTConfig, SFTTrainer

from finetune.errors import BadOptions
from finetune.interfaces import IGNORE_INDEX, Job
from finetune_trl.chat import templates
from finetune_trl.patched import PatchedTRLTrainer, built_by_trl, train_features
from finetune_trl.sft.packing import POSITIONS, packed, probe, refuse_crossing
from finetune_trl.sft.preprocessor import SFTPreprocessor
from finetune_trl.sft.refusals import refuse_other_loss, refuse_preparing
from finetune_trl.writing import GENERATION_DEFAULTS


class PatchedSFTTrainer(PatchedTRLTrainer, SFTTrainer):
    """TRL's trainer, which predicts what a model writes and how likely the answers are, and keeps no logits."""

    generation: Mapping[str, Any]
    """Options of ``generate``, the tokens that end an answer among them."""
    writes: bool
    """Whether answers are written where they are known, too."""
    _signature_columns: Any

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            self._signature_columns = ["input_ids", "labels", "prompt_ids", POSITIONS]

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Return the loss; what was written, ``(B, T)``; and ``(B, 4)`` numbers, see `measured`."""
        inputs = self._prepare_inputs(inputs)
        loss, numbers = None, torch.zeros(len(inputs["input_ids"]), 4, device=inputs["input_ids"].device)
        if "labels" in inputs:
            with torch.no_grad(), self.compute_loss_context_manager():
                numbers = self.measured(model, inputs)
            total, tokens = numbers[:, 0].sum(), numbers[:, 1].sum()
            loss = total / tokens.clamp(min=1)
        if prediction_loss_only:
            return loss, None, None
        ids, numbers[:, 3] = self.answers(model, inputs)
        return loss, (ids, numbers), None if loss is None else numbers[:, 1]

    def measured(self, model: Any, inputs: Any) -> torch.Tensor:
        """Return a row's negative log-likelihood, its trained tokens, how many were the likeliest, and 0: ``(B, 4)``.

        The logits of a few positions are held at a time, never all.
        """
        made = model(**{name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}, fused_lm_head=True)
        columns = [-made.log_probs.sum(1), made.label_mask.sum(1), made.is_top1.sum(1)]
        return torch.stack([*(column.float() for column in columns), torch.zeros_like(columns[0]).float()], dim=1)

    def answers(self, model: Any, inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the model writes, up to its end, and whether it ended by itself.

        What follows the end is `IGNORE_INDEX`, so that padding is never taken for text.
        """
        asked = inputs["prompt_ids"] if "prompt_ids" in inputs else inputs["input_ids"]
        mask = inputs["prompt_mask"] if "prompt_mask" in inputs else inputs["attention_mask"]
        empty = asked.new_full((len(asked), 1), IGNORE_INDEX)
        if ("labels" in inputs and not self.writes) or not mask.any(dim=1).all():
            return empty, asked.new_zeros(len(asked)).float()
        room = self._room(asked.shape[1])
        if room < self.generation["max_new_tokens"] and len(asked) > 1:
            # A long prompt shall not take the room of its neighbours, so each is asked alone.
            alone = [
                self._written(row[seen.bool()][None], seen[seen.bool()][None])
                for row, seen in zip(asked, mask, strict=True)
            ]
            ids = pad_sequence([row[0] for row in alone], batch_first=True, padding_value=IGNORE_INDEX)
        else:
            ids = self._written(asked, mask)
        ends = torch.isin(ids, torch.tensor(self.generation["eos_token_id"] or [], device=ids.device))
        return ids.masked_fill(ends.cumsum(1) > 0, IGNORE_INDEX), ends.any(dim=1).float()

    def _written(self, asked: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return what is written after prompts, (B, T); no further than the model has positions."""
        most = min(self.generation["max_new_tokens"], self._room(asked.shape[1]))
        if most < 1:
            return asked.new_full((len(asked), 1), IGNORE_INDEX)
        ends = self.generation["eos_token_id"] or None
        config = GenerationConfig(**{**self.generation, "max_new_tokens": most, "eos_token_id": ends})
        model = self.accelerator.unwrap_model(self.model)
        with torch.no_grad(), self.accelerator.autocast():
            ids: torch.Tensor = model.generate(input_ids=asked, attention_mask=mask, generation_config=config)
        return ids[:, asked.shape[1] :]

    def _room(self, length: int) -> int:
        """Return how many tokens a model can write after so many."""
        positions: int | None = getattr(self.model.config, "max_position_embeddings", None)
        return (positions or 1 << 30) - length


def trainer(job: Job) -> PatchedSFTTrainer:
    """Build the trainer.

    Raises:
        BadData: Too many training rows are cut, are trained without an end, or are not trained at all.
        BadOptions: An option of the trainer would be ignored, or the text to write has no limit.
        Incompatible: The strategy and TRL's loss do not go together.
    """
    refuse_preparing(job)
    generation = generation_of(job)
    forget_fused_head(job.model)
    given = {**job.arguments, "dataset_kwargs": {"skip_prepare_dataset": True}}
    more = train_features(job, columns=("input_ids", "labels"))
    if job.train is not None:
        more = {"train_dataset": rows_to_train(job, job.train)}
    built = built_by_trl(replace(job, arguments=given), PatchedSFTTrainer, **more)
    built.generation, built.writes = generation, getattr(job.evaluator, "writes", True)
    if job.train is not None:
        refuse_other_loss(built)
        stops_there(job, generation)
    return built


def rows_to_train(job: Job, features: Dataset) -> Dataset:
    """Return ids and labels to train on; several rows in one sequence where the preprocessor says so.

    Raises:
        Incompatible: They are to be packed, and the model cannot keep them apart.
    """
    rows = features.select_columns(["input_ids", "labels"])
    if not isinstance(job.preprocessor, SFTPreprocessor) or not job.preprocessor.packing:
        return rows
    size = job.arguments.get("per_device_train_batch_size", SFTConfig.per_device_train_batch_size)
    refuse_crossing(job.model, probe(rows, sequences=min(size, 2)))
    return packed(rows, room=job.preprocessor.max_length)


def forget_fused_head(model: Any) -> None:
    """Take back what an earlier trainer did to a model's ``forward``: each wraps the one before, without an end."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = vars(base).setdefault("_forward_before_sft", vars(base).get("forward"))
    if before is None:
        vars(base).pop("forward", None)
    else:
        base.forward = before


def generation_of(job: Job) -> dict[str, Any]:
    """Return the options of ``generate``: the recipe's, ours, and the tokens that end an answer.

    Raises:
        BadOptions: The limit counts the prompt, or several texts are wanted for one.
    """
    if "max_length" in job.generation:
        raise BadOptions("generation: 'max_length' counts the prompt as well. Set max_new_tokens.")
    if job.generation.get("num_return_sequences", 1) != 1:
        raise BadOptions("generation: 'num_return_sequences' must be 1: one example has one record.")
    tokenizer = job.tokenizer
    own = job.model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])}
    if tokenizer.chat_template and getattr(job.preprocessor, "conversational", False):
        ends.add(templates.end_of_turn(tokenizer))
    return {
        **GENERATION_DEFAULTS,
        "eos_token_id": sorted(end for end in ends if end is not None),
        "pad_token_id": tokenizer.pad_token_id,
        **job.generation,
    }


def stops_there(job: Job, generation: Mapping[str, Any]) -> None:
    """Write into the model's own generation options what ends an answer, so that whoever loads it need not know."""
    own = job.model.generation_config
    own.eos_token_id, own.pad_token_id = generation["eos_token_id"] or None, generation["pad_token_id"]
    own._from_model_config = False  # else it is made anew, without them, when the model is loaded
