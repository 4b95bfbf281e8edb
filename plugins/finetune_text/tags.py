"""Tag schemes: what a tag says, what is wrong with a row of tags, and which entities it marks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Literal, NamedTuple

Scheme = Literal["BIO", "BILOU", "none"]
"""How tags mark entities of several words; `BILOU` may be spelt BIOES, `none` means that every word stands alone."""

OUTSIDE = "O"
NO_TYPE = "_"
"""Type of an entity whose tags name none: ``B`` alone."""
_LETTERS = {"B": "B", "I": "I", "L": "L", "E": "L", "U": "U", "S": "U"}
_TAG = re.compile(r"([BILUES])(?:-(.+))?", re.DOTALL)


class Entity(NamedTuple):
    """One entity, by its type and the words that it begins and ends with, both inside it."""

    type: str
    first_word: int
    last_word: int


@cache
def parsed(tag: str | None) -> tuple[str, str]:
    """Return the letter of a tag, as BILOU spells it, and its type; what is no tag is outside.

    >>> parsed("B-PER"), parsed("E-SHIP"), parsed("I"), parsed("O"), parsed(None)
    (('B', 'PER'), ('L', 'SHIP'), ('I', '_'), ('O', '_'), ('O', '_'))
    """
    match = _TAG.fullmatch(tag or "")
    return (_LETTERS[match[1]], match[2] or NO_TYPE) if match else (OUTSIDE, NO_TYPE)


def scheme_of(tags: Iterable[str]) -> Scheme:
    """Return the scheme that a set of tags is written in.

    >>> scheme_of(["O", "B-PER", "I-PER"]), scheme_of(["O", "S-PER", "B-PER", "E-PER"]), scheme_of(["NOUN", "VERB"])
    ('BIO', 'BILOU', 'none')
    """
    tags = set(tags)
    marks = tags - {OUTSIDE}
    # Letters alone are a scheme only beside O: S, B and I may be parts of speech.
    typed = OUTSIDE in tags or all("-" in tag for tag in marks)
    if not marks or not typed or not all(_TAG.fullmatch(tag) for tag in marks):
        return "none"
    return "BIO" if {tag[0] for tag in marks} <= {"B", "I"} else "BILOU"


def belongs(tag: str, scheme: Scheme) -> bool:
    """Say whether a tag can be written in a scheme.

    >>> belongs("L-PER", "BILOU"), belongs("L-PER", "BIO"), belongs("PER", "BIO"), belongs("PER", "none")
    (True, False, False, True)
    """
    if scheme == "none" or tag == OUTSIDE:
        return True
    return _TAG.fullmatch(tag) is not None and (scheme == "BILOU" or tag[0] in "BI")


def problems(tags: Sequence[str], scheme: Scheme) -> Iterator[tuple[int, str]]:
    """Yield where a row of tags breaks its scheme, and how.

    >>> list(problems(["O", "I-PER", "I-SHIP"], "BIO"))
    [(1, "'I-PER' follows 'O'"), (2, "'I-SHIP' follows 'I-PER'")]
    >>> list(problems(["B-PER", "O", "L-PER"], "BILOU"))
    [(1, "'O' follows 'B-PER', which is not closed"), (2, "'L-PER' follows 'O'")]
    >>> list(problems(["U-PER", "B-PER"], "BILOU"))
    [(1, "'B-PER' is the last word, and not closed")]
    """
    if scheme == "none":
        return
    before, opened = "", ""
    for position, tag in enumerate(tags):
        letter, kind = parsed(tag)
        goes_on = letter in "IL"
        if goes_on and kind != opened:
            yield position, f"{tag!r} follows {before!r}" if position else f"{tag!r} is the first word"
        elif scheme == "BILOU" and opened and not goes_on:
            yield position, f"{tag!r} follows {before!r}, which is not closed"
        before, opened = tag, kind if letter in "BI" else ""
    if scheme == "BILOU" and opened:
        yield len(tags) - 1, f"{before!r} is the last word, and not closed"


def entities(tags: Sequence[str | None]) -> list[Entity]:
    """Return the entities that a row of tags marks, whether it keeps its scheme or not.

    An entity begins where a tag says so (B, U), and also where one goes on (I, L) that nothing of its type has begun.

    >>> entities(["B-PER", "I-PER", "O", "I-SHIP", "L-SHIP", "I-SHIP", "U-PER"])
    [Entity(type='PER', first_word=0, last_word=1), Entity(type='SHIP', first_word=3, last_word=4),
     Entity(type='SHIP', first_word=5, last_word=5), Entity(type='PER', first_word=6, last_word=6)]

    Source: ``startOfChunk`` and ``endOfChunk`` of conlleval (Tjong Kim Sang and Buchholz 2000), which seqeval ports.
    """
    found: list[Entity] = []
    first, last_letter, last_kind = None, OUTSIDE, NO_TYPE
    for position, tag in enumerate([*tags, None]):
        letter, kind = parsed(tag)
        begins = letter != OUTSIDE and (letter in "BU" or last_letter in "OLU" or kind != last_kind)
        if first is not None and (begins or letter == OUTSIDE):
            found.append(Entity(last_kind, first, position - 1))
            first = None
        if begins:
            first = position
        last_letter, last_kind = letter, kind
    return found


def inside(tag: str, scheme: Scheme) -> str:
    """Return the tag of what follows inside the same word.

    >>> inside("B-PER", "BIO"), inside("U-PER", "BILOU"), inside("O", "BIO"), inside("NOUN", "none")
    ('I-PER', 'I-PER', 'O', 'NOUN')
    """
    return tag if scheme == "none" or tag == OUTSIDE else f"I{tag[1:]}"
