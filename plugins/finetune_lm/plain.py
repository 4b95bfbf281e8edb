"""Plain text files → documents: a line each, or parted by blank lines."""

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
        """Take every file of this suffix but those that say they hold tagged words (CoNLL)."""
        return not head.lstrip("\ufeff \t\r\n").startswith("-DOCSTART-")

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield every line that holds something."""
        for number, line in enumerate(lines(text, file=file), 1):
            if line.strip(_SPACE):
                yield number, {TEXT: line.removesuffix("\r")}
            else:
                yield blank_line(number)


class ParagraphsReader(Reader):
    """Reads documents that blank lines part: ``{"text": …}``, inner line ends kept as ``\\n``.

    A recipe asks for it by ``dataset.format: paragraphs``.
    """

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield every run of lines that hold something, with the line where it begins."""
        begun = size = 0
        held: list[str] = []
        for number, line in enumerate(lines(text, file=file), 1):
            if line.strip(_SPACE):
                begun = begun if held else number
                held.append(line.removesuffix("\r"))
                size += len(line)
                if size > LONGEST:
                    raise too_long(file=file, line=begun, what="paragraph")
            elif held:
                yield begun, {TEXT: "\n".join(held)}
                held, size = [], 0
        if held:
            yield begun, {TEXT: "\n".join(held)}
