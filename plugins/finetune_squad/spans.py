"""Characters ↔ tokens: the characters of each token of a text, and the tokens that an answer touches.

Characters are half-open (``start_char, end_char``, Python code points); token positions are
inclusive, as heads predict them (``first_token, last_token``).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]

SPACE, MARK, UNSEEN = 1, 2, 3
"""Kinds of characters other than the plain ones (0): white space, combining marks, and controls no reader sees."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The tokens of several texts, end to end: those of text ``t`` are ``[pointer[t] : pointer[t + 1]]``."""

    pointer: Ints
    ids: Ints
    start_chars: Ints
    """First character of the token, counted from the beginning of its text."""
    end_chars: Ints
    """One past the last; not past ``start_chars`` for a token without a visible character."""
    first_char: Ints
    """For every character of each text, the first visible one at or after it; see `seen_after`."""
    last_char: Ints
    """For every character of each text, one past the last visible one before it; see `seen_before`."""
    text_pointer: Ints
    """Where each text's characters begin in the two arrays above."""

    def seen_after(self, text: Ints, char: Ints) -> Ints:
        """Return the first visible character at or after ``char`` of each text."""
        base = self.text_pointer[text]
        return np.asarray(self.first_char[base + char] - base)

    def seen_before(self, text: Ints, char: Ints) -> Ints:
        """Return one past the last visible character before ``char`` of each text."""
        base = self.text_pointer[text]
        return np.asarray(self.last_char[base + char] - base)


def tokens_of(texts: Sequence[str], ids: Sequence[Sequence[int]], offsets: Sequence[Any]) -> Tokens:
    """Lay the tokens of texts end to end, with offsets that mean the same for every tokenizer.

    Byte-level and Unigram tokenizers count the space before a word as part of it, others do not.
    Some drop accents and zero-width characters, so that no token covers them. Here, no token begins
    or ends with white space, and a combining mark that no token covers belongs to the token before
    it: ``café`` in NFD keeps its accent.

    Examples:
        >>> tokens = tokens_of(["a  b"], [[5, 6]], [[(0, 1), (1, 4)]])  # the second token holds the spaces
        >>> tokens.start_chars.tolist(), tokens.end_chars.tolist()
        ([0, 3], [1, 4])
    """
    pointer = pointer_of(list(map(len, ids)))
    flat = np.fromiter(chain.from_iterable(ids), np.int64, int(pointer[-1]))
    pairs = np.array(list(chain.from_iterable(offsets)), np.int64).reshape(-1, 2)
    # One slot more than characters: a text can end at its length, and an empty one begins there.
    text_pointer = pointer_of([len(text) + 1 for text in texts])
    base = np.repeat(text_pointer[:-1], np.diff(pointer))
    starts, ends = pairs[:, 0] + base, pairs[:, 1] + base
    kinds = kinds_of("\n".join(texts) + "\n" if texts else "")
    kinds[text_pointer[1:] - 1] = 0  # The slot at the end of a text stops every search.
    if (kinds >= MARK).any():
        ends = _take_marks(kinds, starts, ends)
    first_char, last_char = _visible(kinds, text_pointer)
    return Tokens(
        pointer=pointer,
        ids=flat,
        start_chars=first_char[starts] - base,
        end_chars=last_char[ends] - base,
        first_char=first_char,
        last_char=last_char,
        text_pointer=text_pointer,
    )


def kinds_of(text: str) -> NDArray[np.int8]:
    """Return the kind of every character.

    >>> kinds_of("a \\u0301\\u200b").tolist()
    [0, 1, 2, 3]
    """
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    present = np.zeros(int(points.max(initial=0)) + 1, bool)
    present[points] = True
    table = np.zeros(len(present), np.int8)
    for point in np.flatnonzero(present).tolist():
        table[point] = _kind(chr(point))
    return table[points]


