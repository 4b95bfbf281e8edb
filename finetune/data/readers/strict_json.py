"""JSON without what the standard decoder lets pass: duplicate keys, NaN, numbers that lose digits."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from json import JSONDecodeError
from typing import Any

from finetune.interfaces import Finding


class Strict:
    """A decoder that goes on where it can, and then says what was wrong.

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
        """Return the value that begins at ``position``, where it ends, and the problems: code and what stood there.

        Raises:
            JSONDecodeError: It is not JSON.
        """
        if self._problems:
            self._problems = []
        try:
            value, end = self._decoder.raw_decode(text, position)
        except RecursionError as error:
            raise JSONDecodeError("nested too deeply", text, position) from error
        return value, end, self._problems

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            seen: set[str] = set()
            self._problems.extend(("duplicate-key", key) for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
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


_MESSAGES = {
    "duplicate-key": ("the key {!r} stands here twice", "Keep one of them."),
    "not-a-number": ("{} is not JSON", "Write null, or leave the row out."),
    "number-too-large": ("the number {} does not fit into 64 bits", "Quote it as text."),
}


def finding(problem: tuple[str, str], *, line: int) -> Finding:
    """Return a problem that `Strict` met as a finding."""
    code, what = problem
    message, fix = _MESSAGES[code]
    column = what if code == "duplicate-key" else None
    return Finding(code=code, message=message.format(what[:40]), fix=fix, line=line, column=column, value=what)


def explain(error: JSONDecodeError) -> tuple[str, str]:
    """Say what is wrong with text that is not JSON, and what to do about it.

    >>> explain(JSONDecodeError("Expecting property name enclosed in double quotes", '{"a": 1,}', 8))
    ('trailing comma', 'Remove the comma.')
    """
    text, position = error.doc, error.pos
    here = text[position : position + 1]
    before = text[max(0, position - 100) : position].rstrip()
    if (here and here in "}]" and before.endswith(",")) or (
        error.msg == "Extra data" and not text[position:].strip(", \r\n")
    ):
        return "trailing comma", "Remove the comma."
    if here == "," and error.msg.startswith("Illegal trailing comma"):
        return "trailing comma", "Remove the comma."
    if here == "'":
        return "single quotes", "JSON wants double quotes; write the file with json.dumps."
    for python, word in (("True", "true"), ("False", "false"), ("None", "null")):
        if text.startswith(python, position):
            return f"Python's {python}", f"JSON writes {word}; write the file with json.dumps."
    if position >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"it ends too early ({error.msg})", "Is the file cut?"
    if error.msg.startswith("Invalid control character"):
        return "a raw control character inside a string", "Escape it: \\n, \\t, \\u0000."
    return error.msg[:1].lower() + error.msg[1:], ""
