"""Texts and pairs of texts: what is wrong with them, and their tokens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from finetune.errors import BadOptions, Incompatible
from finetune.interfaces import Batch, Finding, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT, PAIR = "text", "text_pair"
"""The columns."""
TOKENS_LOST = "tokens_lost"
"""Helper column of the features: tokens that `max_length` cut off."""
_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def present(examples: Sequence[Row], column: str) -> bool:
    """Say whether any example has a value in a column that the first one names."""
    return len(examples) > 0 and column in examples[0] and any(row.get(column) is not None for row in examples)


def check_texts(row: Row, number: int, columns: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with the texts of one row."""
    for column in columns:
        value = row.get(column)
        problem = _problem(value)
        if problem is not None:
            surrogate = problem["code"] == "text-surrogate"
            shown = None if value is None else ascii(value) if surrogate else str(value)
            yield Finding(**problem, row=number, column=column, value=shown)


def _problem(value: Any) -> dict[str, Any] | None:
    if value is None:
        return {"code": "text-missing", "message": "the row has no text.", "fix": "Fill it in, or drop the row."}
    if not isinstance(value, str):
        message = f"text was wanted, not {type(value).__name__}."
        return {"code": "text-not-text", "message": message, "fix": "Write the column as text.", "level": "error"}
    if not value or (not value[0].isalnum() and all(unicodedata.category(c) in _INVISIBLE for c in value)):
        message = "nothing in the text can be seen."
        return {"code": "text-empty", "message": message, "fix": "Fill it in, or drop the row."}
    if _SURROGATE.search(value):
        message = "the text holds half of a surrogate pair, which no tokenizer reads."
        return {"code": "text-surrogate", "message": message, "fix": "Repair the encoding.", "level": "error"}
    return None


class Twins:
    """Counts rows that repeat an earlier text, in 8 bytes and a label a text."""

    def __init__(self) -> None:
        self._seen: dict[bytes, Hashable] = {}
        self._repeats: list[int] = [0, 0]
        self._first: list[int | None] = [None, None]

    def add(self, number: int, row: Row, label: Hashable) -> None:
        """Take in one row."""
        joined = f"{row.get(TEXT)}\0{row.get(PAIR)}".encode("utf-8", "surrogatepass")
        key = blake2b(joined, digest_size=8).digest()
        if key not in self._seen:
            self._seen[key] = label
            return
        differs = int(self._seen[key] != label)
        self._repeats[differs] += 1
        if self._first[differs] is None:
            self._first[differs] = number

    def findings(self) -> Iterator[Finding]:
        """Yield one warning for repeated rows, and one for texts that come back with another label."""
        same, differing = self._repeats
        if same:
            yield Finding(
                code="duplicate-rows", message=f"{same:,} rows repeat an earlier text with the same label.",
                fix="Remove them, or know that they count more than once.", level="warning", column=TEXT,
                row=self._first[0],
            )  # fmt: skip
        if differing:
            yield Finding(
                code="label-conflict", message=f"{differing:,} rows repeat an earlier text with another label.",
                fix="Decide which label is right: no model can learn both.", level="warning", column=TEXT,
                row=self._first[1],
            )  # fmt: skip


def encode(examples: Batch, tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> dict[str, list[Any]]:
    """Return what the model takes of a batch of texts or pairs, at most ``max_length`` tokens each, and what was lost.

    >>> from finetune.testing.tokenizers import tokenizer
    >>> encode({"text": ["tar", "salt, tar and nets"]}, tokenizer("bert"), max_length=4)["tokens_lost"]
    [0, 3]

    Of a pair, tokens are taken from the end of whichever text is the longer.

    Raises:
        BadOptions: ``max_length`` is beyond what the model can take, or leaves no room for a token of text.
        Incompatible: The tokenizer cannot pad.
    """
    texts = list(examples[TEXT])
    pairs = list(examples[PAIR]) if any(pair is not None for pair in examples.get(PAIR, ())) else None
    refuse(tokenizer, max_length, pair=pairs is not None)
    # Whole first, so that what is lost can be counted for pairs and slow tokenizers too; only what is too long, again.
    whole = tokenizer(texts, pairs, verbose=False)
    encoded = {name: list(whole[name]) for name in _MODEL_INPUTS if name in whole}
    lengths = [len(ids) for ids in encoded["input_ids"]]
    long = [position for position, length in enumerate(lengths) if length > max_length]
    if long:
        cut = tokenizer(
            [texts[position] for position in long],
            [pairs[position] for position in long] if pairs else None,
            truncation="longest_first",
            max_length=max_length,
        )
        for name, values in encoded.items():
            for position, value in zip(long, cut[name], strict=True):
                values[position] = value
    lost = [length - len(ids) for length, ids in zip(lengths, encoded["input_ids"], strict=True)]
    return {**encoded, TOKENS_LOST: lost}


def refuse(tokenizer: PreTrainedTokenizerBase, max_length: int, *, pair: bool) -> None:
    """Refuse a tokenizer that cannot pad, and a length that the model cannot take or that leaves no room for text."""
    if tokenizer.pad_token is None:
        raise Incompatible(
            f"the tokenizer ({type(tokenizer).__name__}) has no padding token, so texts of different lengths cannot "
            "stand in one batch. Save a copy of it with `tokenizer.pad_token = tokenizer.eos_token`, and of the model "
            "with the same `config.pad_token_id`; name the copies in the recipe."
        )
    if max_length > tokenizer.model_max_length:
        raise BadOptions(
            f"preprocessor: max_length {max_length:,} is more than the {tokenizer.model_max_length:,} tokens that the "
            f"model takes. Set max_length to {tokenizer.model_max_length:,} or less."
        )
    special = tokenizer.num_special_tokens_to_add(pair=pair)
    if max_length < special + 1 + pair:
        raise BadOptions(
            f"preprocessor: max_length {max_length} leaves no room for text beside {special} special tokens. "
            f"Set it to {special + 1 + pair} or more."
        )


def truncation(features: Batch) -> dict[str, int]:
    """Return how many texts of a batch of features lost tokens, and how many tokens."""
    lost = features[TOKENS_LOST]
    return {"truncated": sum(count > 0 for count in lost), TOKENS_LOST: sum(lost)}


def shown(feature: Row, tokenizer: PreTrainedTokenizerBase, label: str | None) -> str:
    """Return one feature as a person reads it, the label in ``⟦…⟧``."""
    text: str = tokenizer.decode(feature["input_ids"])
    return text if label is None else f"{text} → ⟦{label}⟧"