def touching(tokens: Tokens, text: Ints, start_char: Ints, end_char: Ints) -> tuple[Ints, Ints]:
    """Return the first and last token of each text that hold a character of ``[start_char, end_char)``.

    Positions count from the beginning of each text's tokens; if no token holds one, the first is
    past the last. Several tokens may hold the same character (an emoji in byte-level BPE): all of
    them touch it. If tokens are out of order, or inside an earlier one, which no tokenizer known to
    us does, the run holds all that touch, and maybe others.

    Args:
        tokens: The tokens of the texts.
        text: Which text each answer is in.  # (A,)
        start_char: First character of each answer.  # (A,)
        end_char: One past its last.  # (A,)
    """
    visible = tokens.start_chars < tokens.end_chars
    # One binary search for all texts: keys are text * 2³² + character, so that texts keep apart in one sorted array.
    shift = np.int64(1) << 32
    owner = np.repeat(np.arange(len(tokens.pointer) - 1), np.diff(tokens.pointer)) * shift
    # A binary search needs sorted keys. Running maxima of the ends (and minima of the starts, from the right) sort
    # those that are out of order. A token without a visible character gets the least end and the greatest start, so
    # that it takes the key of its neighbour and is never found.
    ends = np.maximum.accumulate(owner + np.where(visible, tokens.end_chars, 0))
    starts = owner + np.where(visible, tokens.start_chars, shift - 1)
    starts = np.minimum.accumulate(starts[::-1])[::-1]
    # The first token whose end is after the answer's first character, and the last whose start is before its end.
    first = np.searchsorted(ends, text * shift + start_char, side="right") - tokens.pointer[text]
    last = np.searchsorted(starts, text * shift + end_char, side="left") - 1 - tokens.pointer[text]
    return first, last


def _kind(character: str) -> int:
    if character.isspace():
        return SPACE
    category = unicodedata.category(character)
    if category[0] == "M":
        return MARK
    # BERT drops U+FFFD and all of C: controls, formats (zero-width), private use, unassigned.
    return UNSEEN if category[0] == "C" or character == "\ufffd" else 0


def _take_marks(kinds: NDArray[np.int8], starts: Ints, ends: Ints) -> Ints:
    """Return ends moved past the combining marks that no token covers.

    In ``kinds``, covered characters become plain, and marks that are still not covered become
    `UNSEEN`.
    """
    kinds[_covered(starts, ends, len(kinds)) & (kinds >= MARK)] = 0
    after = np.minimum.accumulate(np.where(kinds != MARK, np.arange(len(kinds)), len(kinds))[::-1])[::-1]
    ends = np.where(ends > starts, after[ends], ends)
    marks = kinds == MARK
    kinds[marks] = np.where(_covered(starts, ends, len(kinds))[marks], 0, UNSEEN)
    return ends


def _covered(starts: Ints, ends: Ints, size: int) -> NDArray[np.bool_]:
    """Say for every character whether a token covers it: more tokens begin than end up to there."""
    opened, closed = np.bincount(starts, minlength=size), np.bincount(ends, minlength=size)
    covered: NDArray[np.bool_] = np.cumsum(opened[:size] - closed[:size]) > 0
    return covered


def _visible(kinds: NDArray[np.int8], text_pointer: Ints) -> tuple[Ints, Ints]:
    """Return, for every place, the next visible character and one past the previous one, both within the text."""
    places = np.arange(len(kinds))
    seen = kinds == 0
    ahead = np.minimum.accumulate(np.where(seen, places, len(kinds))[::-1])[::-1]
    begin = np.repeat(text_pointer[:-1], np.diff(text_pointer))
    past = np.maximum.accumulate(np.where(seen, places + 1, 0))
    behind = np.concatenate([[0], past[:-1]]) if len(past) else past
    return ahead, np.maximum(behind, begin)


def has_surrogate(text: str) -> bool:
    """Say whether a text holds half of a surrogate pair, which cannot be encoded as UTF-8.

    >>> has_surrogate("pier \\ud83d"), has_surrogate("pier \\U0001f6a2")
    (True, False)
    """
    return _SURROGATE.search(text) is not None


def pointer_of(lengths: Sequence[int]) -> Ints:
    """Return where rows of these lengths begin in one array, and its end.

    >>> pointer_of([2, 0, 3]).tolist()
    [0, 2, 2, 5]
    """
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int64)
