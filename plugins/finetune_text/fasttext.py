"""Files of fastText: labels, then a text, on each line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from finetune.interfaces import Finding, Reader, Row
from finetune.kit import blank_line, lines

PREFIX = "__label__"


@dataclass(frozen=True, kw_only=True)
class FastTextReader(Reader):
    """Reads the files of fastText: ``__label__good A fine inn.`` becomes ``{"text": "A fine inn.", "label": "good"}``.

    A file is known by its first line, which begins with ``__label__``.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".ft")

    multi_label: bool = False
    """Whether a text has any number of labels, so that `label` is a list."""

    def recognises(self, head: str) -> bool:
        """Return whether a file begins with a label."""
        return head.lstrip("\ufeff \t\r\n").startswith(PREFIX)

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield the text and the labels of each line."""
        for number, line in enumerate(lines(text, file=file), 1):
            if not line.strip():
                yield blank_line(number)
                continue
            row = self._row(line.strip())
            yield _finding(row, line, number) if isinstance(row, str) else (number, row)

    def _row(self, line: str) -> dict[str, Any] | str:
        """Return the row of a line, or what is wrong with it."""
        labels, rest = [], line
        while rest.startswith(PREFIX):
            word, _, rest = rest.partition(" ")
            labels.append(word.removeprefix(PREFIX))
            rest = rest.lstrip()
        if "" in labels:
            return f"a label is empty: nothing follows {PREFIX}."
        if any(word.startswith(PREFIX) for word in rest.split()):
            return f"a label stands after the text has begun. Write each {PREFIX} at the start of the line."
        if self.multi_label:
            return {"text": rest, "label": labels}
        if len(labels) != 1:
            return (
                f"the line has {len(labels)} labels; wanted 1. For several, set dataset.options: {{multi_label: true}}."
            )
        return {"text": rest, "label": labels[0]}


def _finding(message: str, line: str, number: int) -> Finding:
    return Finding(code="bad-fasttext-line", message=message, line=number, value=line[:80])
