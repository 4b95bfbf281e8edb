"""What a model writes after a prompt, where it was asked for nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from finetune.interfaces import IGNORE_INDEX, Predictions

DEFAULTS: Mapping[str, Any] = {"max_new_tokens": 64, "do_sample": False}
"""Unlike upstream's, they give the same text twice; upstream's own limit is 20 tokens, prompt included."""


def written(trainer: Any, model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Return the ids of what the model writes after a batch of prompts padded on the left, (B, T)."""
    tokenizer, own = trainer.processing_class, trainer.accelerator.unwrap_model(model).generation_config
    ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    config = GenerationConfig(
        **{
            **DEFAULTS,
            "bos_token_id": own.bos_token_id,
            "eos_token_id": sorted({end for end in (*ends, tokenizer.eos_token_id) if end is not None}) or None,
            "pad_token_id": tokenizer.pad_token_id,
            **trainer.generation,
        }
    )
    with torch.no_grad(), trainer.accelerator.autocast():
        ids: torch.Tensor = trainer.accelerator.unwrap_model(model).generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], generation_config=config
        )
    return ids[:, inputs["input_ids"].shape[1] :]


def texts(predictions: Predictions) -> list[str]:
    """Return what was written, as text without special tokens or outer space."""
    return ids_to_texts(predictions.outputs, predictions.tokenizer)


def ids_to_texts(outputs: Any, tokenizer: Any) -> list[str]:
    """Return written ids, padded with `IGNORE_INDEX`, as text without special tokens or outer space."""
    ids = [row[row != IGNORE_INDEX].tolist() for row in np.asarray(outputs)]
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
