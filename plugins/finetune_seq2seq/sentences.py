"""Texts → sentences and turns, by own rules: nothing is downloaded."""

from __future__ import annotations

import re

_BREAK = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+(?=[\"'“‘«(\[¿¡#]*[^\W_a-z])|(?<=[。！？])|\n+")
"""After an end mark and space, before anything but a lower-case letter; after an end mark of
Chinese or Japanese; at the end of a line."""
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“‘])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Gen|Col|Capt|Sen|Rep|Gov|vs|cf|e\.g|i\.e)\.$"
)
"""What ends with a point and does not end a sentence, initials included."""
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
        sentence = text[start : gap.start()]
        closing_quotes = gap[0].strip()
        if _ABBREVIATION.search(sentence) and "\n" not in gap[0]:
            continue
        found.append((sentence + closing_quotes).strip())
        start = gap.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if sentence]


def turns(text: str) -> list[str]:
    """Return the turns of a dialogue, or an empty list if the text is not a dialogue.

    >>> turns("#Person1#: Is the ferry late?\\n#Person2#: It is.")
    ['#Person1#: Is the ferry late?', '#Person2#: It is.']
    """
    lines = []
    with_speaker = 0
    for line in map(str.strip, text.splitlines()):
        if line:
            lines.append(line)
            with_speaker += _TURN.match(line) is not None
    is_dialogue = len(lines) > 1 and with_speaker >= TURNS * len(lines)
    return lines if is_dialogue else []
