"""The trainer of supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from finetune.errors import Incompatible
from finetune.interfaces import IGNORE_INDEX, Job
from finetune.kit import evaluation_mode, generate, mask_after_eos, pad, preserve_rng_state
from finetune_trl.generation import without_padding
from finetune_trl.patched import PatchedTRLTrainer, built_by_trl, prepare_model, train_features
from finetune_trl.refused_options import SFT, refuse_options, required_option
from finetune_trl.sft.packing import POSITIONS, pack, probe, refuse_unseparated_rows


class PatchedSFTTrainer(PatchedTRLTrainer, SFTTrainer):
    """TRL's trainer; it predicts generated answers and the likelihood of the right ones, and keeps no logits."""

    generation: Mapping[str, Any]
    """Options of ``generate``, with the tokens that end an answer."""
    generates_known: bool
    """Whether answers are generated where the right ones are known, too."""
    _signature_columns: Any

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            self._signature_columns = ["input_ids", "labels", "prompt_ids", POSITIONS]

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Return the loss; the generated ids, ``(B, T)``, and numbers, ``(B, 4)``; and the numbers of trained tokens.

        The columns of the numbers are those of `score_labels`, and whether generation ended by itself.
        """
        inputs = self._prepare_inputs(inputs)
        loss, numbers = None, torch.zeros(len(inputs["input_ids"]), 4, device=inputs["input_ids"].device)
        if "labels" in inputs:
            with torch.no_grad(), self.compute_loss_context_manager():
                numbers[:, :3] = self.score_labels(model, inputs)
            total, tokens = numbers[:, 0].sum(), numbers[:, 1].sum()
            loss = total / tokens.clamp(min=1)
        if prediction_loss_only:
            return loss, None, None
        ids, numbers[:, 3] = self.answer(inputs)
        return loss, (ids, numbers), None if loss is None else numbers[:, 1]

    def score_labels(self, model: Any, inputs: Any) -> torch.Tensor:
        """Return for each row its negative log-likelihood, its trained tokens, and its hits: ``(B, 3)``.

        A hit is a token that the model ranks first. The logits of a few positions are held at a time, never all.
        """
        columns = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
        outputs = model(**columns, fused_lm_head=True)
        nll, tokens, hits = -outputs.log_probs.sum(1), outputs.label_mask.sum(1), outputs.is_top1.sum(1)
        return torch.stack([nll.float(), tokens.float(), hits.float()], dim=1)

    def answer(self, inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return generated ids, ``(B, T)``, and whether each answer ended by itself, ``(B,)``.

        From the end on, ids are `IGNORE_INDEX`, so that padding is never taken for text.
        """
        if "prompt_ids" in inputs:
            prompts, mask = inputs["prompt_ids"], inputs["prompt_mask"]
        else:
            prompts, mask = inputs["input_ids"], inputs["attention_mask"]
        is_known = "labels" in inputs
        has_empty_prompt = not mask.any(dim=1).all()
        if (is_known and not self.generates_known) or has_empty_prompt:
            nothing = prompts.new_full((len(prompts), 1), IGNORE_INDEX)
            return nothing, prompts.new_zeros(len(prompts)).float()
        ids = self._generate(prompts, mask)
        ids, ended = mask_after_eos(ids, self.generation["eos_token_id"])
        return ids, ended.float()

    def _generate(self, prompts: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the ids generated after prompts, (B, T); no more than the model has positions for."""
        room = self._room(prompts.shape[1])
        wanted = self.generation["max_new_tokens"]
        if room < wanted and len(prompts) > 1:
            # A long prompt must not shorten the answers to others in its batch, so each prompt is answered alone.
            answers = []
            for row, seen in zip(prompts, mask.bool(), strict=True):
                ids = self._generate(row[seen][None], mask.new_ones(1, int(seen.sum())))
                answers += without_padding(ids.cpu())
            return pad(answers, IGNORE_INDEX).to(prompts.device)
        length = min(wanted, room)
        if length < 1:
            return prompts.new_full((len(prompts), 1), IGNORE_INDEX)
        model = self.accelerator.unwrap_model(self.model)
        with self.accelerator.autocast():
            batch = {"input_ids": prompts, "attention_mask": mask}
            return generate(model, batch, {**self.generation, "max_new_tokens": length})

    def _room(self, length: int) -> int:
        """Return how many tokens a model can write after so many."""
        model: Any = self.model
        positions = getattr(model.config, "max_position_embeddings", None)
        return (positions or 1 << 30) - length


def trainer(job: Job) -> PatchedSFTTrainer:
    """Build the trainer.

    It reads the preprocessor's trainer options ``conversational`` (whether prompts are turns of a chat; default false),
    ``packing`` (whether to train on several rows in one sequence; default false) and, with packing, ``max_length``; and
    the evaluator's ``generate`` (whether to generate answers where the right ones are known; default true).

    Raises:
        BadOptions: An option of the trainer would be ignored; see `prepare_generation`; or packing has no max_length.
        Incompatible: The strategy and TRL's loss do not go together.
    """
    refuse_options(job, SFTConfig, SFT)
    generation = prepare_model(job)
    arguments = {**job.arguments, "dataset_kwargs": {"skip_prepare_dataset": True}}
    more = train_features(job, columns=("input_ids", "labels"))
    if job.train is not None:
        more = {"train_dataset": training_rows(job, job.train)}
    built = built_by_trl(replace(job, arguments=arguments), PatchedSFTTrainer, generation=generation, **more)
    built.generates_known = bool(job.evaluator.trainer_options().get("generate", True))
    if job.train is not None:
        refuse_other_loss(built)
    return built


def training_rows(job: Job, features: Dataset) -> Dataset:
    """Return ids and labels to train on; several rows in one sequence if the preprocessor asks for it.

    Raises:
        BadOptions: It asks for packing, and does not say how long a sequence may be.
        Incompatible: The model cannot keep the rows of a sequence apart.
    """
    rows = features.select_columns(["input_ids", "labels"])
    if not job.preprocessor.trainer_options().get("packing"):
        return rows
    room = required_option(job.preprocessor, "max_length", example=1024)
    batch_size = job.arguments.get("per_device_train_batch_size", SFTConfig.per_device_train_batch_size)
    refuse_unseparated_rows(job.model, probe(rows, sequences=min(batch_size, 2)))
    return pack(rows, room=room)


def refuse_other_loss(built: PatchedSFTTrainer) -> None:
    """Refuse a model whose own loss differs from the one that TRL computes from its last hidden states.

    TRL 1.16 multiplies these by the output embeddings. A head with further layers, such as BERT's, would be trained on
    the loss of another model.

    Raises:
        Incompatible: The two differ on a batch.
    """
    model: Any = built.model
    with preserve_rng_state(), torch.no_grad(), evaluation_mode(model):
        batch = {"use_cache": False}
        for name, column in next(iter(built.get_train_dataloader())).items():
            batch[name] = column.to(model.device)
        own, fused = model(**batch).loss, model(**batch, fused_lm_head=True).loss
    if not torch.isclose(own.float(), fused.float(), rtol=0.02, atol=1e-3):
        raise Incompatible(
            f"the model's own loss on a batch is {own.item():.4f}, and the one that TRL's SFTTrainer computes is "
            f"{fused.item():.4f}: its head does more than multiply by the output embeddings. Use a decoder-only model."
        )
