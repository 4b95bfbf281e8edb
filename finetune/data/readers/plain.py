"""Plain text files to predict: each line is one row, with one column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from finetune.data.findings import blank_line
from finetune.data.readers.text import lines
from finetune.interfaces import Finding, Reader, Row

FORMAT = "plain text"
"""The format of a `Source` that is read by `PlainReader`; no recipe names it."""


@dataclass(frozen=True, kw_only=True)
class PlainReader(Reader):
    """Reads each line as one row; blank lines are skipped and counted."""

    column: str = "text"
    """The name of the column."""

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield every line that is not blank."""
        for number, line in enumerate(lines(text, file=file), 1):
            if line.strip():
                yield number, {self.column: line.removesuffix("\r")}
            else:
                yield blank_line(number)
