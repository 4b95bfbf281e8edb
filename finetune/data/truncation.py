"""Texts → token ids, truncated, with a count of what was lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Inputs of a model that have one value for each token, of those that tokenizers make."""


LONG = 1 << 20
"""Characters from which on a text is cut before it is truncated: tokenizers need about 160 bytes for a character."""
SPARE = 32
"""Tokens behind the place of truncation that have to be those of the whole text."""

_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def _marks(tokenizer: Any) -> re.Pattern[str] | None:
    """Return a pattern that finds the special tokens with a role, such as ``</s>``, in a text."""
    names = {getattr(tokenizer, name, None) for name in _NAMES} - {None, ""}
    longest_first = sorted(map(str, names), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if names else None


def _as_plain_text(text: str, marks: re.Pattern[str], tokenizer: Any) -> str:
    """Return a text whose special tokens become plain text if `split_special_tokens` is set.

    In Unigram vocabularies, such as that of XLM-R, ``</s>`` is also an entry like any word, so `split_special_tokens`
    alone is not enough; seen with tokenizers 0.23. Such a token gets a space behind its first character.
    """

    def broken(match: re.Match[str]) -> str:
        token = match[0]
        ids = tokenizer(token, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        special = tokenizer.convert_tokens_to_ids(token)
        return f"{token[0]} {token[1:]}" if special in ids and special != tokenizer.unk_token_id else token

    return marks.sub(broken, text)


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

    Special tokens with a role that are written in a text, such as ``</s>`` in HTML, are read as plain text.

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
    given = [list(column) for column in (texts, pairs) if column is not None]
    marks = _marks(tokenizer)
    marked = set()
    for column in given if marks is not None else ():
        for position, text in enumerate(column):
            if marks is not None and marks.search(text):
                marked.add(position)
                column[position] = _as_plain_text(text, marks, tokenizer)

    def encode_alike(chosen: Sequence[int], **options: Any) -> dict[str, list[Any]]:
        inputs = {side: [column[position] for position in chosen] for side, column in zip(sides, given, strict=False)}
        encoding = tokenizer(**inputs, **options)
        return {name: list(encoding[name]) for name in MODEL_INPUTS if name in encoding}

    def encode(chosen: Sequence[int], **options: Any) -> dict[str, list[Any]]:
        special = [place for place, position in enumerate(chosen) if position in marked]
        if not special:
            return encode_alike(chosen, **options)
        # Only texts with a special token: the option also splits tokens that users added as markers.
        encoded = encode_alike([chosen[place] for place in special], split_special_tokens=True, **options)
        if len(special) == len(chosen):
            return encoded
        others = [place for place, position in enumerate(chosen) if position not in marked]
        plain = encode_alike([chosen[place] for place in others], **options)
        whole: dict[str, list[Any]] = {name: [None] * len(chosen) for name in plain}
        for places, part in ((others, plain), (special, encoded)):
            for name, values in part.items():
                for place, value in zip(places, values, strict=True):
                    whole[name][place] = value
        return whole

    # without truncation first: only so can the loss be counted, for pairs and for slow tokenizers too
    features = encode(range(len(texts)), verbose=False)
    lengths = [len(ids) for ids in features["input_ids"]]
    long = [position for position, length in enumerate(lengths) if length > max_length]
    if long:
        if check_long is not None:
            check_long(long)
        if pairs is None and tokenizer.truncation_side == "right":
            for position in long:
                if len(given[0][position]) > LONG:
                    _cut(given[0], position, features["input_ids"][position], max_length, encode)
        truncated = encode(long, truncation=truncation, max_length=max_length)
        for name, values in features.items():
            for position, value in zip(long, truncated[name], strict=True):
                values[position] = value
    return features, [length - len(ids) for length, ids in zip(lengths, features["input_ids"], strict=True)]


def _cut(texts: list[str], position: int, ids: list[int], most: int, encode: Callable[..., Any]) -> None:
    """Cut a very long text behind the tokens that truncation keeps, if the part that is left has the same tokens.

    Args:
        texts: The texts; the one at the position is replaced.
        position: Position of the text.
        ids: Tokens of the whole text.
        most: Number of tokens that truncation keeps.
        encode: Encodes the texts at some positions.
    """
    text, compared = texts[position], most + SPARE
    size = 2 * (compared + SPARE) * len(text) // len(ids) + 1000
    if size > len(text) // 2:
        return
    texts[position] = text[:size]
    again = encode([position], verbose=False)["input_ids"][0]
    if len(again) < compared + SPARE or again[:compared] != ids[:compared]:
        texts[position] = text
