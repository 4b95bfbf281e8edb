"""Texts → token ids, and how many of them were cut off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune.errors import BadOptions, Incompatible


def encode(
    texts: Sequence[str], tokenizer: Any, *, max_length: int, option: str, target: bool = False
) -> tuple[list[list[int]], list[int]]:
    """Return the ids of each text, at most ``max_length`` of them, and how many were lost.

    >>> from finetune.testing.tokenizers import tokenizer
    >>> encode(["tar", "salt, tar and nets"], tokenizer("roberta"), max_length=5, option="max_source_length")[1]
    [0, 4]

    Special tokens are kept: what is cut is text.

    Raises:
        BadOptions: ``max_length`` leaves no room for a token of text.
        Incompatible: The tokenizer cannot pad, or does not end its targets.
    """
    special = special_ids(tokenizer, target=target)
    _refuse(tokenizer, special, target=target)
    if max_length < len(special) + 1:
        raise BadOptions(
            f"preprocessor: {option} {max_length} leaves no room for text beside {len(special)} special tokens. "
            f"Set it to {len(special) + 1} or more."
        )
    # Whole first, so that what is lost can be counted; only what is too long, again.
    ids = _ids(tokenizer, list(texts), target=target, verbose=False)
    lengths = [len(row) for row in ids]
    long = [position for position, length in enumerate(lengths) if length > max_length]
    if long:
        cut = _ids(tokenizer, [texts[k] for k in long], target=target, truncation=True, max_length=max_length)
        for position, row in zip(long, cut, strict=True):
            ids[position] = row
    return ids, [length - len(row) for length, row in zip(lengths, ids, strict=True)]


def special_ids(tokenizer: Any, *, target: bool) -> list[int]:
    """Return the ids that the tokenizer puts round a source, or round a target."""
    return _ids(tokenizer, [""], target=target)[0]


def is_bare(ids: Sequence[int], tokenizer: Any) -> bool:
    """Say whether a target's ids hold nothing but special tokens."""
    return set(ids) <= set(special_ids(tokenizer, target=True))


def _ids(tokenizer: Any, texts: list[str], *, target: bool, **options: Any) -> list[list[int]]:
    found = tokenizer(**{"text_target" if target else "text": texts}, **options)["input_ids"]
    return [list(row) for row in found]


def _refuse(tokenizer: Any, special: Sequence[int], *, target: bool) -> None:
    name = type(tokenizer).__name__
    if tokenizer.pad_token is None:
        raise Incompatible(
            f"the tokenizer ({name}) has no padding token, so texts of different lengths cannot stand in one batch."
        )
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    if target and end not in special:
        raise Incompatible(
            f"the tokenizer ({name}) does not end targets with {tokenizer.eos_token or tokenizer.sep_token!r}, so the "
            "model would never learn to stop. Name a tokenizer that adds its end token, under model.tokenizer."
        )
