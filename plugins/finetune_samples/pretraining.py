"""Pretrain a base model with the Trainer of transformers."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast, PrinterCallback, Trainer, TrainingArguments

from finetune.kit import preserve_rng_state

BLOCK = 128
"""Tokens of one sequence in pretraining."""

Feature = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Length, batch size and learning rate of a training."""

    steps: int
    """Optimizer steps."""
    batch: int
    """Sequences in a step."""
    learning_rate: float
    """Highest learning rate, reached after 5 % of the steps; it falls to zero along a cosine."""
    seed: int


def fit(model: Any, features: list[Feature], collate: Any, schedule: Schedule) -> float:
    """Train a model on features, and return the mean loss.

    The caller's random number generators are not changed.
    """
    with preserve_rng_state(), tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=schedule.steps,
            per_device_train_batch_size=schedule.batch,
            learning_rate=schedule.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=schedule.steps // 20,
            weight_decay=0.01,
            adam_beta2=0.98,  # 0.999 averages over more steps than so short a run has
            seed=schedule.seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=features, data_collator=collate)
        trainer.remove_callback(PrinterCallback)
        return float(trainer.train().training_loss)


def blocks(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Return the texts joined, each with the special tokens and an end token, and cut into blocks of `BLOCK` tokens.

    A shorter block at the end is dropped.
    """
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    stream: list[int] = []
    for ids in tokenizer(list(texts), return_attention_mask=False)["input_ids"]:
        stream += ids if ids[-1:] == end else ids + end
    return [stream[at : at + BLOCK] for at in range(0, len(stream) - BLOCK + 1, BLOCK)]
