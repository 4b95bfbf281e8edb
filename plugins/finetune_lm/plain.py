"""Plain text files → documents: a line each, or parted by blank lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from finetune.interfaces import Finding, Reader, Row
from finetune_lm.texts import TEXT

LONGEST = 64 << 20
"""Longest line or paragraph, in characters."""
_SPACE = " \t\r\f\v"


class Lines(Reader):
    """Reads each line as one document, ``{"text": …}``; blank lines are skipped and counted."""

    suffixes = (".txt",)

    def recognises(self, head: str) -> bool:
        """Take every file of this suffix but those that say they hold tagged words (CoNLL)."""
        return not head.lstrip("\ufeff \t\r\n").startswith("-DOCSTART-")

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield every line that holds something."""
        for number, line in enumerate(_lines(text), 1):
            if isinstance(line, Finding):
                yield line
            elif line.strip(_SPACE):
                yield number, {TEXT: line.removesuffix("\r")}
            else:
                yield Finding(code="blank-line", message="a blank line.", level="warning", line=number)


class Paragraphs(Reader):
    """Reads documents that blank lines part: ``{"text": …}``, inner line ends kept as ``\\n``.

    A recipe asks for it by ``dataset.format: paragraphs``.
    """

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield every run of lines that hold something, with the line where it begins."""
        begun = size = 0
        held: list[str] = []
        for number, line in enumerate(_lines(text), 1):
            if isinstance(line, Finding):
                yield line
            elif line.strip(_SPACE):
                begun = begun if held else number
                held.append(line.removesuffix("\r"))
                size += len(line)
                if size > LONGEST:
                    yield _too_long("paragraph", begun)
                    return
            elif held:
                yield begun, {TEXT: "\n".join(held)}
                held, size = [], 0
        if held:
            yield begun, {TEXT: "\n".join(held)}


def _lines(text: Iterable[str]) -> Iterator[str | Finding]:
    r"""Yield the lines of a text that comes in pieces; only ``\n`` ends one, and a finding ends all."""
    tail: list[str] = []
    size = number = 0
    for piece in text:
        head, *rest = piece.split("\n")
        tail.append(head)
        size += len(head)
        if size > LONGEST:
            yield _too_long("line", number + 1)
            return
        if rest:
            yield "".join(tail)
            yield from rest[:-1]
            number += len(rest)
            tail, size = [rest[-1]], len(rest[-1])
    if size:
        yield "".join(tail)


def _too_long(what: str, line: int) -> Finding:
    return Finding(
        code="record-too-long",
        message=f"the {what} that begins here has more than {LONGEST:,} characters.",
        fix="Part the text into documents: a line each (dataset.format: lines), or with blank lines between "
        "(dataset.format: paragraphs).",
        level="error",
        line=line,
    )
