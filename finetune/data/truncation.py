"""Texts → token ids, truncated, with a count of what was lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Inputs of a model that have one value for each token, of those that tokenizers make."""


def encode_truncated(
    tokenizer: Any,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    max_length: int,
    truncation: str = "longest_first",
    target: bool = False,
    check_long: Callable[[list[int]], None] | None = None,
) -> tuple[dict[str, list[Any]], list[int]]:
    """Return the model's inputs for texts or pairs of texts, and how many tokens of each were lost.

    >>> from finetune.testing.tokenizers import tokenizer
    >>> features, lost = encode_truncated(tokenizer("bert"), ["tar", "salt, tar and nets"], max_length=4)
    >>> [len(ids) for ids in features["input_ids"]], lost
    ([3, 4], [0, 3])

    Args:
        tokenizer: The tokenizer.
        texts: The texts, or the first text of each pair.
        pairs: The second texts.
        max_length: Greatest number of tokens, special tokens included.
        truncation: Which text of a pair loses tokens, as the tokenizer names it.
        target: Whether to encode the texts as targets.
        check_long: Called with the positions of the texts that are too long, before they are truncated: it may refuse
            them.
    """
    sides = ("text_target", "text_pair_target") if target else ("text", "text_pair")

    def encode(chosen: Sequence[int], **options: Any) -> dict[str, list[Any]]:
        given = (texts,) if pairs is None else (texts, pairs)
        inputs = {side: [column[position] for position in chosen] for side, column in zip(sides, given, strict=False)}
        encoding = tokenizer(**inputs, **options)
        return {name: list(encoding[name]) for name in MODEL_INPUTS if name in encoding}

    # without truncation first: only so can the loss be counted, for pairs and for slow tokenizers too
    features = encode(range(len(texts)), verbose=False)
    lengths = [len(ids) for ids in features["input_ids"]]
    long = [position for position, length in enumerate(lengths) if length > max_length]
    if long:
        if check_long is not None:
            check_long(long)
        truncated = encode(long, truncation=truncation, max_length=max_length)
        for name, values in features.items():
            for position, value in zip(long, truncated[name], strict=True):
                values[position] = value
    return features, [length - len(ids) for length, ids in zip(lengths, features["input_ids"], strict=True)]
