"""How the trainers of this plugin have a model answer prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from finetune.interfaces import IGNORE_INDEX, Job, Predictions
from finetune.kit import generate, generation_options, keep_generation_options
from finetune_trl.chat import templates


def prepare_generation(job: Job) -> dict[str, Any]:
    """Return the options of ``generate``, and write the ends of an answer into the model.

    The preprocessor's trainer option ``conversational`` says whether prompts are turns of a chat; if they are, the end
    of a turn ends an answer too.

    Raises:
        BadOptions: The limit includes the prompt, or more than one text per prompt is requested.
    """
    ends = []
    if job.tokenizer.chat_template and job.preprocessor.trainer_options().get("conversational"):
        ends += templates.end_ids(job.tokenizer)
    options = generation_options(job.model, job.tokenizer, job.generation, ends=ends)
    save_ends(job.model, options)
    return options


def save_ends(model: Any, options: Mapping[str, Any]) -> None:
    """Write the tokens that end an answer into the model's own generation options, which are saved with it."""
    own = model.generation_config
    own.eos_token_id, own.pad_token_id = options["eos_token_id"], options["pad_token_id"]
    keep_generation_options(own)


def generate_answers(trainer: Any, model: Any, prompts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the ids that the model writes after a batch of prompts padded on the left, (B, T).

    Args:
        trainer: Gives the options (``trainer.generation``) and the precision.
        model: As the trainer wrapped it.
        prompts: ``input_ids`` and ``attention_mask``, (B, L).
    """
    with trainer.accelerator.autocast():
        return generate(trainer.accelerator.unwrap_model(model), prompts, trainer.generation)


def texts(predictions: Predictions) -> list[str]:
    """Return generated answers as text without special tokens or outer space."""
    return decode_answers(predictions.outputs, predictions.tokenizer)


def decode_answers(ids: Any, tokenizer: Any) -> list[str]:
    """Return generated ids, padded with `IGNORE_INDEX`, as text without special tokens or outer space."""
    decoded = tokenizer.batch_decode(without_padding(ids), skip_special_tokens=True)
    return list(map(str.strip, decoded))


def without_padding(ids: Any) -> list[list[int]]:
    """Return the ids of each row that are not `IGNORE_INDEX`.

    >>> without_padding([[5, 6, -100], [7, -100, -100]])
    [[5, 6], [7]]
    """
    return [row[row != IGNORE_INDEX].tolist() for row in np.asarray(ids)]
