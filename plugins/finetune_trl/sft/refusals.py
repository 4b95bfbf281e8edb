"""What supervised fine-tuning refuses before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from trl import SFTConfig

from finetune.errors import Incompatible
from finetune.interfaces import Job
from finetune.kit import preserve_rng_state
from finetune_trl.refused_options import ignored, refuse_options

PREPARING: Mapping[str, str] = {
    "max_length": "preprocessor.max_length",
    "chat_template_path": "preprocessor.chat_template",
    "packing": "preprocessor.packing",
    "eval_packing": "preprocessor.packing",
    "completion_only_loss": "preprocessor.loss_on",
    "assistant_only_loss": "preprocessor.loss_on",
    "dataset_text_field": "dataset.columns",
    "eos_token": "model.tokenizer",
    "pad_token": "model.tokenizer",
    "model_init_kwargs": "model.options",
    "dataset_kwargs": "the preprocessor",
    "dataset_num_proc": "the preprocessor",
    "truncation_mode": "the preprocessor",
    "shuffle_dataset": "the recipe's seed",
    "packing_strategy": "the preprocessor",
    "padding_free": "the preprocessor",
    "pad_to_multiple_of": "the preprocessor",
    "trust_remote_code": "no code of a model is ever run",
}
"""Options of `trl.SFTConfig` that would be ignored here without a word, and what decides instead."""


def refuse_preparing(job: Job) -> None:
    """Refuse options of the trainer for what the preprocessor has done already.

    Raises:
        BadOptions: One is set.
    """
    refuse_options(job, SFTConfig, {name: ignored(ours) for name, ours in PREPARING.items()})


def refuse_other_loss(built: Any) -> None:
    """Refuse a model whose own loss is not the one that TRL computes from its last hidden states.

    TRL 1.16 multiplies them by the output embeddings; a head that does more (BERT's, with a layer between) would be
    trained on another model's loss.

    Raises:
        Incompatible: The two differ on a batch.
    """
    model, training = built.model, built.model.training
    with preserve_rng_state(), torch.no_grad():
        batch = {name: part.to(model.device) for name, part in next(iter(built.get_train_dataloader())).items()}
        model.eval()
        batch |= {"use_cache": False}
        own, fused = model(**batch).loss, model(**batch, fused_lm_head=True).loss
        model.train(training)
    if not torch.isclose(own.float(), fused.float(), rtol=0.02, atol=1e-3):
        raise Incompatible(
            f"the model's own loss on a batch is {own.item():.4f}, and the one that TRL's SFTTrainer computes "
            f"{fused.item():.4f}: its head does more than multiply by the output embeddings. Use a decoder-only model."
        )
