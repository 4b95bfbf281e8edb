"""A JSON array of objects, read element by element: never the whole of it in memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from json import JSONDecodeError
from typing import Any

from finetune.data.readers.strict_json import Strict, explain, finding
from finetune.data.readers.text import LONGEST, too_long
from finetune.interfaces import Finding, Reader, Row

_SPACE = re.compile(r"[ \t\n\r]*")
_LEAST = 1 << 16
"""Characters added to the buffer at least."""
_MARGIN = 16
"""An error this near to the buffer's end may be a cut escape, number or literal."""


class JsonArrayReader(Reader):
    """A JSON array of objects; what breaks its syntax stops, what makes one object bad is a finding of its row."""

    suffixes = (".json",)

    def recognises(self, head: str) -> bool:
        """Say whether the file begins as an array."""
        return head.lstrip().startswith("[")

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield the elements, each with the line on which it begins."""
        buffer = _Buffer(text, file=file)
        begin = buffer.peek()
        if begin and begin != "[":
            message = f"the file begins with {begin!r}, an array of objects with '['"
            yield _error(buffer.line, "not-an-array", message, fix="One object a line is dataset.format: jsonl.")
        if begin != "[":
            return  # where there is nothing, the core says that there are no rows
        buffer.skip()
        more = buffer.peek() != "]"
        if not more:
            buffer.skip()
        while more:
            line = buffer.line
            try:
                value, problems = buffer.element()
            except JSONDecodeError as error:
                yield _broken(error, buffer, begun=line)
                return
            if problems:
                yield finding(problems[0], line=line)
            elif type(value) is dict:
                yield line, value
            else:
                message = "an element must be an object: {column: value, …}"
                yield Finding(code="not-an-object", message=message, line=line, value=str(value))
            wrong, more = buffer.between()
            if wrong:
                yield wrong
                return
        if left := buffer.peek():
            yield _error(buffer.line, "text-after-end", f"{left!r} follows the end of the array")


class _Buffer:
    """The text not yet decoded, and the line it stands on."""

    def __init__(self, text: Iterable[str], *, file: str) -> None:
        self.line = 1
        self.file = file
        self._pieces = iter(text)
        self._text = ""
        self._position = 0
        self._ended = False
        self._strict = Strict()

    def peek(self) -> str:
        """Skip white space and return the next character; nothing at the end."""
        while True:
            self._advance(_SPACE.match(self._text, self._position).end())  # type: ignore[union-attr]
            if self._position < len(self._text) or not self._more():
                return self._text[self._position : self._position + 1]

    def skip(self) -> None:
        """Go one character on."""
        self._advance(self._position + 1)

    def element(self) -> tuple[Any, Sequence[tuple[str, str]]]:
        """Return the next value and its problems; more text is read until it is whole.

        Raises:
            JSONDecodeError: It is not JSON, or the file ends inside it.
        """
        self.peek()
        while True:
            try:
                value, end, problems = self._strict.decode(self._text, self._position)
                if end + _MARGIN <= len(self._text) or not self._more():  # else 12 may be the begin of 123
                    self._advance(end)
                    return value, problems
            except JSONDecodeError as error:
                cut = error.pos + _MARGIN >= len(self._text) or error.msg.startswith("Unterminated string")
                if not (cut and self._more()):
                    raise

    def between(self) -> tuple[Finding | None, bool]:
        """Go over what follows an element: what is wrong there, and whether another element follows."""
        line, follows = self.line, self.peek()
        if follows == ",":
            line = self.line
            self.skip()
            if self.peek() == "]":
                return _error(line, "bad-json", "trailing comma before the end of the array", fix="Remove it."), False
            return None, True
        if follows == "]":
            self.skip()
            return None, False
        if not follows:
            return _error(self.line, "truncated-json", "the file ends before the array does", fix="Is it cut?"), False
        return _error(self.line, "bad-json", f"{follows!r} where a comma must part two elements"), False

    def line_at(self, position: int) -> int:
        """Return the line of a position in the buffer."""
        return self.line + self._text.count("\n", self._position, position)

    def _advance(self, position: int) -> None:
        self.line += self._text.count("\n", self._position, position)
        self._position = position

    def _more(self) -> bool:
        """Add text to the buffer, as much again as is left, so that no element is decoded too often."""
        if self._ended:
            return False
        left = self._text[self._position :]
        if len(left) > LONGEST:
            raise too_long(file=self.file, line=self.line, what="element")
        parts, size, wanted = [left], 0, max(_LEAST, len(left))
        while size < wanted and not self._ended:
            piece = next(self._pieces, None)
            self._ended = piece is None
            parts.append(piece or "")
            size += len(parts[-1])
        if size:
            self._text, self._position = "".join(parts), 0
        return size > 0


def _broken(error: JSONDecodeError, buffer: _Buffer, *, begun: int) -> Finding:
    what, fix = explain(error)
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
        return _error(
            buffer.line_at(len(error.doc.rstrip())),
            "truncated-json",
            f"the file ends inside the element that begins on line {begun}",
            fix="Is it cut?",
        )
    return _error(
        buffer.line_at(error.pos), "bad-json", what, fix=fix, value=error.doc[max(0, error.pos - 30) : error.pos + 50]
    )


def _error(line: int, code: str, message: str, *, fix: str = "", value: str | None = None) -> Finding:
    return Finding(code=code, message=message, fix=fix, level="error", line=line, value=value)
