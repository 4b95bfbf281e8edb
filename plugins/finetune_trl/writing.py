"""What a model writes after a prompt, where it was asked for nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from finetune.interfaces import IGNORE_INDEX, Predictions
from finetune.kit import GENERATION_DEFAULTS, generate, generation_options


def written(trainer: Any, model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Return the ids of what the model writes after a batch of prompts padded on the left, (B, T)."""
    writer = trainer.accelerator.unwrap_model(model)
    wanted = generation_options(writer, trainer.processing_class, trainer.generation)
    with trainer.accelerator.autocast():
        return generate(writer, inputs, wanted)


def texts(predictions: Predictions) -> list[str]:
    """Return what was written, as text without special tokens or outer space."""
    return ids_to_texts(predictions.outputs, predictions.tokenizer)


def ids_to_texts(outputs: Any, tokenizer: Any) -> list[str]:
    """Return written ids, padded with `IGNORE_INDEX`, as text without special tokens or outer space."""
    ids = [row[row != IGNORE_INDEX].tolist() for row in np.asarray(outputs)]
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]


__all__ = ["GENERATION_DEFAULTS", "ids_to_texts", "texts", "written"]
