"""Strict JSON: duplicate keys, NaN and numbers that lose digits, which the standard decoder accepts, are errors."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from json import JSONDecodeError
from typing import Any

from finetune.interfaces import Finding

MOST_LEVELS = 500
"""Most lists and objects inside each other that are decoded; Python's own functions fail at about 1,000."""

_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]')


class Strict:
    """A decoder that decodes as far as it can, and returns the problems with the value.

    >>> Strict().decode('{"a": 1, "a": NaN}', 0)
    ({'a': nan}, 18, [('not-a-number', 'NaN'), ('duplicate-key', 'a')])
    """

    def __init__(self) -> None:
        self._problems: list[tuple[str, str]] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_int=self._integer,
            parse_float=self._float,
            parse_constant=self._constant,
        )

    def decode(self, text: str, position: int) -> tuple[Any, int, Sequence[tuple[str, str]]]:
        """Return the value that begins at ``position``, its end, and its problems as pairs of a code and a text.

        Raises:
            JSONDecodeError: The text is not JSON.
        """
        if self._problems:
            self._problems = []
        try:
            value, end = self._decoder.raw_decode(text, position)
        except RecursionError as error:
            raise JSONDecodeError("the value is nested too deeply", text, position) from error
        opened = text.count("[", position, end) + text.count("{", position, end)
        if opened > MOST_LEVELS and _levels(text, position, end) > MOST_LEVELS:
            raise JSONDecodeError("the value is nested too deeply", text, position)
        return value, end, self._problems

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self._problems.append(("duplicate-key", key))
                seen.add(key)
        return value

    def _integer(self, text: str) -> int:
        if len(text) < 19:
            return int(text)
        if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
            self._problems.append(("number-too-large", text))
            return 0
        return int(text)

    def _float(self, text: str) -> float:
        value = float(text)
        if math.isinf(value):
            self._problems.append(("number-too-large", text))
        return value

    def _constant(self, text: str) -> float:
        self._problems.append(("not-a-number", text))
        return float(text)


def _levels(text: str, position: int, end: int) -> int:
    """Return how many lists and objects of a JSON value are inside each other.

    >>> text = '{"a": [[1], "]]"]}'
    >>> _levels(text, 0, len(text))
    3
    """
    level = deepest = 0
    for found in _BRACKETS.finditer(text, position, end):
        first = found[0][0]
        if first in "[{":
            level += 1
            deepest = max(deepest, level)
        elif first in "]}":
            level -= 1
    return deepest


_MESSAGES = {
    "duplicate-key": ("the object has the key {!r} twice.", "Keep one of them."),
    "not-a-number": ("{} is not allowed in JSON.", "Write null, or remove the row."),
    "number-too-large": ("the number {} does not fit into 64 bits.", "Write it as text, in quotes."),
}


def finding(problem: tuple[str, str], *, line: int) -> Finding:
    """Return the finding for a problem of `Strict.decode`."""
    code, what = problem
    message, fix = _MESSAGES[code]
    column = what if code == "duplicate-key" else None
    return Finding(code=code, message=message.format(what[:40]), fix=fix, line=line, column=column, value=what)


def explain(error: JSONDecodeError) -> tuple[str, str]:
    """Return what is wrong with text that is not JSON, and what to do.

    >>> explain(JSONDecodeError("Expecting property name enclosed in double quotes", '{"a": 1,}', 8))
    ('there is a comma before the end.', 'Remove the comma.')
    """
    text, position = error.doc, error.pos
    here = text[position : position + 1]
    before = text[max(0, position - 100) : position].rstrip()
    closes_after_comma = bool(here) and here in "}]" and before.endswith(",")
    ends_in_commas = error.msg == "Extra data" and not text[position:].strip(", \r\n")
    # Python 3.13 has its own message for it.
    if closes_after_comma or ends_in_commas or (here == "," and error.msg.startswith("Illegal trailing comma")):
        return "there is a comma before the end.", "Remove the comma."
    if here == "'":
        return "a text is in single quotes.", "JSON needs double quotes. Write the file with json.dumps."
    for python, word in (("True", "true"), ("False", "false"), ("None", "null")):
        if text.startswith(python, position):
            return f"{python} is Python, not JSON.", f"JSON has {word}. Write the file with json.dumps."
    if position >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"the text ends too early ({error.msg}).", "Check whether the file was cut when it was copied."
    if error.msg.startswith("Invalid control character"):
        return "a string contains an unescaped control character.", "Escape it: \\n, \\t, \\u0000."
    return f"{error.msg[:1].lower()}{error.msg[1:]}.", ""
