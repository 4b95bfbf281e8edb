"""CoNLL files: one word on each line, its tag in another column, a blank line after every sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import ClassVar

from finetune.interfaces import Finding, Reader, Row
from finetune.kit import LONGEST, lines, too_long
from finetune_text import conll_layout
from finetune_text.conll_layout import CONLL_2012, CONLL_U, NOT_A_WORD, ColumnsError, Layout, Line
from finetune_text.tags import OUTSIDE
from finetune_text.token_checks import TAGS
from finetune_text.words import SPACE_AFTER, TOKENS

DOCUMENT = "-DOCSTART-"
_SAMPLE = 200
"""Sentences from which the columns are detected."""
_BRACKETS = re.compile(r"(?:\(([^()*\s]+))?\*?(\)?)")
"""A tag of CoNLL-2012: ``(PERSON*``, ``*``, ``*)``, ``(GPE)``."""
_Word = tuple[int, list[str]]
"""Line and columns of one word."""


@dataclass(frozen=True, kw_only=True)
class ConllReader(Reader):
    """Reads one sentence per row: ``{"tokens": ["Zoë", "sails"], "ner_tags": ["B-PER", "O"]}``, at the line of ``Zoë``.

    Tabs, spaces or commas separate the columns. The first column is the word and the last its tag,
    as in CoNLL-2003. CoNLL-U and CoNLL-2012 are recognised: their words are FORM and WORD, their
    tags UPOS and NER. A first column that counts the words is left out. A file of one column holds
    only words. If several columns hold tags, the options must say which one to read.

    ``-DOCSTART-`` lines are skipped. So are lines before a sentence that begin with ``#`` and
    either say ``# key = value`` or have another number of columns than words have: ``#`` and
    ``#hashtag`` are words too. In CoNLL-U, tokens of several words (``1-2``) and empty nodes
    (``8.1``) are skipped, and ``SpaceAfter=No`` is read.

    A sentence with a line of more or fewer columns than the file has is a finding, not a row.
    """

    word: int | str | None = None
    """The column of words: its number from 1, or its name (`FORM`, or a name in the first line); the
    first by default."""
    tag: int | str | None = None
    """The column of tags: its number from 1, or its name (`XPOS`, or a name in the first line);
    `MISC.name` is the attribute `name` in the column MISC. The last by default."""

    suffixes: ClassVar[tuple[str, ...]] = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".bioes", ".txt", ".tsv")

    def recognises(self, head: str) -> bool:
        """Say whether a file begins with tagged sentences; needed for ``.txt`` and ``.tsv``, which others take too."""
        return head.lstrip().startswith(DOCUMENT) or conll_layout.is_tagged(list(_sentences([head], file="")))

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield every sentence with the line of its first word, or a finding in its place."""
        sentences = _sentences(text, file=file)
        sample = list(islice(sentences, _SAMPLE))
        try:
            layout, findings = conll_layout.detect(sample, word=self.word, tag=self.tag)
        except ColumnsError as error:
            yield error.finding
            return
        yield from findings
        for sentence in chain(sample, sentences):
            words = layout.words(sentence)
            if words:
                yield _problem(words, layout) or _row(words, layout)


def _row(words: Sequence[_Word], layout: Layout) -> tuple[int, Row] | Finding:
    """Return the row of a sentence with the line of its first word, or a finding if its brackets do not match."""
    spaces = _spaces(words) if layout.names == CONLL_U else None
    words = [word for word in words if not _is_skipped(word[1], layout)]
    row: dict[str, list[str] | list[bool]] = {TOKENS: [fields[layout.word] for _, fields in words]}
    if layout.tag is not None:
        tags = [_tag(fields[layout.tag], layout) for _, fields in words]
        if layout.names == CONLL_2012 and layout.names[layout.tag] == "NER":
            try:
                tags = _from_brackets(tags)
            except _BracketError as error:
                return _unmatched(words[error.position], tags[error.position])
        row[TAGS] = tags
    if spaces is not None:
        row[SPACE_AFTER] = spaces
    return words[0][0], row


