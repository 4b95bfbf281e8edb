"""CoNLL files: a word a line with its tag in the last column, a blank line after every sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from finetune.interfaces import Finding, Reader, Row
from finetune_text.token_checks import TAGS
from finetune_text.words import TOKENS

DOCUMENT = "-DOCSTART-"
LONGEST = 64 << 20
"""Longest sentence, in characters: as long as the core lets a record be."""
_KEY_VALUE = re.compile(r"#\s*\S+\s+=\s")


@dataclass(kw_only=True)
class _Sentence:
    lines: list[tuple[int, str]] = field(default_factory=list)
    """Number and text of each line."""
    characters: int = 0


class Conll(Reader):
    """Reads one sentence a row: ``{"tokens": ["Zoë", "sails"], "ner_tags": ["B-PER", "O"]}``, the line that of ``Zoë``.

    Columns are parted by tabs where a line has any, else by spaces; the first is the word, the last its tag, others are
    left out. A file of one column has words alone. ``-DOCSTART-`` lines are skipped, and so are lines before a sentence
    that begin with ``#`` and either say ``# key = value`` or have another number of columns than words have: ``#`` and
    ``#hashtag`` are words too.

    A sentence with a line of more or fewer columns than the file's first word has is a finding, not a row.
    """

    suffixes = (".conll", ".bio", ".iob", ".txt")

    def recognises(self, head: str) -> bool:
        """Say whether a file begins as those of CoNLL-2003 do; asked of ``.txt``, which other readers take too."""
        return head.lstrip().startswith(DOCUMENT)

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield every sentence with the line of its first word, or a finding in its place."""
        width: int | None = None
        for sentence in _sentences(text):
            if sentence.characters > LONGEST:
                yield _too_long(sentence, file)
                return
            words = _without_comments(sentence.lines, width)
            if not words:
                continue
            width = width or len(words[0][1])
            yield _ragged(words, width, file) or (words[0][0], _row(words, width))


def _row(words: Sequence[tuple[int, list[str]]], width: int) -> Row:
    row = {TOKENS: [fields[0] for _, fields in words]}
    return {**row, TAGS: [fields[-1] for _, fields in words]} if width > 1 else row


def _without_comments(lines: Sequence[tuple[int, str]], width: int | None) -> list[tuple[int, list[str]]]:
    """Return the fields of a sentence's words."""
    split = [(number, line, _fields(line)) for number, line in lines]
    width = width or next((len(fields) for _, line, fields in split if not line.startswith("#")), None)
    first = 0
    for _, line, fields in split:
        if not line.startswith("#"):
            break
        other = len(fields) != width if width else line[1:2] in {"", " "}
        if not other and not _KEY_VALUE.match(line):
            break
        first += 1
    return [(number, fields) for number, _, fields in split[first:]]


def _fields(line: str) -> list[str]:
    r"""Return the columns of a line; only tabs and spaces part them, so that other white space may be a word.

    >>> _fields("Zoë NNP  B-PER"), _fields("New York\tB-PLACE"), _fields("\u00a0 O")
    (['Zoë', 'NNP', 'B-PER'], ['New York', 'B-PLACE'], ['\xa0', 'O'])
    """
    if "\t" in line:
        return [part.strip(" ") for part in line.split("\t")]
    return [part for part in line.split(" ") if part]


def _sentences(text: Iterable[str]) -> Iterator[_Sentence]:
    """Yield what stands between blank lines; the last one yielded may be longer than `LONGEST`, and unfinished."""
    sentence = _Sentence()
    for number, line in _lines(text):
        if line.strip(" \t") and not line.startswith(DOCUMENT):
            sentence.lines.append((number, line))
            sentence.characters += len(line)
            if sentence.characters > LONGEST:
                break
        elif sentence.lines:
            yield sentence
            sentence = _Sentence()
    if sentence.lines:
        yield sentence


def _lines(text: Iterable[str]) -> Iterator[tuple[int, str]]:
    r"""Yield number and text of every line; ``\n`` and ``\r\n`` end one, and nothing else does.

    A line that has not ended after `LONGEST` characters is yielded as it is, to be refused.
    """
    number, tail = 1, ""
    for piece in text:
        *ended, tail = (tail + piece).split("\n")
        for line in ended:
            yield number, line.removesuffix("\r")
            number += 1
        if len(tail) > LONGEST:
            break
    if tail:
        yield number, tail.removesuffix("\r")


def _ragged(words: Sequence[tuple[int, list[str]]], width: int, file: str) -> Finding | None:
    """Return a finding with the first line of a sentence that has another number of columns."""
    wrong = [(number, fields) for number, fields in words if len(fields) != width]
    if not wrong:
        return None
    number, fields = wrong[0]
    more = f" (and {len(wrong) - 1:,} more lines of this sentence)" if len(wrong) > 1 else ""
    return Finding(
        code="ragged-line",
        message=f"the line has {len(fields)} columns, the file's first word {width}{more}.",
        fix="Give every word all columns, and part sentences by a blank line.",
        file=file,
        line=number,
        value="\t".join(fields),
    )


def _too_long(sentence: _Sentence, file: str) -> Finding:
    return Finding(
        code="record-too-long",
        message=f"the sentence that begins here has more than {LONGEST:,} characters.",
        fix="Is this the right format? Sentences are parted by blank lines.",
        level="error",
        file=file,
        line=sentence.lines[0][0],
    )
