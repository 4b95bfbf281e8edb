"""Words → tokens: which word each token is of, and sentences cut into windows between words."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from finetune.errors import BadData, Incompatible
from finetune.interfaces import Batch
from finetune_text import texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENS = "tokens"
"""The column: a list of words."""
OWNER = "overflow_to_sample_mapping"
WORD_IDS = "word_ids"
"""Helper column of the features: position in the sentence of the word that each token is of; −1 for special tokens."""
WINDOW = "window"
"""Helper column: which window of its sentence a feature is, from 0."""
WITHOUT_TOKENS = "words_without_tokens"
"""Helper column: words of the sentence that the tokenizer sees nothing in; told of its first window."""
NO_WORD = -1
_MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def words_of(value: Any) -> list[str]:
    """Return the words of one example; text, as the command line gives it, is parted at white space.

    >>> words_of("Zoë sails  to Harrowmouth"), words_of(["Zoë", "sails"])
    (['Zoë', 'sails', 'to', 'Harrowmouth'], ['Zoë', 'sails'])
    """
    return value.split() if isinstance(value, str) else list(value)


def encode(rows: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> dict[str, Any]:
    """Return windows of at most ``max_length`` tokens that together hold every word of every sentence once.

    A sentence is cut between words, without overlap; a word that alone is longer than a window loses its last tokens,
    which are counted.

    >>> from finetune.testing.tokenizers import tokenizer
    >>> made = encode([["tar", "and", "salt"], ["nets"]], tokenizer("bert"), max_length=4)
    >>> made["word_ids"], made["overflow_to_sample_mapping"], made["window"]
    ([[-1, 0, 1, -1], [-1, 2, -1], [-1, 0, -1]], [0, 0, 1], [0, 1, 0])

    Raises:
        BadOptions: ``max_length`` is beyond what the model can take, or leaves no room for a token of text.
        Incompatible: The tokenizer cannot pad, or does not tell which token is of which word.
        BadData: A sentence has no token at all.
    """
    _refuse_slow(tokenizer)
    texts.refuse(tokenizer, max_length, pair=False)
    space = " " if _needs_space(tokenizer) else ""
    spaced = [[space + word if word else word for word in row] for row in rows]
    whole = tokenizer(spaced, is_split_into_words=True, verbose=False)
    inputs = [name for name in _MODEL_INPUTS if name in whole]
    made: dict[str, Any] = {name: [] for name in (*inputs, OWNER, WORD_IDS, WINDOW, WITHOUT_TOKENS, texts.TOKENS_LOST)}
    for owner, row in enumerate(spaced):
        ids = whole.word_ids(owner)
        if not ids:
            raise BadData(f"the tokenizer sees nothing in {row[:5]!r}. Leave the sentence out.")
        counts = _counts(ids, words=len(row))
        # Counted rather than asked for: some tokenizers add other tokens than num_special_tokens_to_add says.
        cuts = list(_cut(counts, max_length - ids.count(None)))
        part, first = whole, owner
        if len(ids) > max_length:
            part, first = _truncated([row[start:stop] for start, stop in cuts], tokenizer, max_length=max_length), 0
        for window, (start, stop) in enumerate(cuts):
            words = [NO_WORD if word is None else word + start for word in part.word_ids(first + window)]
            for name in inputs:
                made[name].append(part[name][first + window])
            made[OWNER].append(owner)
            made[WORD_IDS].append(words)
            made[WINDOW].append(window)
            made[WITHOUT_TOKENS].append(0 if window else counts.count(0))
            made[texts.TOKENS_LOST].append(sum(counts[start:stop]) - sum(word != NO_WORD for word in words))
    return made


def _truncated(pieces: list[list[str]], tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> Any:
    """Return the tokens of each piece; what is too long loses its last ones, on whichever side the tokenizer cuts."""
    right = copy.copy(tokenizer)
    right.truncation_side = "right"
    return right(pieces, is_split_into_words=True, truncation=True, max_length=max_length)


def _counts(ids: Sequence[int | None], *, words: int) -> list[int]:
    """Return how many tokens each word has."""
    counts = [0] * words
    for word in ids:
        if word is not None:
            counts[word] += 1
    return counts


def _cut(counts: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Yield the first word of each window, and the one after its last.

    >>> list(_cut([2, 1, 0, 9, 0, 1], room=3))
    [(0, 3), (3, 5), (5, 6)]
    """
    start = used = 0
    for word, count in enumerate(counts):
        if count and used and used + count > room:
            yield start, word
            start, used = word, 0
        used += count
    yield start, len(counts)


def _needs_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Say whether the tokenizer takes a word without a space before it for the rest of the word before.

    So do byte-level ones without ``add_prefix_space`` (GPT-2, RoBERTa, Llama 3, Qwen): what they learned of words is of
    words with a space. With the space given, a word has the tokens that it has inside a text.
    """
    text = tokenizer("a b", add_special_tokens=False)["input_ids"]
    bare = tokenizer(["a", "b"], is_split_into_words=True, add_special_tokens=False)["input_ids"]
    if bare == text:
        return False
    spaced = tokenizer([" a", " b"], is_split_into_words=True, add_special_tokens=False)
    second = [token for token, word in zip(spaced["input_ids"], spaced.word_ids(), strict=True) if word == 1]
    return bool(second) and text[-len(second) :] == second


def _refuse_slow(tokenizer: PreTrainedTokenizerBase) -> None:
    if not tokenizer.is_fast:
        raise Incompatible(
            f"the tokenizer ({type(tokenizer).__name__}) does not tell which token is of which word. Name a model with "
            "a fast tokenizer (one with a file tokenizer.json)."
        )


def counts(features: Batch) -> dict[str, int]:
    """Return what became of the words of a batch of features."""
    lost = features[texts.TOKENS_LOST]
    return {
        "words": sum(len({word for word in ids if word != NO_WORD}) for ids in features[WORD_IDS]),
        WITHOUT_TOKENS: sum(features[WITHOUT_TOKENS]),
        "sentences_in_several_windows": sum(window == 1 for window in features[WINDOW]),
        "words_truncated": sum(count > 0 for count in lost),
        texts.TOKENS_LOST: sum(lost),
    }