def _tag(value: str, layout: Layout) -> str:
    """Return a tag: a value, or an attribute of it. CoNLL-U writes ``_`` for a part of speech that is not known."""
    if layout.attribute:
        found = dict(part.partition("=")[::2] for part in value.split("|"))
        return found.get(layout.attribute, OUTSIDE)
    if value == "_" and layout.tag is not None and layout.names and layout.names[layout.tag] in {"UPOS", "XPOS"}:
        return ""
    return value


def _is_skipped(fields: Sequence[str], layout: Layout) -> bool:
    """Say whether a line is no word: a token of several words, whose words follow, or an empty node."""
    return layout.number is not None and NOT_A_WORD.fullmatch(fields[layout.number]) is not None


def _spaces(words: Sequence[_Word]) -> list[bool]:
    """Return for each word of a sentence in CoNLL-U whether a space follows it.

    The words of one token (``1-2 zum``) have no space between them, and after the last of them the
    one of the token.
    """
    position, misc = CONLL_U.index("ID"), CONLL_U.index("MISC")
    spaces: list[bool] = []
    last, token_has_space = 0, True
    for _, fields in words:
        name = fields[position]
        has_space = "SpaceAfter=No" not in fields[misc].split("|")
        if "-" in name:
            last, token_has_space = int(name.partition("-")[2]), has_space
        elif "." not in name:
            number = len(spaces) + 1
            if number < last:
                has_space = False
            elif number == last:
                has_space = token_has_space
            spaces.append(has_space)
    return spaces


class _BracketError(ValueError):
    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


def _from_brackets(values: Sequence[str]) -> list[str]:
    """Return the tags of CoNLL-2012 as BIO.

    >>> _from_brackets(["(PERSON*", "*)", "*", "(GPE)"])
    ['B-PERSON', 'I-PERSON', 'O', 'B-GPE']

    Raises:
        _BracketError: A bracket is not closed or not opened.
    """
    tags: list[str] = []
    kind = ""
    for position, value in enumerate(values):
        match = _BRACKETS.fullmatch(value)
        opens, closes = match.groups() if match and value else (None, None)
        if closes is None or (opens and kind) or (closes and not (opens or kind)):
            raise _BracketError(position)
        kind = opens or kind
        tags.append(f"{'B' if opens else 'I'}-{kind}" if kind else OUTSIDE)
        if closes:
            kind = ""
    if kind:
        raise _BracketError(len(values) - 1)
    return tags


def _unmatched(word: _Word, value: str) -> Finding:
    return Finding(
        code="broken-brackets",
        message=f"the bracket of {value!r} has no partner in this sentence.",
        fix="Write entities as (PERSON* … *) or (PERSON), without overlap, and * for other words.",
        column=TAGS,
        line=word[0],
        value=value,
    )


def _sentences(text: Iterable[str], *, file: str) -> Iterator[list[Line]]:
    """Yield the lines between blank lines: number and text of each."""
    sentence: list[Line] = []
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


def _problem(words: Sequence[_Word], layout: Layout) -> Finding | None:
    """Return a finding with the first line of a sentence that cannot be read."""
    wrong = [word for word in words if not layout.fits(word[1])]
    if wrong:
        number, fields = wrong[0]
        more = ""
        if len(wrong) > 1:
            more = f" (and {len(wrong) - 1:,} more line{'s' if len(wrong) > 2 else ''} of this sentence)"
        columns = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
        return Finding(
            code="ragged-line",
            message=f"the line has {columns}, most lines of the file have {layout.width}{more}.",
            fix="Give every word all columns, and put a blank line after each sentence.",
            line=number,
            value="\t".join(fields),
        )
    return None if layout.number is None else _miscounted(words, layout, layout.number)


def _miscounted(words: Sequence[_Word], layout: Layout, column: int) -> Finding | None:
    """Return a finding with the first word whose number is not the next one."""
    expected = layout.first_number
    for line, fields in words:
        if _is_skipped(fields, layout):
            continue
        if fields[column] != str(expected):
            return Finding(
                code="word-number",
                message=f"the word has the number {fields[column]!r}, but {expected} comes next in this sentence.",
                fix="Count the words of each sentence from the same number, and put a blank line after it.",
                line=line,
                column=layout.shown(column),
                value="\t".join(fields),
            )
        expected += 1
    return None
