"""Words → tokens: which word each token belongs to, and sentences cut into windows between words."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

from finetune.errors import BadData, Incompatible
from finetune.interfaces import Batch
from finetune.kit import MODEL_INPUTS
from finetune_text import texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENS = "tokens"
"""The column: a list of words."""
SPACE_AFTER = "space_after"
"""The column: for each word, whether a space follows it in the text."""
OWNER = "overflow_to_sample_mapping"
WORD_IDS = "word_ids"
"""Helper column of the features: for each token, the position of its word in the sentence; −1 for special tokens."""
WINDOW = "window"
"""Helper column: which window of its sentence a feature is, from 0."""
WITHOUT_TOKENS = "words_without_tokens"
"""Helper column: how many words of the sentence have no token; 0 in all windows but the first."""
NO_WORD = -1


def words_of(value: Any) -> list[str]:
    """Return the words of one example; text, as the command line gives it, is split at white space.

    >>> words_of("Zoë sails  to Harrowmouth"), words_of(["Zoë", "sails"])
    (['Zoë', 'sails', 'to', 'Harrowmouth'], ['Zoë', 'sails'])
    """
    return value.split() if isinstance(value, str) else list(value)


def encode(rows: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> dict[str, Any]:
    """Return windows of at most ``max_length`` tokens that together hold every word of every sentence once.

    A sentence is cut between words, without overlap. A single word that is longer than a window
    loses its last tokens, which are counted.

    >>> from finetune.testing.tokenizers import tokenizer
    >>> made = encode([["tar", "and", "salt"], ["nets"]], tokenizer("bert"), max_length=4)
    >>> made["word_ids"], made["overflow_to_sample_mapping"], made["window"]
    ([[-1, 0, 1, -1], [-1, 2, -1], [-1, 0, -1]], [0, 0, 1], [0, 1, 0])

    Raises:
        BadOptions: The model cannot take ``max_length`` tokens, or ``max_length`` leaves no room
            for text.
        Incompatible: The tokenizer cannot pad, or does not say which word a token belongs to.
        BadData: A sentence has no token at all.
    """
    _require_fast(tokenizer)
    texts.require_usable(tokenizer, max_length, pair=False)
    spaced = list(map(_with_spaces, rows)) if _needs_space(tokenizer) else list(map(list, rows))
    whole = tokenizer(spaced, is_split_into_words=True, verbose=False)
    inputs = [name for name in MODEL_INPUTS if name in whole]
    columns: dict[str, Any] = {}
    for name in (*inputs, OWNER, WORD_IDS, WINDOW, WITHOUT_TOKENS, texts.TOKENS_LOST):
        columns[name] = []
    for owner, row in enumerate(spaced):
        for feature in _windows(row, owner, whole, tokenizer, inputs=inputs, max_length=max_length):
            for name, value in feature.items():
                columns[name].append(value)
    return columns


def _windows(
    row: list[str],
    owner: int,
    whole: Any,
    tokenizer: PreTrainedTokenizerBase,
    *,
    inputs: Sequence[str],
    max_length: int,
) -> Iterator[dict[str, Any]]:
    """Yield the features of one sentence.

    Args:
        row: Its words.
        owner: Its position in the batch.
        whole: The tokens of the whole batch, not truncated.
        tokenizer: Makes the tokens of the windows, where there are several.
        inputs: The columns that the model takes.
        max_length: Longest window, in tokens.
    """
    ids = whole.word_ids(owner)
    if not ids:
        raise BadData(f"the tokenizer makes no token of {row[:5]!r}. Leave the sentence out.")
    sizes = _tokens_per_word(ids, words=len(row))
    # Counted, not asked for: some tokenizers add other tokens than num_special_tokens_to_add says.
    cuts = list(_cut(sizes, max_length - ids.count(None)))
    encoding, first = whole, owner
    if len(ids) > max_length:
        pieces = [row[start:stop] for start, stop in cuts]
        encoding, first = _truncated(pieces, tokenizer, max_length=max_length), 0
    for window, (start, stop) in enumerate(cuts):
        word_ids = [NO_WORD if word is None else word + start for word in encoding.word_ids(first + window)]
        feature = {name: encoding[name][first + window] for name in inputs}
        kept = len(word_ids) - word_ids.count(NO_WORD)
        yield feature | {
            OWNER: owner,
            WORD_IDS: word_ids,
            WINDOW: window,
            WITHOUT_TOKENS: 0 if window else sizes.count(0),
            texts.TOKENS_LOST: sum(sizes[start:stop]) - kept,
        }


def _with_spaces(row: Sequence[str]) -> list[str]:
    return [f" {word}" if word else word for word in row]


def _truncated(pieces: list[list[str]], tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> Any:
    """Return the tokens of each piece; a piece that is too long loses its last tokens, whatever the truncation side."""
    right = copy.copy(tokenizer)
    right.truncation_side = "right"
    return right(pieces, is_split_into_words=True, truncation=True, max_length=max_length)


def _tokens_per_word(ids: Sequence[int | None], *, words: int) -> list[int]:
    counts = [0] * words
    for word in ids:
        if word is not None:
            counts[word] += 1
    return counts


def _cut(sizes: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Yield the first word of each window, and the one after its last.

    >>> list(_cut([2, 1, 0, 9, 0, 1], room=3))
    [(0, 3), (3, 5), (5, 6)]
    """
    start = used = 0
    for word, size in enumerate(sizes):
        if size and used and used + size > room:
            yield start, word
            start, used = word, 0
        used += size
    yield start, len(sizes)


def _needs_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Say whether the tokenizer reads a word without a space before it as the rest of the word before.

    Byte-level ones without ``add_prefix_space`` do (GPT-2, RoBERTa, Llama 3, Qwen): they learned
    words with the space before them. With the space, a word has the same tokens as inside a text.
    """
    text = tokenizer("a b", add_special_tokens=False)["input_ids"]
    bare = tokenizer(["a", "b"], is_split_into_words=True, add_special_tokens=False)["input_ids"]
    if bare == text:
        return False
    spaced = tokenizer([" a", " b"], is_split_into_words=True, add_special_tokens=False)
    is_second = [word == 1 for word in spaced.word_ids()]
    second = list(compress(spaced["input_ids"], is_second))
    return bool(second) and text[-len(second) :] == second


def _require_fast(tokenizer: PreTrainedTokenizerBase) -> None:
    if not tokenizer.is_fast:
        raise Incompatible(
            f"the tokenizer ({type(tokenizer).__name__}) does not say which word a token belongs to. Name a model with "
            "a fast tokenizer (one with a file tokenizer.json)."
        )


def counts(features: Batch) -> dict[str, int]:
    """Return how many words a batch of features has, and how many of them were lost or truncated."""
    words = 0
    for word_ids in features[WORD_IDS]:
        words += len(set(word_ids) - {NO_WORD})
    lost = features[texts.TOKENS_LOST]
    return {
        "words": words,
        WITHOUT_TOKENS: sum(features[WITHOUT_TOKENS]),
        "sentences_in_several_windows": list(features[WINDOW]).count(1),
        "words_truncated": sum(count > 0 for count in lost),
        texts.TOKENS_LOST: sum(lost),
    }
