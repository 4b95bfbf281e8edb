"""Like T5: an encoder-decoder that writes the spans that were left out, and looks up what it is asked for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from finetune_samples.alignment import look_across
from finetune_samples.pretraining import Feature, blocks

MASKED = 0.15
"""Share of tokens that are left out. Source: Raffel et al. 2020, §3.3.4."""
SPAN = 3
"""Mean length of a left-out span. Source: as above."""
LOOKED_UP = 0.5
"""Share of texts in which a stretch is looked up and no span is left out."""
CUE, STRETCH = 2, 24
"""Tokens that say which stretch is meant, and tokens of a stretch, those included."""


def model(tokenizer: PreTrainedTokenizerFast, size: dict[str, int]) -> Any:
    """Return a T5 that has yet to learn; its decoder starts with the padding token, as T5's do.

    Input and output embeddings are one, as in every T5 of transformers 5. ``tie_word_embeddings=False``, which is what
    T5 1.1 has in its configuration, only says there that outputs are not scaled down.
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
    look_across(made)
    return made


def objective(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], seed: int) -> tuple[list[Feature], Any]:
    """Return blocks of text, and what makes a batch of sources and targets of them, anew each time."""
    rng = random.Random(seed)
    sentinels = sorted(number for token, number in tokenizer.get_added_vocab().items() if "extra_id" in token)

    def pair(ids: Sequence[int]) -> tuple[list[int], list[int]]:
        return look_up(ids, sentinels[-1], rng) if rng.random() < LOOKED_UP else corrupt(ids, sentinels[:-1], rng)

    def collate(rows: list[Feature]) -> dict[str, Any]:
        pairs = [pair(row["input_ids"]) for row in rows]
        end = [tokenizer.eos_token_id]
        source = tokenizer.pad({"input_ids": [source for source, _ in pairs]}, return_tensors="pt")
        longest = max(len(target) for _, target in pairs) + 1
        labels = [target + end + [-100] * (longest - len(target) - 1) for _, target in pairs]
        return {**source, "labels": torch.tensor(labels)}

    return [{"input_ids": block} for block in blocks(tokenizer, texts)], collate


def look_up(ids: Sequence[int], sentinel: int, rng: random.Random) -> tuple[list[int], list[int]]:
    """Return a text behind the beginning of one of its stretches, between sentinels, and that stretch.

    >>> text = list(range(100, 130))
    >>> source, target = look_up(text, 90, random.Random(3))
    >>> source[:5], target[:3], source[4:] == text
    ([90, 101, 102, 90, 100], [101, 102, 103], True)
    """
    at = rng.randrange(max(1, len(ids) - STRETCH + 1))
    stretch = list(ids[at : at + STRETCH])
    return [sentinel, *stretch[:CUE], sentinel, *ids], stretch


def corrupt(ids: Sequence[int], sentinels: Sequence[int], rng: random.Random) -> tuple[list[int], list[int]]:
    """Return a text with spans left out, each behind a sentinel, and the spans, each after its sentinel.

    >>> corrupt([11, 12, 13, 14, 15, 16], [90, 91], random.Random(3))
    ([11, 12, 13, 14, 15, 90], [90, 16, 91])

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
