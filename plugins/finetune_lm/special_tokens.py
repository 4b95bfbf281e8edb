"""The special tokens that a tokenizer puts around a text, and those that stand between documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.errors import Incompatible

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """The special tokens before and after a single text."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    """Return the special tokens that a tokenizer puts around a text, found by encoding one.

    >>> from finetune.testing.tokenizers import tokenizer
    >>> special_tokens(tokenizer("bert"))  # [CLS] … [SEP]
    SpecialTokens(before=(0,), after=(1,))

    Raises:
        Incompatible: The tokenizer changes the tokens of a text when it adds special ones.
    """
    text = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    whole = list(tokenizer("a", add_special_tokens=True)["input_ids"])
    for start in range(len(whole) - len(text) + 1):
        end = start + len(text)
        if whole[start:end] == text:
            return SpecialTokens(before=tuple(whole[:start]), after=tuple(whole[end:]))
    raise Incompatible(
        f"{type(tokenizer).__name__} changes the tokens of a text when it adds special tokens: {text} became {whole}. "
        "Documents cannot be packed that way. Use the model's usual tokenizer."
    )


def document_separator(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that separates documents for a masked language model: SEP, or else EOS.

    Raises:
        Incompatible: The tokenizer has neither, or no mask token.
    """
    name = type(tokenizer).__name__
    if tokenizer.mask_token_id is None:
        raise Incompatible(
            f"the tokenizer ({name}) has no mask token, so it does not belong to a masked language model. "
            "Did you mean the task causal-language-modeling?"
        )
    separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    if separator is None:
        raise Incompatible(
            f"the tokenizer ({name}) has no separator (sep_token) and no end-of-text token (eos_token), so documents "
            "cannot be separated. Save a copy of it that has one, and name that copy under model.tokenizer."
        )
    return int(separator)


@dataclass(frozen=True, kw_only=True)
class DocumentTokens:
    """The special tokens at the two ends of a causal language model's documents."""

    bos: int | None
    """BOS, if the tokenizer puts one before a text and it is not EOS too."""
    eos: int


def document_tokens(tokenizer: PreTrainedTokenizerBase) -> DocumentTokens:
    """Return the special tokens at the two ends of a causal language model's documents.

    Raises:
        Incompatible: The tokenizer has no end-of-text token.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        raise Incompatible(
            f"the tokenizer ({type(tokenizer).__name__}) has no end-of-text token (eos_token), so the model cannot "
            "learn where a document ends. Save a copy of it that has one, and name that copy under model.tokenizer."
        )
    bos = tokenizer.bos_token_id
    is_added = bos is not None and bos != eos and special_tokens(tokenizer).before[:1] == (bos,)
    return DocumentTokens(bos=bos if is_added else None, eos=eos)
