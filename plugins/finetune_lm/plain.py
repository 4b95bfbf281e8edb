"""Plain text files → documents: one for each line, or one for each paragraph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from finetune.interfaces import Finding, Reader, Row
from finetune.kit import LONGEST, blank_line, lines, too_long
from finetune_lm.texts import TEXT

_SPACE = " \t\r\f\v"


class LinesReader(Reader):
    """Reads each line as one document, ``{"text": …}``; blank lines are skipped and counted."""

    suffixes = (".txt",)

    def recognises(self, head: str) -> bool:
        """Accept every file of this suffix except those that declare tagged words (CoNLL) or labels (fastText)."""
        return not head.lstrip("\ufeff \t\r\n").startswith(("-DOCSTART-", "__label__"))

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield every line that is not blank."""
        for number, line in enumerate(lines(text, file=file), 1):
            if line.strip(_SPACE):
                yield number, {TEXT: line.removesuffix("\r")}
            else:
                yield blank_line(number)


class ParagraphsReader(Reader):
    """Reads documents that blank lines separate: ``{"text": …}``, with inner line ends as ``\\n``.

    A recipe selects it by ``dataset.format: paragraphs``.
    """

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield every run of lines that are not blank, with the number of its first line."""
        first_line = size = 0
        paragraph: list[str] = []
        for number, line in enumerate(lines(text, file=file), 1):
            if line.strip(_SPACE):
                first_line = first_line if paragraph else number
                paragraph.append(line.removesuffix("\r"))
                size += len(line)
                if size > LONGEST:
                    raise too_long(file=file, line=first_line, what="paragraph")
            elif paragraph:
                yield first_line, {TEXT: "\n".join(paragraph)}
                paragraph, size = [], 0
        if paragraph:
            yield first_line, {TEXT: "\n".join(paragraph)}
