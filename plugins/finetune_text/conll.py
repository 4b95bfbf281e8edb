"""CoNLL files: one word on each line, its tag in the last column, a blank line after every sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from finetune.interfaces import Finding, Reader, Row
from finetune.kit import LONGEST, lines, too_long
from finetune_text.token_checks import TAGS
from finetune_text.words import TOKENS

DOCUMENT = "-DOCSTART-"
_KEY_VALUE = re.compile(r"#\s*\S+\s+=\s")
_Word = tuple[int, list[str]]
"""Line and columns of one word."""


class ConllReader(Reader):
    """Reads one sentence per row: ``{"tokens": ["Zoë", "sails"], "ner_tags": ["B-PER", "O"]}``, at the line of ``Zoë``.

    Tabs separate the columns if a line has any, else spaces. The first column is the word, the last
    its tag; others are left out. A file of one column holds only words. ``-DOCSTART-`` lines are
    skipped. So are lines before a sentence that begin with ``#`` and either say ``# key = value``
    or have another number of columns than words have: ``#`` and ``#hashtag`` are words too.

    A sentence with a line of more or fewer columns than the file's first word has is a finding, not
    a row.
    """

    suffixes = (".conll", ".bio", ".iob", ".txt")

    def recognises(self, head: str) -> bool:
        """Say whether a file begins like those of CoNLL-2003; needed for ``.txt``, which other readers take too."""
        return head.lstrip().startswith(DOCUMENT)

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield every sentence with the line of its first word, or a finding in its place."""
        width: int | None = None
        for sentence in _sentences(text, file=file):
            words = _without_comments(sentence, width)
            if not words:
                continue
            width = width or len(words[0][1])
            yield _ragged(words, width, file) or (words[0][0], _row(words, width))


def _row(words: Sequence[_Word], width: int) -> Row:
    row: dict[str, list[str]] = {TOKENS: []} if width == 1 else {TOKENS: [], TAGS: []}
    for _, fields in words:
        row[TOKENS].append(fields[0])
        if width > 1:
            row[TAGS].append(fields[-1])
    return row


def _without_comments(sentence: Sequence[tuple[int, str]], width: int | None) -> list[_Word]:
    """Return the fields of a sentence's words.

    Args:
        sentence: Number and text of its lines.
        width: How many columns words have; None in the first sentence of a file.
    """
    if width is None:
        for _, line in sentence:
            if not line.startswith("#"):
                width = len(_fields(line))
                break
    words: list[_Word] = []
    for number, line in sentence:
        if words or not _is_comment(line, width):
            words.append((number, _fields(line)))
    return words


def _is_comment(line: str, width: int | None) -> bool:
    """Say whether a line before the first word of a sentence is a comment."""
    if not line.startswith("#"):
        return False
    if _KEY_VALUE.match(line):
        return True
    return len(_fields(line)) != width if width else line[1:2] in {"", " "}


def _fields(line: str) -> list[str]:
    r"""Return the columns of a line; only tabs and spaces separate them, so that other white space may be a word.

    >>> _fields("Zoë NNP  B-PER"), _fields("New York\tB-PLACE"), _fields("\u00a0 O")
    (['Zoë', 'NNP', 'B-PER'], ['New York', 'B-PLACE'], ['\xa0', 'O'])
    """
    if "\t" in line:
        return [part.strip(" ") for part in line.split("\t")]
    return list(filter(None, line.split(" ")))


def _sentences(text: Iterable[str], *, file: str) -> Iterator[list[tuple[int, str]]]:
    """Yield the lines between blank lines: number and text of each."""
    sentence: list[tuple[int, str]] = []
    size = 0
    for number, line in enumerate(lines(text, file=file), 1):
        line = line.removesuffix("\r")
        if line.strip(" \t") and not line.startswith(DOCUMENT):
            sentence.append((number, line))
            size += len(line)
            if size > LONGEST:
                raise too_long(file=file, line=sentence[0][0], what="sentence")
        elif sentence:
            yield sentence
            sentence, size = [], 0
    if sentence:
        yield sentence


def _ragged(words: Sequence[_Word], width: int, file: str) -> Finding | None:
    """Return a finding with the first line of a sentence that has another number of columns."""
    wrong = [word for word in words if len(word[1]) != width]
    if not wrong:
        return None
    number, fields = wrong[0]
    more = f" (and {len(wrong) - 1:,} more lines of this sentence)" if len(wrong) > 1 else ""
    return Finding(
        code="ragged-line",
        message=f"the line has {len(fields)} columns, the first word of the file has {width}{more}.",
        fix="Give every word all columns, and put a blank line after each sentence.",
        file=file,
        line=number,
        value="\t".join(fields),
    )
