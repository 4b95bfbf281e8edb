"""What a tokenizer puts round a text, and between documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.errors import Incompatible

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The special tokens before and after a single text."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """Find what a tokenizer puts round a text, by giving it one.

    >>> from finetune.testing.tokenizers import tokenizer
    >>> frame(tokenizer("bert"))  # [CLS] … [SEP]
    Frame(before=(0,), after=(1,))
    """
    text = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a", add_special_tokens=True)["input_ids"]
    for start in range(len(whole) - len(text) + 1):
        if whole[start : start + len(text)] == text:
            return Frame(before=tuple(whole[:start]), after=tuple(whole[start + len(text) :]))
    raise Incompatible(
        f"{type(tokenizer).__name__} changes a text's tokens when it adds special ones ({text} became {whole}), so "
        "documents cannot be packed. Use the model's usual tokenizer."
    )


def separator(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that stands between documents for a masked language model: SEP, or else EOS.

    Raises:
        Incompatible: The tokenizer has neither, or no mask token.
    """
    name = type(tokenizer).__name__
    if tokenizer.mask_token_id is None:
        raise Incompatible(
            f"the tokenizer ({name}) has no mask token, so it is not one of a masked language model. "
            "Did you want causal-language-modeling?"
        )
    found = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    if found is None:
        raise Incompatible(
            f"the tokenizer ({name}) has neither a separator (sep_token) nor an end (eos_token) to stand between "
            "documents. Save a copy of it that has one, and name it under model.tokenizer."
        )
    return int(found)


@dataclass(frozen=True, kw_only=True)
class Ends:
    """How a causal language model's documents begin and end."""

    begin: int | None
    """BOS, where the tokenizer puts one before a text and it is not EOS as well."""
    end: int
    """EOS."""


def ends(tokenizer: PreTrainedTokenizerBase) -> Ends:
    """Return the tokens at the two ends of a causal language model's documents.

    Raises:
        Incompatible: The tokenizer has no end-of-text token.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise Incompatible(
            f"the tokenizer ({type(tokenizer).__name__}) has no end-of-text token (eos_token), so the model could not "
            "tell where a document ends. Save a copy of it that has one, and name it under model.tokenizer."
        )
    begin = tokenizer.bos_token_id
    follows = begin is not None and begin != end and frame(tokenizer).before[:1] == (begin,)
    return Ends(begin=begin if follows else None, end=end)
