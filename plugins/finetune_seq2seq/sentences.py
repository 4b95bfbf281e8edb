"""Texts → sentences and turns, by rules of our own: nothing is downloaded."""

from __future__ import annotations

import re

_BREAK = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+(?=[\"'“‘«(\[¿¡#]*[^\W_a-z])|(?<=[。！？])|\n+")
"""After an end mark and space, before what is no lower-case letter; after an end mark of Chinese or Japanese; at
the end of a line."""
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“‘])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Gen|Col|Capt|Sen|Rep|Gov|vs|cf|e\.g|i\.e)\.$"
)
"""What ends with a point and ends no sentence, initials included."""
_TURN = re.compile(r"\S[^:\n]{0,40}:\s+\S")
TURNS = 0.8
"""Share of lines that begin with a speaker, from which on a text is a dialogue."""


def sentences(text: str) -> list[str]:
    """Split a text into sentences.

    >>> sentences('Mr. Moss rowed in. "Fog!" he said. It cost 4.50 crowns, i.e. too much.')
    ['Mr. Moss rowed in.', '"Fog!" he said.', 'It cost 4.50 crowns, i.e. too much.']
    """
    found: list[str] = []
    start = 0
    for gap in _BREAK.finditer(text):
        piece = text[start : gap.start()]
        quotes = text[gap.start() : gap.end()].strip()
        if _ABBREVIATION.search(piece) and "\n" not in gap[0]:
            continue
        found.append((piece + quotes).strip())
        start = gap.end()
    return [piece for piece in (*found, text[start:].strip()) if piece]


def turns(text: str) -> list[str]:
    """Return the turns of a dialogue, or nothing where a text is none.

    >>> turns("#Person1#: Is the ferry late?\\n#Person2#: It is.")
    ['#Person1#: Is the ferry late?', '#Person2#: It is.']
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    spoken = sum(_TURN.match(line) is not None for line in lines)
    return lines if len(lines) > 1 and spoken >= TURNS * len(lines) else []
