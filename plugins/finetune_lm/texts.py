"""The texts of a corpus: what is wrong with them, and their tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from finetune.errors import Incompatible
from finetune.interfaces import DataForm, Finding, Row, Values
from finetune.kit import DuplicateCounter, TextWarnings, check_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT = "text"
"""The column."""
NO_WORD = -1
"""Word number of a token that belongs to no word: special tokens."""


class Encoded(NamedTuple):
    """The tokens of one text, without the special tokens that a tokenizer adds."""

    ids: list[int]
    word_ids: list[int]
    """Number of the word that each token belongs to; empty unless asked for."""


def form(*, weight: float) -> DataForm:
    """Return the form of data that hold nothing but texts.

    Args:
        weight: How likely the task is for such data.
    """
    names = ("content", "document", "body", "article", "sentence")
    return DataForm(columns={TEXT: Values(what="a text", kind="text", names=names)}, weight=weight)


def check_texts(examples: Sequence[Row], *, max_length: int) -> Iterator[Finding]:
    """Yield what is wrong with the texts of one split."""
    duplicates = DuplicateCounter()
    warnings = TextWarnings()
    most_tokens = 0
    for number, row in enumerate(examples):
        text = row.get(TEXT)
        yield from check_text(text, row=number, column=TEXT)
        if not isinstance(text, str):
            continue
        duplicates.add(number, text)
        warnings.add(number, TEXT, text)
        # A byte is one token at most, and so is the end of a document. Without the tokenizer, this
        # upper bound is all that is known.
        most_tokens += len(text.encode("utf-8", "surrogatepass")) + 1
    yield from warnings.findings(
        special="It is read as plain text, with one exception: a masked language model reads its own mask token as a "
        "gap to fill."
    )
    yield from duplicates.repeat_warning(
        "rows repeat an earlier text.", column=TEXT, fix="Remove them: a model memorizes repeated texts."
    )
    if len(examples) > 0 and most_tokens <= max_length:
        yield Finding(
            code="corpus-smaller-than-block",
            level="warning",
            column=TEXT,
            message=f"all {len(examples):,} texts together fit into one block of {max_length:,} tokens.",
            fix="Check that no text is missing. If there is no more text, lower preprocessor.max_length.",
        )


def encode(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, words: bool = False, mask_token: str | None = None
) -> list[Encoded]:
    """Return the tokens of each text; special tokens that are written in a text become plain text.

    The unknown token is the one exception.

    Args:
        texts: Texts without findings.
        tokenizer: A fast one if ``words`` is true.
        words: Whether to return which word each token belongs to.
        mask_token: In a text that contains it, special tokens keep their meaning.

    Raises:
        Incompatible: ``words`` is true, and the tokenizer is not a fast one.
    """
    if words and not tokenizer.is_fast:
        raise Incompatible(
            f"whole_word_mask needs a fast tokenizer, which knows the word of each token; "
            f"{type(tokenizer).__name__} is not fast. Set preprocessor.whole_word_mask to false."
        )
    plain: list[int] = []
    with_mask: list[int] = []
    for position, text in enumerate(texts):
        has_mask = mask_token is not None and mask_token in text
        (with_mask if has_mask else plain).append(position)
    encoded: dict[int, Encoded] = {}
    for positions, split in ((plain, True), (with_mask, False)):
        tokens = _tokens([texts[position] for position in positions], tokenizer, words=words, split=split)
        encoded.update(zip(positions, tokens, strict=True))
    forbidden = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for position in plain:
        if not forbidden.isdisjoint(encoded[position].ids):
            encoded[position] = _encode_in_parts(texts[position], tokenizer, words=words)
    return [encoded[position] for position in range(len(texts))]


def append_words(words: list[int], more: Sequence[int]) -> None:
    """Append word numbers so that they continue the numbers that are there.

    >>> words = [0, 0, 1]
    >>> append_words(words, [0, NO_WORD, 1])
    >>> words
    [0, 0, 1, 2, -1, 3]
    """
    offset = max(words, default=NO_WORD) + 1
    for word in more:
        words.append(NO_WORD if word == NO_WORD else word + offset)


def _tokens(texts: list[str], tokenizer: PreTrainedTokenizerBase, *, words: bool, split: bool) -> list[Encoded]:
    if not texts:
        return []
    encoding = tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=split,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    encoded = []
    for position, ids in enumerate(encoding["input_ids"]):
        numbers: list[int] = []
        if words:
            append_words(numbers, [NO_WORD if word is None else word for word in encoding.word_ids(position)])
        encoded.append(Encoded(list(ids), numbers))
    return encoded


def _encode_in_parts(text: str, tokenizer: PreTrainedTokenizerBase, *, words: bool) -> Encoded:
    """Return the tokens of a text after splitting each special token in it behind its first character.

    ``split_special_tokens`` is not enough for Unigram vocabularies such as XLM-R's: ``</s>`` is an
    entry of the vocabulary, and the most likely segmentation of its spelling. Seen with tokenizers
    0.23.
    """
    names = sorted(tokenizer.all_special_tokens, key=len, reverse=True)
    parts = []
    start = 0
    for match in re.finditer("|".join(map(re.escape, names)), text):
        end = match.start() + 1
        parts.append(text[start:end])
        start = end
    parts.append(text[start:])
    joined = Encoded([], [])
    for part in _tokens(parts, tokenizer, words=words, split=True):
        joined.ids.extend(part.ids)
        append_words(joined.word_ids, part.word_ids)
    return joined


def mark_labels(ids: Sequence[int], is_label: Sequence[bool], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return tokens as readable text, with ``⟦…⟧`` around each run of tokens that the loss sees."""
    tokens: list[str] = []
    inside = False
    for token, label in zip(tokenizer.convert_ids_to_tokens(list(ids)), is_label, strict=True):
        if label != inside:
            tokens.append("⟦" if label else "⟧")
            inside = label
        tokens.append(token)
    if inside:
        tokens.append("⟧")
    text: str = tokenizer.convert_tokens_to_string(tokens)
    return text
