"""JSON Lines: one object a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from json import JSONDecodeError

from finetune.data.findings import blank_line
from finetune.data.readers.strict_json import Strict, explain, finding
from finetune.data.readers.text import lines
from finetune.interfaces import Finding, Reader, Row

_SPACE = " \t\r"


class JsonLinesReader(Reader):
    """JSON Lines; a line that is no object is a finding, and the next is read."""

    suffixes = (".jsonl", ".ndjson")

    def recognises(self, head: str) -> bool:
        """Take every file of these suffixes that no other reader wants."""
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
                yield number, value
            else:
                yield _no_object(line, number=number)


def _bad(error: JSONDecodeError, *, number: int, indent: int) -> Finding:
    what, fix = explain(error)
    if number == 1 and error.doc in {"[", "{"}:
        fix = f"The file looks like one JSON {'array' if error.doc == '[' else 'object'}, not one object a line" + (
            ": set dataset.format: json." if error.doc == "[" else "."
        )
    return Finding(
        code="bad-json",
        message=f"column {error.pos + indent + 1}: {what}",
        fix=fix,
        line=number,
        value=error.doc[max(0, error.pos - 30) :][:80],
    )


def _no_object(line: str, *, number: int) -> Finding:
    fix = "Is it a JSON array? Set dataset.format: json." if number == 1 and line.startswith("[") else ""
    return Finding(
        code="not-an-object",
        message="a row must be an object: {column: value, …}",
        fix=fix,
        line=number,
        value=line,
    )
