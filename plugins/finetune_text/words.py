"""Words → tokens: which word each token belongs to, and sentences cut into windows between words."""

from __future__ import annotations

import copy
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import compress, pairwise
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
    """Return the words of one example; text, as the command line gives it, is split as `split` does.

    >>> words_of("Zoë sails  to Harrowmouth."), words_of(["Zoë", "sails"])
    (['Zoë', 'sails', 'to', 'Harrowmouth', '.'], ['Zoë', 'sails'])
    """
    return [value[start:end] for start, end in split(value)] if isinstance(value, str) else list(value)


def spaces_of(value: Any, given: Sequence[bool] | None = None) -> list[bool] | None:
    """Return for each word of an example whether a space follows it, or None if that is not known.

    >>> spaces_of("Zoë sails."), spaces_of(["Zoë", "sails"]), spaces_of(["sails", "."], [False, True])
    ([True, False, True], None, [False, True])
    """
    if isinstance(value, str):
        return spaces_between(split(value))
    return list(given) if given is not None and len(given) == len(value) else None


def spaces_between(places: Sequence[tuple[int, int]]) -> list[bool]:
    """Return for each word of a text whether a space follows it; the last one counts as followed by a space."""
    spaces = [end < start for (_, end), (start, _) in pairwise(places)]
    return [*spaces, True] if places else []


def split(text: str) -> list[tuple[int, int]]:
    """Return where each word of a text begins and ends.

    Letters and digits that follow each other are a word; every other character that is not white
    space is a word by itself. Scripts without spaces between words have a word for each letter.

    >>> text = "Zoë's boat, 船です"
    >>> [text[start:end] for start, end in split(text)]
    ['Zoë', "'", 's', 'boat', ',', '船', 'で', 'す']
    """
    places: list[tuple[int, int]] = []
    before = _SPACE
    for position, character in enumerate(text):
        kind = _kind(character)
        if kind == _SPACE or (kind == _INVISIBLE and before == _SPACE):
            before = _SPACE
        elif kind == _INVISIBLE or (kind == _MARK and before != _SPACE) or kind == before == _LETTER:
            places[-1] = (places[-1][0], position + 1)
        else:
            places.append((position, position + 1))
            before = kind
    return places


_SPACE, _LETTER, _SINGLE, _MARK, _INVISIBLE = range(5)
_UNSPACED = (
    (0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x312F), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3FFFF),
)  # fmt: skip
"""Blocks of Thai, Lao, Tibetan, Burmese, Khmer, Japanese and Chinese."""


@cache
def _kind(character: str) -> int:
    """Return what a character is in a text; a mark or a joiner belongs to the character before it."""
    category = unicodedata.category(character)
    if character.isspace() or category == "Cc":
        return _SPACE
    if category == "Cf":
        return _INVISIBLE
    if category[0] == "M":
        return _MARK
    if any(first <= ord(character) <= last for first, last in _UNSPACED):
        return _SINGLE
    return _LETTER if category[0] in "LN" or character == "_" else _SINGLE


def encode(
    rows: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    spaces: Sequence[Sequence[bool] | None] | None = None,
) -> dict[str, Any]:
    """Return windows of at most ``max_length`` tokens that together hold every word of every sentence once.

    A sentence is cut between words, without overlap. A single word that is longer than a window
    loses its last tokens, which are counted.

    >>> from finetune.testing.tokenizers import tokenizer
    >>> made = encode([["tar", "and", "salt"], ["nets"]], tokenizer("bert"), max_length=4)
    >>> made["word_ids"], made["overflow_to_sample_mapping"], made["window"]
    ([[-1, 0, 1, -1], [-1, 2, -1], [-1, 0, -1]], [0, 0, 1], [0, 1, 0])

    Args:
        rows: The words of every sentence.
        tokenizer: The tokenizer of the model.
        max_length: Longest window, in tokens.
        spaces: For every sentence, whether a space follows each word; None if all have one. Only
            tokenizers that keep the space in the token of a word (GPT-2, RoBERTa, Llama 3, Qwen) can
            tell the difference.

    Raises:
        BadOptions: The model cannot take ``max_length`` tokens, or ``max_length`` leaves no room
            for text.
        Incompatible: The tokenizer cannot pad, or does not say which word a token belongs to.
        BadData: A sentence has no token at all.
    """
    _require_fast(tokenizer)
    texts.require_usable(tokenizer, max_length, pair=False)
    spaced = [list(row) for row in rows]
    if _needs_space(tokenizer):
        spaced = [_with_spaces(row, known) for row, known in zip(rows, spaces or [None] * len(rows), strict=True)]
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


def _with_spaces(row: Sequence[str], spaces: Sequence[bool] | None) -> list[str]:
    """Return words with the space before them, as it is in the text; the first word has one, too."""
    before = [True] * len(row) if spaces is None else [True, *spaces[:-1]]
    return [f" {word}" if word and space else word for word, space in zip(row, before, strict=True)]


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
