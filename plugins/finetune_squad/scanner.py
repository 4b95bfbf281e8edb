"""A strict JSON reader that works piece by piece and gives every object its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from json import decoder
from typing import Any

_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z]+")
_SCALAR_END = re.compile(r"[\s,:\]}]")
_WORDS = {"true": True, "false": False, "null": None}
DEEPEST = 64
"""Levels of nesting; SQuAD files have 8."""
AHEAD = 1024 * 1024
"""Characters that are read before the fast way to parse a whole object is tried."""
LONGEST = 64 * 1024 * 1024
"""Longest text, in characters, that may be pending: one string or number."""


class JsonError(Exception):
    """Text that is not strict JSON."""

    def __init__(self, message: str, *, line: int, path: str, fix: str, value: str | None) -> None:
        super().__init__(message)
        self.message, self.line, self.path, self.fix, self.value = message, line, path, fix, value


class Located(dict[str, Any]):
    """A JSON object with the line of its opening brace."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line


class Scanner:
    """Reads one JSON text from pieces of any size; holds only the current value in memory.

    Examples:
        >>> scanner = Scanner(['{"data"', ': [{"a": 1},\\n {"a"', ": 2}]}"])
        >>> for key in scanner.members(path=""):
        ...     for number in scanner.elements(path=key):
        ...         value = scanner.value(path=f"{key}[{number}]")
        ...         print(number, value, "line", value.line)
        0 {'a': 1} line 1
        1 {'a': 2} line 2
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = iter(pieces)
        self._text, self._place, self.line = "", 0, 1
        self._decoder = json.JSONDecoder(object_pairs_hook=self._located, parse_constant=_refuse)
        if self._more() and self._text[0] == "\ufeff":
            self._place = 1

    def members(self, *, path: str) -> Iterator[str]:
        """Yield the keys of the next object; after each key, the caller must take its value."""
        self._expect("{", path=path)
        seen: set[str] = set()
        while self._another("}", path=path, first=not seen):
            if self.peek() != '"':
                raise self.error("a key must be text in double quotes", path=path, fix='Write "key": value.')
            key = self._string(path=path)
            if key in seen:
                raise self.error(f"the key {key!r} is here a second time", path=path, fix="Remove one of them.")
            seen.add(key)
            self._expect(":", path=path)
            yield key

    def elements(self, *, path: str) -> Iterator[int]:
        """Yield the index of every element of the next list; after each index, the caller must call `value`."""
        self._expect("[", path=path)
        number = 0
        while self._another("]", path=path, first=not number):
            yield number
            number += 1

    def value(self, *, path: str, depth: int = 0) -> Any:
        """Return the next value; objects are `Located`.

        Args:
            path: Its path in the file, for messages.
            depth: How many values it is nested in.
        """
        if depth > DEEPEST:
            raise self.error(f"nested more than {DEEPEST} deep", path=path, fix="A SQuAD file is 8 deep.")
        character = self.peek()
        if character == "{":
            found = self._at_once() if depth == 0 else None
            if found is not None:
                return found
            found = Located(self.line)
            for key in self.members(path=path):
                found[key] = self.value(path=f"{path}.{key}" if path else key, depth=depth + 1)
            return found
        if character == "[":
            values = []
            for number in self.elements(path=path):
                values.append(self.value(path=f"{path}[{number}]", depth=depth + 1))
            return values
        if character == '"':
            return self._string(path=path)
        return self._scalar(path=path)

    def peek(self) -> str:
        """Return the next character that is not white space; ``""`` at the end."""
        while True:
            space = _SPACE.match(self._text, self._place)
            end = space.end() if space else self._place
            self.line += self._text.count("\n", self._place, end)
            self._place = end
            if end < len(self._text):
                return self._text[end]
            if not self._more():
                return ""

    def end(self) -> None:
        """Refuse anything but white space after the value."""
        if self.peek():
            raise self.error("there is more after the end of the value", path="", fix="Keep one JSON value per file.")

    def error(self, message: str, *, path: str, fix: str) -> JsonError:
        """Return the error for the next character; at the end of the text, the error that the file was cut off."""
        if not self.peek():
            message, fix = f"the file ends inside {path or 'its value'}", "It was cut off: get it again."
        return self.error_here(message, path=path, fix=fix)

    def error_here(self, message: str, *, path: str, fix: str) -> JsonError:
        """Return an error with the current line and text."""
        value = self._text[self._place : self._place + 80] or None
        return JsonError(message, line=self.line, path=path, fix=fix, value=value)

    def _at_once(self) -> Located | None:
        """Return the next object in the fast way, or None.

        That way is `json`'s own decoder. It works for valid objects on one line, as in the official
        files.
        """
        while len(self._text) - self._place < AHEAD and self._more():
            pass
        try:
            found, end = self._decoder.raw_decode(self._text, self._place)
        except (ValueError, RecursionError):
            return None  # incomplete so far, or not valid: the slow way finds out which
        if self._text.find("\n", self._place, end) >= 0:
            return None
        self._place = end
        return found if isinstance(found, Located) else None

    def _located(self, pairs: list[tuple[str, Any]]) -> Located:
        found = Located(self.line)
        found.update(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key is there twice")
        return found

    def _another(self, closing: str, *, path: str, first: bool) -> bool:
        character = self.peek()
        if character == closing:
            self._place += 1
            return False
        if first:
            return True
        if character != ",":
            raise self.error(f"expected a comma or {closing} here", path=path, fix="Add it.")
        self._place += 1
        if self.peek() == closing:
            raise self.error(f"trailing comma before {closing}", path=path, fix="Remove the comma.")
        return True

    def _expect(self, character: str, *, path: str) -> None:
        if self.peek() != character:
            raise self.error(f"expected {character} here", path=path, fix="Add it.")
        self._place += 1

    def _string(self, *, path: str) -> str:
        while True:
            try:
                found: tuple[str, int] = decoder.scanstring(self._text, self._place + 1, True)  # type: ignore[attr-defined]
                self._place = found[1]
                return found[0]
            except json.JSONDecodeError as error:
                # An error at the end of the pending text may only mean that the rest is not read yet.
                is_incomplete = error.msg.startswith("Unterminated") or error.pos > len(self._text) - 12
                if not (is_incomplete and self._more()):
                    raise self._bad_string(error, path=path) from error

    def _bad_string(self, error: json.JSONDecodeError, *, path: str) -> JsonError:
        if error.msg.startswith("Unterminated"):
            message = f"text without an end in {path or 'the file'}"
            fix = "A quote is missing, or the file was cut off."
            return JsonError(message, line=self.line, path=path, fix=fix, value=None)
        value = self._text[max(error.pos - 20, 0) : error.pos + 20]
        fix = "Escape line ends and other controls (\\n), and backslashes (\\\\)."
        return JsonError(f"{error.msg[0].lower()}{error.msg[1:]}", line=self.line, path=path, fix=fix, value=value)

    def _scalar(self, *, path: str) -> Any:
        while not _SCALAR_END.search(self._text, self._place) and self._more():
            pass
        word = _WORD.match(self._text, self._place)
        if word and word.group() in _WORDS:
            self._place = word.end()
            return _WORDS[word.group()]
        number = _NUMBER.match(self._text, self._place)
        if not number:
            raise self.error("this is not a JSON value", path=path, fix="Text needs double quotes; NaN is not allowed.")
        if number.end() - self._place > 40:
            raise self.error("a number of more than 40 digits", path=path, fix="Write it as text, in double quotes.")
        self._place = number.end()
        return float(number.group()) if number.group(1) or number.group(2) else int(number.group())

    def _more(self) -> bool:
        """Read another piece, and forget what was parsed; return whether there was one."""
        if len(self._text) - self._place > LONGEST:
            return False
        # A string that spans pieces is scanned again each time: the pieces grow with the pending text, so that the
        # time stays linear.
        wanted, taken = max(len(self._text) - self._place, 1), []
        for piece in self._pieces:
            taken.append(piece)
            wanted -= len(piece)
            if wanted <= 0:
                break
        self._text = self._text[self._place :] + "".join(taken)
        self._place = 0
        return any(taken)


def _refuse(constant: str) -> Any:
    raise ValueError(constant)  # NaN and Infinity are not JSON
