"""Tables with a word in each row, and a column that says to which sentence it belongs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from finetune.interfaces import Finding, Reader, Row
from finetune.kit import CsvReader
from finetune_text.conll_layout import names_tags
from finetune_text.token_checks import TAGS
from finetune_text.words import TOKENS

_SENTENCE = re.compile(r"sent(ence)?[ _.-]*(#|ids?|idx|index|no\.?|nr\.?|num|number)", re.IGNORECASE)
_WORDS = ("word", "token", "words", "tokens")


@dataclass(frozen=True, kw_only=True)
class WordTableReader(Reader):
    """Reads a csv table with one word in each row, and makes one row of each sentence.

    `Sentence #,Word,POS,Tag` in the first line makes a file known. The column of the sentence has a value in each row,
    or only in the first row of a sentence. If several columns hold tags, the last is read. A sentence with a bad line
    is a finding, not a row.
    """

    sentence: str | None = None
    """Name of the column that says to which sentence a word belongs; found by its name."""
    word: str | None = None
    """Name of the column of words; found by its name."""
    tag: str | None = None
    """Name of the column of tags; found by its name."""

    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    def recognises(self, head: str) -> bool:
        """Return whether the first line names a column for the sentence, one for the words and one for the tags."""
        line = head.partition("\n")[0].strip()
        for delimiter in ",;\t|":
            names = [name.strip().strip('"') for name in line.split(delimiter)]
            if None not in self._columns(names).values():
                return True
        return False

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield each sentence with the line of its first word, or a finding in its place."""
        sentence = _Sentence()
        columns: dict[str, str] | None = None
        for item in CsvReader().rows(text, file=file):
            if isinstance(item, Finding):
                if item.level == "row" and item.code != "blank-line":
                    sentence.bad = sentence.bad or item
                else:
                    yield item
                continue
            line, row = item[0], item[1]
            if columns is None:
                found = self._columns(list(row))
                missing = [key for key, name in found.items() if name is None or name not in row]
                if missing:
                    yield self._unknown(missing[0], list(row))
                    return
                columns = {key: name for key, name in found.items() if name is not None}
            name = str(row[columns["sentence"]]).strip()
            if name and name != sentence.name:
                yield from sentence.ended()
                sentence = _Sentence(name)
            sentence.add(line, row[columns["word"]], row[columns["tag"]])
        yield from sentence.ended()

    def _columns(self, names: Sequence[str]) -> dict[str, str | None]:
        """Return the column for the sentence, the words and the tags: the given names, or those that look right."""
        sentences = [name for name in names if _SENTENCE.fullmatch(name.strip())]
        words = [name for name in names if name.strip().casefold() in _WORDS]
        tags = [name for name in names if names_tags(name.strip().casefold())]
        return {
            "sentence": self.sentence or next(iter(sentences), None),
            "word": self.word or next(iter(words), None),
            "tag": self.tag or next(reversed(tags), None),
        }

    def _unknown(self, option: str, names: Sequence[str]) -> Finding:
        given: Mapping[str, str | None] = {"sentence": self.sentence, "word": self.word, "tag": self.tag}
        what = f"there is no column {given[option]!r}" if given[option] else f"no column is named like a {option}"
        return Finding(
            code="no-such-column", message=f"{what}; the columns are: {', '.join(names)}.",
            fix=f"Name it in dataset.options: {{{option}: NAME}}.", level="error", line=1,
        )  # fmt: skip


class _Sentence:
    """The words of a sentence as far as they are read."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.bad: Finding | None = None
        """The first bad line among its words."""
        self._line = 0
        self._words: list[str] = []
        self._tags: list[str] = []

    def add(self, line: int, word: str, tag: str) -> None:
        """Add a word, which stands on a line of the file."""
        self._line = self._line or line
        self._words.append(word)
        self._tags.append(tag)

    def ended(self) -> Iterator[tuple[int, Row] | Finding]:
        """Yield the sentence, or what is wrong with it; nothing if it has no words."""
        if self.bad is not None:
            yield self.bad
        elif self._words:
            yield self._line, {TOKENS: self._words, TAGS: self._tags}
