"""A JSON array of objects, read element by element in bounded memory.

Why not ijson: it does not give line numbers, and here every row has its line. It is faster:
measured 2026-11-26 with ijson 3.6.0 (yajl2_c) on 200 MB and 229,255 rows, it took 2.7 s and this
reader 4.2 s, both with less than 7 MB. But it keeps the last value of a repeated key and replaces a
lone surrogate by "?", both without a message. It stops at the first NaN or number over 64 bits,
while this reader reports the row and continues. Its memory grows with the square of the nesting
depth: 40 kB of brackets took 969 MB.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from json import JSONDecodeError
from typing import Any

from finetune.data.readers import json_shapes
from finetune.data.readers.strict_json import Strict, explain, finding
from finetune.data.readers.text import LONGEST, too_long
from finetune.interfaces import Finding, Reader, ReadRow, Row

_SPACE = re.compile(r"[ \t\n\r]*")
_ARRAY = re.compile(r"\[[ \t\n\r]*")
_LEAST = 1 << 16
"""Fewest characters that are added to the buffer at one time."""
_IS_IT_CUT = "Check whether the file was cut when it was copied."
_MARGIN = 16
"""An error within this distance of the buffer's end may be an escape, number or literal that is cut
there."""


class JsonArrayReader(Reader):
    """Reads the objects of a JSON array: the whole file, the list under a key, or the values of one object.

    A syntax error ends the reading; a bad object is a finding of its row. The last two are what
    pandas writes with ``orient="table"`` and ``orient="index"``; a warning says where the rows are.
    Shapes without objects as rows are refused by name.

    Args:
        from_list: Makes a row of an element that is a list; such elements are refused by default.
    """

    suffixes = (".json",)

    def __init__(self, *, from_list: Callable[[list[Any]], Row] | None = None) -> None:
        self._from_list = from_list

    def recognises(self, head: str) -> bool:
        """Return whether the file begins as an array or as an object."""
        return head.lstrip()[:1] in {"[", "{"}

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[ReadRow | Finding]:
        """Yield the rows, each with the line where it begins, and with its path if it shares that line."""
        buffer = _Buffer(text, file=file)
        begin = buffer.peek()
        if not begin:
            return  # the core reports a file without rows
        if begin not in "[{":
            message = f"the file begins with {begin!r}, but an array of objects begins with '['."
            yield _error(buffer.line, "not-an-array", message, fix="Check that it is the right file.")
            return
        is_whole = yield from self._read(buffer, begin)
        if is_whole and (left := buffer.peek()):
            what = "array" if begin == "[" else "object"
            fix = f"Remove everything after the closing {']' if begin == '[' else '}'!r}."
            if begin == left == "{":
                fix = "If the file has one object per line, set dataset.format: jsonl."
            yield _error(buffer.line, "text-after-end", f"{left!r} follows the end of the {what}.", fix=fix)

    def _read(self, buffer: _Buffer, begin: str) -> Generator[ReadRow | Finding, None, bool]:
        if begin == "[":
            return (yield from _elements(buffer, self._from_list))
        return (yield from _object(buffer, self._from_list))


_FromList = Callable[[list[Any]], Row] | None


def _elements(buffer: _Buffer, from_list: _FromList, *, key: str = "") -> Generator[ReadRow | Finding, None, bool]:
    """Yield the elements of an array, under a key of an object, as rows; return whether the array is whole."""
    before = buffer.line
    buffer.skip()
    number, more = 0, buffer.peek() != "]"
    if not more:
        buffer.skip()
    while more:
        line = buffer.line
        path = f"{key}[{number}]" if line == before else None
        number, before = number + 1, line
        try:
            value, problems = buffer.element()
        except JSONDecodeError as error:
            yield _broken(error, buffer, begun=line)
            return False
        if type(value) is list and from_list is not None:
            value = from_list(value)
        if type(value) is list:
            what = 'a list of lists without column names, as pandas to_json writes it with orient="values"'
            yield json_shapes.no_rows(what, line=line)
            return False
        yield _row(value, problems, line=line, path=path)
        buffer.elements += 1
        wrong, more = buffer.between("]")
        if wrong:
            yield wrong
            return False
    return True


def _row(value: Any, problems: Sequence[tuple[str, str]], *, line: int, path: str | None = None) -> ReadRow | Finding:
    if problems:
        return replace(finding(problems[0], line=line), path=path)
    if type(value) is dict:
        return (line, value) if path is None else (line, value, path)
    message = "an element must be an object: {column: value, …}."
    return Finding(code="not-an-object", message=message, line=line, path=path, value=str(value))


def _object(buffer: _Buffer, from_list: _FromList) -> Generator[ReadRow | Finding, None, bool]:
    """Yield the rows of an object: the list under one of its keys, or all of its values; return whether it is whole."""
    begun = buffer.line
    others: dict[str, Any] = {}
    waiting: list[ReadRow | Finding] = []
    rows_at: str | None = None
    count = 0
    by_key = False
    before = begun
    try:
        for key in buffer.members():
            if buffer.opens("{" if from_list is None else "{["):
                if by_key or rows_at is not None:
                    message = f"one object with several lists of rows, such as {key!r}"
                    yield json_shapes.no_rows(message, line=buffer.line, fix="Write each list as a file of its own.")
                    return False
                rows_at = key
                start = buffer.elements
                if not (yield from _elements(buffer, from_list, key=key)):
                    return False
                count = buffer.elements - start
                continue
            line = buffer.line
            path = f"[{key!r}]" if line == before else None
            before = line
            value, problems = buffer.element()
            if by_key:
                yield _row(value, problems, line=line, path=path)
                continue
            others[key] = value
            waiting.append(_row(value, problems, line=line, path=path))
            by_key = rows_at is None and len(others) > 1 and _are_rows(others)
            if by_key:
                yield from waiting
    except JSONDecodeError as error:
        yield _broken(error, buffer, begun=begun)
        return False
    except _SyntaxError as error:
        yield error.finding
        return False
    if rows_at is not None and any(isinstance(value, list) and len(value) == count > 1 for value in others.values()):
        yield json_shapes.no_rows("one object of columns, with a list for each", line=begun)
        return False
    if rows_at is not None:
        unread = f" The keys {json_shapes.listed(others)} are not read." if others else ""
        yield json_shapes.stated(f"the rows are the list under the key {rows_at!r}.{unread}", line=begun)
    elif by_key:
        message = f"the rows are the values of one object. Its keys, such as {next(iter(others))!r}, are not read."
        yield json_shapes.stated(message, line=begun)
    else:
        yield _without_rows(others, buffer, begun=begun)
        return False
    return True


def _are_rows(values: Mapping[str, Any]) -> bool:
    """Return whether the first values of an object are rows, and not columns."""
    return all(type(value) is dict for value in values.values()) and not json_shapes.by_column(values)


def _without_rows(value: Mapping[str, Any], buffer: _Buffer, *, begun: int) -> Finding:
    shape = json_shapes.by_column(value)
    if shape:
        return json_shapes.no_rows(shape, line=begun)
    if buffer.peek() == "{":
        message = "the file looks like JSON lines: it has several objects, but no list around them."
        fix = "If it has one object per line, set dataset.format: jsonl."
        return _error(begun, "not-an-array", message, fix=fix)
    return json_shapes.no_rows(
        f"one object with the keys {json_shapes.listed(value)}, without a list of rows", line=begun
    )


class _SyntaxError(Exception):
    """A syntax error between two members of an object."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class _Buffer:
    """The text that is not yet decoded, and its line number."""

    def __init__(self, text: Iterable[str], *, file: str) -> None:
        self.line = 1
        self.file = file
        self.elements = 0
        """Elements of arrays so far."""
        self._pieces = iter(text)
        self._text = ""
        self._position = 0
        self._ended = False
        self._strict = Strict()

    def peek(self) -> str:
        """Skip white space and return the next character; an empty text at the end."""
        while True:
            self._advance(_SPACE.match(self._text, self._position).end())  # type: ignore[union-attr]
            if self._position < len(self._text) or not self._more():
                return self._text[self._position : self._position + 1]

    def skip(self) -> None:
        """Advance by one character."""
        self._advance(self._position + 1)

    def element(self) -> tuple[Any, Sequence[tuple[str, str]]]:
        """Return the next value and its problems; read more text until the value is complete.

        Raises:
            JSONDecodeError: It is not JSON, or the file ends inside it.
        """
        self.peek()
        while True:
            try:
                value, end, problems = self._strict.decode(self._text, self._position)
                if end + _MARGIN <= len(self._text) or not self._more():  # 12 at the end may be the start of 123
                    self._advance(end)
                    return value, problems
            except JSONDecodeError as error:
                cut = error.pos + _MARGIN >= len(self._text) or error.msg.startswith("Unterminated string")
                if not (cut and self._more()):
                    raise

    def members(self) -> Iterator[str]:
        """Yield the keys of the object that begins here; the caller reads the value after each.

        Raises:
            JSONDecodeError: A key is not JSON.
            _SyntaxError: The text between two members is not JSON, or a key is there twice.
        """
        seen: set[str] = set()
        self.skip()
        more = self.peek() != "}"
        if not more:
            self.skip()
        while more:
            line = self.line
            key, _ = self.element()
            if type(key) is not str or self.peek() != ":":
                fix = "A key is text in double quotes, followed by a colon."
                raise _SyntaxError(_error(line, "bad-json", f"{key!r} is not a key of an object.", fix=fix))
            if key in seen:
                raise _SyntaxError(replace(finding(("duplicate-key", key), line=line), level="error"))
            seen.add(key)
            self.skip()
            self.peek()
            yield key
            wrong, more = self.between("}")
            if wrong:
                raise _SyntaxError(wrong)

    def opens(self, marks: str) -> bool:
        """Return whether an array begins here whose first element begins with one of some marks."""
        while True:
            match = _ARRAY.match(self._text, self._position)
            if match is None:
                return False
            if match.end() < len(self._text):
                return self._text[match.end()] in marks
            if not self._more():
                return False

    def between(self, end: str) -> tuple[Finding | None, bool]:
        """Skip the text between two elements; return what is wrong there, and whether another element follows.

        Args:
            end: The bracket that closes the array or the object.
        """
        what = {"]": "array", "}": "object"}[end]
        line, follows = self.line, self.peek()
        if follows == ",":
            line = self.line
            self.skip()
            if self.peek() == end:
                message = f"there is a comma before the end of the {what}."
                return _error(line, "bad-json", message, fix="Remove the comma."), False
            return None, True
        if follows == end:
            self.skip()
            return None, False
        if not follows:
            message = f"the file ends before the {what} is closed."
            return _error(self.line, "truncated-json", message, fix=_IS_IT_CUT), False
        message = f"{follows!r} follows an element, where a comma or {end!r} is needed."
        return _error(self.line, "bad-json", message, fix="Put a comma between two elements."), False

    def line_at(self, position: int) -> int:
        """Return the line of a position in the buffer."""
        return self.line + self._text.count("\n", self._position, position)

    def _advance(self, position: int) -> None:
        self.line += self._text.count("\n", self._position, position)
        self._position = position

    def _more(self) -> bool:
        """Add at least as much text as is left in the buffer, so that a long element is decoded few times."""
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
            f"the file ends inside the element that begins on line {begun}.",
            fix=_IS_IT_CUT,
        )
    return _error(
        buffer.line_at(error.pos), "bad-json", what, fix=fix, value=error.doc[max(0, error.pos - 30) : error.pos + 50]
    )


def _error(line: int, code: str, message: str, *, fix: str = "", value: str | None = None) -> Finding:
    return Finding(code=code, message=message, fix=fix, level="error", line=line, value=value)
