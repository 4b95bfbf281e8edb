"""JSON Lines: one object per line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from json import JSONDecodeError
from typing import Any

from finetune.data.findings import blank_line
from finetune.data.readers.json_shapes import by_column, no_rows
from finetune.data.readers.strict_json import Strict, explain, finding
from finetune.data.readers.text import lines
from finetune.interfaces import Finding, Reader, Row

_AS_LINES = 'Write one object per row. In pandas: df.to_json(path, orient="records", lines=True).'
_SPACE = " \t\r"


class JsonLinesReader(Reader):
    """Reads JSON Lines. A line that is not an object is a finding, and reading continues.

    Args:
        from_list: Makes a row of a line that is a list; such a line is a finding by default.
    """

    suffixes = (".jsonl", ".ndjson")

    def __init__(self, *, from_list: Callable[[list[Any]], Row] | None = None) -> None:
        self._from_list = from_list

    def recognises(self, head: str) -> bool:
        """Return True: this reader takes every file of these suffixes that no other reader recognises."""
        return True

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield the objects."""
        strict = Strict()
        for number, raw in enumerate(lines(text, file=file), 1):
            line = raw.strip(_SPACE)
            if not line:
                yield blank_line(number)
                continue
            try:
                value, end, problems = strict.decode(line, 0)
                if end != len(line):
                    raise JSONDecodeError("Extra data", line, end)
            except JSONDecodeError as error:
                yield _bad(error, number=number, indent=len(raw) - len(raw.lstrip(_SPACE)))
                continue
            if problems:
                yield finding(problems[0], line=number)
            elif type(value) is dict:
                shape = by_column(value) if number == 1 else ""
                if shape and not shape.endswith("a list for each"):  # which is how a row holds words and tags
                    yield no_rows(shape, line=number, fix=_AS_LINES)
                    return
                yield number, value
            elif type(value) is list and self._from_list is not None:
                yield number, self._from_list(value)
            else:
                yield _no_object(line, number=number)


def _bad(error: JSONDecodeError, *, number: int, indent: int) -> Finding:
    what, fix = explain(error)
    if number == 1 and error.doc in {"[", "{"}:
        if error.doc == "[":
            fix = "The file seems to be a JSON array: set dataset.format: json."
        else:
            fix = "The file seems to be a single JSON object. Write one object per line."
    return Finding(
        code="bad-json",
        message=f"column {error.pos + indent + 1}: {what}",
        fix=fix,
        line=number,
        value=error.doc[max(0, error.pos - 30) :][:80],
    )


def _no_object(line: str, *, number: int) -> Finding:
    fix = ""
    if number == 1 and line.startswith("["):
        fix = "If the file is a JSON array, set dataset.format: json."
    return Finding(
        code="not-an-object",
        message="a row must be an object: {column: value, …}.",
        fix=fix,
        line=number,
        value=line,
    )
