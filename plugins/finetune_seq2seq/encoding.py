"""Texts → token ids, and how many tokens were truncated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune.errors import BadOptions, Incompatible
from finetune.kit import encode_truncated


def encode(
    texts: Sequence[str], tokenizer: Any, *, max_length: int, option: str, target: bool = False
) -> tuple[list[list[int]], list[int]]:
    """Return the ids of each text, at most ``max_length`` of them, and how many tokens of each text were lost.

    >>> from finetune.testing.tokenizers import tokenizer
    >>> encode(["tar", "salt, tar and nets"], tokenizer("roberta"), max_length=5, option="max_source_length")[1]
    [0, 4]

    Special tokens are kept; only tokens of the text are lost.

    Args:
        texts: The texts.
        tokenizer: Set to the right languages.
        max_length: Greatest number of ids, special tokens included.
        option: Name of the option that sets it, for messages.
        target: Whether to encode the texts as targets.

    Raises:
        BadOptions: ``max_length`` leaves no room for a token of text.
        Incompatible: The tokenizer cannot pad, or does not end its targets.
    """
    special = special_ids(tokenizer, target=target)
    _check_tokenizer(tokenizer, special, target=target)
    if max_length < len(special) + 1:
        raise BadOptions(
            f"preprocessor: {option} {max_length} leaves no room for text: the tokenizer adds {len(special)} special "
            f"tokens. Set it to {len(special) + 1} or more."
        )
    features, lost = encode_truncated(tokenizer, texts, max_length=max_length, target=target)
    return features["input_ids"], lost


def special_ids(tokenizer: Any, *, target: bool) -> list[int]:
    """Return the ids that the tokenizer puts around a source, or around a target."""
    encoding = tokenizer(text_target="") if target else tokenizer("")
    return list(encoding["input_ids"])


def _check_tokenizer(tokenizer: Any, special: Sequence[int], *, target: bool) -> None:
    name = type(tokenizer).__name__
    if tokenizer.pad_token is None:
        raise Incompatible(
            f"the tokenizer ({name}) has no padding token, so texts of different lengths do not fit into one batch. "
            "Name another tokenizer under model.tokenizer."
        )
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    if target and end not in special:
        raise Incompatible(
            f"the tokenizer ({name}) does not end targets with {tokenizer.eos_token or tokenizer.sep_token!r}, so the "
            "model would never learn to stop. Name a tokenizer that adds its end token under model.tokenizer."
        )
