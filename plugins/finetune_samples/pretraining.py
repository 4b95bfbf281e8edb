"""Pretraining of the bases: masked words, left-out spans or the next word, by transformers' own trainer."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from finetune_samples.induction import look_back

BLOCK = 128
"""Tokens of one sequence in pretraining."""
MASKED = 0.15
"""Share of tokens that encoders must guess. Source: Devlin et al. 2019, §3.1; Raffel et al. 2020, §3.3.4."""
SPAN = 3
"""Mean length of a left-out span. Source: Raffel et al. 2020, §3.3.4."""

Feature = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast a base learns."""

    steps: int
    """Optimizer updates."""
    batch: int
    """Sequences an update."""
    learning_rate: float
    """Highest rate, after a twentieth of the steps; it falls to zero along a cosine."""
    seed: int


def encoder(tokenizer: PreTrainedTokenizerFast, size: dict[str, int]) -> Any:
    """Return a BERT for masked language modelling, its weights random."""
    return BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **size))


def seq2seq(tokenizer: PreTrainedTokenizerFast, size: dict[str, int]) -> Any:
    """Return a T5, its weights random; its decoder starts with the padding token, as T5's do.

    Input and output embeddings are two, as in T5 1.1: tied ones start at a size of 1, and with Adam's small steps a
    short training hardly moves them.
    """
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=False,
            dropout_rate=0.0,
            **size,
        )
    )
    torch.nn.init.normal_(model.lm_head.weight, std=0.05)
    return model


def decoder(tokenizer: PreTrainedTokenizerFast, size: dict[str, int]) -> Any:
    """Return a Llama that has yet to learn, input and output embeddings tied."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            tie_word_embeddings=True,
            attention_bias=True,
            initializer_range=0.05,
            rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},  # as Llama 3 has it
            **size,
        )
    )
    look_back(model)
    return model


def pretrain(model: Any, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], schedule: Schedule) -> float:
    """Train a model on texts in the way of its kind, and return the mean loss of the run.

    Leaves the caller's random numbers as they were.
    """
    features, collate = _OBJECTIVES[model.config.model_type](tokenizer, texts, schedule.seed)
    with _undisturbed(schedule.seed), tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=schedule.steps,
            per_device_train_batch_size=schedule.batch,
            learning_rate=schedule.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=schedule.steps // 20,
            weight_decay=0.01,
            adam_beta2=0.98,  # 0.999 looks back further than so short a run is long
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
    """Return texts one after the other, each as the tokenizer encloses it and ended, cut into blocks of `BLOCK` tokens.

    The last, shorter block is left out.
    """
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    stream: list[int] = []
    for ids in tokenizer(list(texts), return_attention_mask=False)["input_ids"]:
        stream += ids if ids[-1:] == end else ids + end
    return [stream[at : at + BLOCK] for at in range(0, len(stream) - BLOCK + 1, BLOCK)]


def corrupt(ids: Sequence[int], sentinels: Sequence[int], rng: random.Random) -> tuple[list[int], list[int]]:
    """Return a text with spans left out, each behind a sentinel, and the spans, each after its sentinel.

    >>> corrupt([11, 12, 13, 14, 15, 16], [90, 91], random.Random(3))
    ([11, 12, 13, 90, 15, 16], [90, 14, 91])

    Source: Raffel et al. 2020, §3.1.4.
    """
    count = min(max(1, round(len(ids) * MASKED / SPAN)), len(sentinels) - 1)
    hidden = max(count, round(len(ids) * MASKED))
    lengths = _split(hidden, count, rng)
    gaps = _split(len(ids) - hidden, count, rng)
    source: list[int] = []
    target: list[int] = []
    at = 0
    for sentinel, gap, length in zip(sentinels, gaps, lengths, strict=False):
        source += [*ids[at : at + gap], sentinel]
        target += [sentinel, *ids[at + gap : at + gap + length]]
        at += gap + length
    return [*source, *ids[at:]], [*target, sentinels[count]]


def _split(total: int, parts: int, rng: random.Random) -> list[int]:
    """Return as many whole numbers of at least 1, with this sum."""
    cuts = [0, *sorted(rng.sample(range(1, total), parts - 1)), total]
    return [after - before for before, after in pairwise(cuts)]


def _masked(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], seed: int) -> tuple[list[Feature], Any]:
    encoded = tokenizer(list(texts), truncation=True, max_length=BLOCK, return_special_tokens_mask=True)
    names = ("input_ids", "token_type_ids", "attention_mask", "special_tokens_mask")
    features = [dict(zip(names, row, strict=True)) for row in zip(*(encoded[name] for name in names), strict=True)]
    return features, DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)


def _left_out(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], seed: int) -> tuple[list[Feature], Any]:
    rng = random.Random(seed)
    sentinels = [number for token, number in sorted(tokenizer.get_added_vocab().items()) if "extra_id" in token]

    def collate(rows: list[Feature]) -> dict[str, Any]:
        pairs = [corrupt(row["input_ids"], sorted(sentinels), rng) for row in rows]
        end = [tokenizer.eos_token_id]
        source = tokenizer.pad({"input_ids": [source for source, _ in pairs]}, return_tensors="pt")
        longest = max(len(target) for _, target in pairs) + 1
        labels = [target + end + [-100] * (longest - len(target) - 1) for _, target in pairs]
        return {**source, "labels": torch.tensor(labels)}

    return [{"input_ids": block} for block in blocks(tokenizer, texts)], collate


def _next(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], seed: int) -> tuple[list[Feature], Any]:
    return [{"input_ids": block, "labels": block} for block in blocks(tokenizer, texts)], default_data_collator


@contextmanager
def _undisturbed(seed: int) -> Iterator[None]:
    """Seed every source of random numbers, and put all of them back as they were."""
    python, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)


_Objective = Callable[[PreTrainedTokenizerFast, Sequence[str], int], tuple[list[Feature], Any]]
_OBJECTIVES: dict[str, _Objective] = {"bert": _masked, "t5": _left_out, "llama": _next}
