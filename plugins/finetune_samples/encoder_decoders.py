"""Like T5: an encoder-decoder that writes the spans that were left out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from finetune_samples.pretraining import Feature, blocks

MASKED = 0.15
"""Share of tokens that are left out. Source: Raffel et al. 2020, §3.3.4."""
SPAN = 3
"""Mean length of a left-out span. Source: as above."""


def model(tokenizer: PreTrainedTokenizerFast, size: dict[str, int]) -> Any:
    """Return a T5, its weights random; its decoder starts with the padding token, as T5's do.

    Input and output embeddings are two, as in T5 1.1: tied ones start at a size of 1, and with Adam's small steps a
    short training hardly moves them.
    """
    made = T5ForConditionalGeneration(
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
    torch.nn.init.normal_(made.lm_head.weight, std=0.05)
    return made


def objective(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], seed: int) -> tuple[list[Feature], Any]:
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
