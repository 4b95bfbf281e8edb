"""Which column of a CoNLL file is what: separator, width, names, the words and their tags."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from finetune.errors import did_you_mean
from finetune.interfaces import Finding
from finetune_text.tags import OUTSIDE

Line = tuple[int, str]
"""Number and text of a line."""

CONLL_U = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
CONLL_2012 = (
    "DOCUMENT", "PART", "NUMBER", "WORD", "POS", "PARSE", "LEMMA", "FRAMESET", "SENSE", "SPEAKER", "NER",
)  # fmt: skip
"""The columns that every line has; arguments of verbs and coreference follow them."""

NOT_A_WORD = re.compile(r"\d+-\d+|\d+\.\d+")
"""ID of a line of CoNLL-U that is not a word: a token of several words, or an empty node."""
_COMMENT = re.compile(r"#\s*\S+\s+=\s|# new(?:doc|par)\b")
"""A comment that may have as many columns as a word: ``# key = value``, ``# newdoc``."""
_GLOBAL_COLUMNS = re.compile(r"#\s*global\.columns\s*=\s*(.*)")
_BEGIN_DOCUMENT = "#begin document"
_TYPED = re.compile(r"[BIELSUMW]-.+", re.DOTALL)
_CHUNK = re.compile(r"\w-(?:NP|VP|PP|ADVP|ADJP|SBAR|PRT|INTJ|LST|CONJP|UCP|NC|VC|PC)")
"""A tag of a phrase, as in the third column of CoNLL-2003."""
_WORD_NAMES = ("word", "words", "token", "tokens", "form")
_TAG_NAMES = ("tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags", "bio", "iob", "upos", "pos")
"""What a header calls a column of tags."""
_BEST_NAMES = ("ner", "upos")
"""Which of several columns of tags is read."""


class ColumnsError(Exception):
    """The columns cannot be used; carries the finding out of the detection."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The columns of one file; positions count from 0."""

    delimiter: str
    """A tab, a comma, or a space, which stands for any number of spaces."""
    width: int
    """Columns of every line."""
    is_open: bool = False
    """Whether lines may have more columns than `width`."""
    names: tuple[str, ...] = ()
    """Names of the columns, if they are known."""
    header: int | None = None
    """The line that names the columns."""
    number: int | None = None
    """The column that counts the words of a sentence."""
    first_number: int = 1
    sentence: int | None = None
    """The column that numbers the sentences."""
    word: int = 0
    tag: int | None = None
    attribute: str = ""
    """The key of an attribute in the column of tags: ``name`` in ``name=B-PER|SpaceAfter=No``."""

    def fields(self, line: str) -> list[str]:
        r"""Return the columns of a line; empty columns after the last one are left out.

        Only the separator separates, so that other white space may be a word.

        >>> Layout(delimiter=" ", width=3).fields("Zoë NNP  B-PER")
        ['Zoë', 'NNP', 'B-PER']
        >>> Layout(delimiter="\t", width=2).fields("New York\tB-PLACE\t")
        ['New York', 'B-PLACE']
        >>> Layout(delimiter=",", width=2).fields(",,O")
        [',', 'O']
        """
        fields = _split(line, self.delimiter)
        while len(fields) > self.width and not fields[-1]:
            fields.pop()
        extra = len(fields) - self.width
        if self.delimiter == "," and extra > 0 and not any(fields[: extra + 1]):
            fields[: extra + 1] = [",".join(fields[: extra + 1])]  # the word is a comma
        return fields

    def fits(self, fields: Sequence[str]) -> bool:
        """Say whether a line has the right number of columns."""
        return len(fields) >= self.width if self.is_open else len(fields) == self.width

    def is_comment(self, line: str) -> bool:
        """Say whether a line before the first word of a sentence is a comment: ``#harbour`` can be a word, too."""
        if not line.startswith("#"):
            return False
        return bool(_COMMENT.match(line)) or not self.fits(self.fields(line))

    def words(self, sentence: Sequence[Line]) -> list[tuple[int, list[str]]]:
        """Return the line and the columns of each word of a sentence, without comments and the header."""
        words: list[tuple[int, list[str]]] = []
        for number, line in sentence:
            if number != self.header and (words or not self.is_comment(line)):
                words.append((number, self.fields(line)))
        return words

    def column(self, name: str) -> int | None:
        """Return the position of a column by its name, however it is capitalised."""
        for position, known in enumerate(self.names):
            if known.casefold() == name.casefold():
                return position
        return None

    def shown(self, column: int) -> str:
        """Return a column as the user may write it in `dataset.options`."""
        return self.names[column] if self.names else str(column + 1)


class Detected(NamedTuple):
    """A layout, and what the user should know about it."""

    layout: Layout
    findings: list[Finding]


def detect(sample: Sequence[Sequence[Line]], *, word: int | str | None, tag: int | str | None) -> Detected:
    """Return the layout of a file.

    Args:
        sample: The lines of its first sentences.
        word: The column of words as the recipe gives it: a number from 1, or a name.
        tag: The column of tags.

    Raises:
        ColumnsError: It is not clear which column is which, or a column does not exist.
    """
    lines = [line for sentence in sample for line in sentence]
    layout, findings = _shape(lines)
    layout = _named(layout, lines, wanted=[name for name in (word, tag) if isinstance(name, str)])
    rows: list[list[list[str]]] = []
    for sentence in sample:
        fitting = [fields for _, fields in layout.words(sentence) if layout.fits(fields)]
        if fitting:
            rows.append(fitting)
    layout = _numbered(layout, rows)
    first_line = lines[0][0] if lines else None
    if _numbers_sentences(layout, rows):
        layout = replace(layout, sentence=0)
        if word is None and any(len({fields[0] for fields in sentence}) > 1 for sentence in rows):
            message = "the first column numbers the sentences, but no blank line is between them."
            raise ColumnsError(
                _finding("columns-unclear", message, fix="Put a blank line after each sentence.", line=first_line)
            )
    layout, why, unclear = _guess(layout, [fields for sentence in rows for fields in sentence])
    if word is not None:
        layout = replace(layout, word=_position(word, layout, option="word", line=first_line))
    if tag is not None:
        layout = _with_tag(layout, tag, line=first_line)
    elif unclear:
        raise ColumnsError(_unclear(layout, why, line=first_line))
    elif why and word is None:
        findings.append(_stated(layout, why, line=first_line))
    if layout.tag == layout.word:
        message = f"column {layout.word + 1} cannot hold both the words and their tags."
        fix = "Give two different columns in dataset.options: {word: 1, tag: 2}."
        raise ColumnsError(_finding("no-such-column", message, fix=fix, line=first_line))
    return Detected(layout, findings)


def is_tagged(sentences: Sequence[Sequence[Line]]) -> bool:
    """Say whether text is surely tagged words: several sentences, lines of one width, tags such as B-PER in a column.

    The last sentence is not looked at, because it may be cut.
    """
    whole = sentences[:-1]
    layout, _ = _shape([line for sentence in whole for line in sentence])
    rows = [fields for sentence in whole for _, fields in layout.words(sentence)]
    if layout.width < 2 or len(rows) < 2 or not all(map(layout.fits, rows)):
        return False
    if layout.is_open:
        return True
    for values in zip(*rows, strict=True):
        if _share(values, _is_tag) > 0.9 and any(map(_TYPED.fullmatch, values)):
            return True
    return False


def _shape(lines: Sequence[Line]) -> tuple[Layout, list[Finding]]:
    """Return the separator and the number of columns of a file."""
    texts = [text for _, text in lines if not text.startswith("#")] or [text for _, text in lines]
    delimiter = _delimiter(texts)
    rows = [_split(text, delimiter) for text in texts]
    widths = Counter(map(len, rows))
    width = widths.most_common(1)[0][0] if widths else 1
    if min(widths, default=0) >= len(CONLL_2012) and any(text.startswith(_BEGIN_DOCUMENT) for _, text in lines):
        return Layout(delimiter=delimiter, width=len(CONLL_2012), names=CONLL_2012, is_open=True), []
    usual = [fields for fields in rows if len(fields) == width]
    whole = width
    while width > 1 and delimiter != " " and all(not fields[width - 1] for fields in usual):
        width -= 1
    findings = []
    if width < whole:
        what = {"\t": "a tab", ",": "a comma"}[delimiter]
        columns = "the last column is" if whole - width == 1 else f"the last {whole - width} columns are"
        message = f"every line ends with {what}: {columns} empty. The reader leaves it out."
        findings.append(_finding("empty-column", message, level="warning", line=lines[0][0]))
    return Layout(delimiter=delimiter, width=width), findings


def _delimiter(texts: Sequence[str]) -> str:
    """Return what separates the columns: a tab or a space if most lines have one, else a comma if the lines agree."""
    for delimiter in "\t ":
        having = sum(delimiter in text.strip(" ") for text in texts)
        if 2 * having > len(texts):
            return delimiter
    tagged = 0
    for text in texts:
        fields = _split(text.rstrip(","), ",")
        tagged += len(fields) > 1 and _is_tag(fields[-1])
    return "," if tagged and tagged >= 0.9 * (len(texts) - 1) else " "  # one may be a header


def _split(line: str, delimiter: str) -> list[str]:
    if delimiter == "\t":
        return [part.strip(" ") for part in line.split("\t")]
    if delimiter == ",":
        try:
            return next(csv.reader([line], strict=True))
        except csv.Error:  # the quote is a word
            return line.split(",")
    return list(filter(None, line.split(" ")))


def _named(layout: Layout, lines: Sequence[Line], *, wanted: Sequence[str]) -> Layout:
    """Return the layout with the names that a comment or the first line gives the columns."""
    for number, text in lines:
        found = _GLOBAL_COLUMNS.match(text)
        if found:
            return replace(layout, names=tuple(found[1].split()))
        if not layout.is_comment(text):
            names = layout.fields(text)
            below = [layout.fields(other) for _, other in lines]
            if not layout.names and layout.fits(names) and _is_header(names, below, wanted):
                return replace(layout, names=tuple(names), header=number)
            break
    return layout


def _is_header(names: Sequence[str], rows: Sequence[Sequence[str]], wanted: Sequence[str]) -> bool:
    folded = [name.casefold() for name in names]
    if any(name.casefold() in folded for name in wanted):
        return True
    word = next((position for position, name in enumerate(folded) if name in _WORD_NAMES), None)
    tag = next((position for position, name in enumerate(folded) if names_tags(name)), None)
    if word is None or tag is None:
        return False
    return sum(len(fields) > tag and fields[tag] == names[tag] for fields in rows) == 1


def names_tags(name: str) -> bool:
    """Return whether a column with this name, in small letters, holds tags."""
    return name in _TAG_NAMES or name.startswith(("ne-", "ner-", "ner_"))


_MOST = 0.9
"""Share of the sentences whose words a column must count."""


def _numbered(layout: Layout, sentences: Sequence[Sequence[Sequence[str]]]) -> Layout:
    """Return the layout with the column that counts the words of a sentence, if the first one does in nearly all."""
    if layout.names == CONLL_2012 or layout.width < 2:
        return layout
    if layout.width != len(CONLL_U) and all(len(sentence) < 2 for sentence in sentences):
        return layout
    for first in (1, 0):
        counting = sum(_counts(sentence, first) for sentence in sentences)
        if counting >= _MOST * len(sentences):  # the reader reports the others
            names = layout.names
            if not names and layout.width == len(CONLL_U) and first == 1:
                names = CONLL_U
            return replace(layout, number=0, first_number=first, names=names)
    return layout


def _numbers_sentences(layout: Layout, sentences: Sequence[Sequence[Sequence[str]]]) -> bool:
    """Say whether the first of several columns numbers the sentences: it repeats a number, and then counts on."""
    if layout.width < 3 or layout.names or layout.number is not None:
        return False
    values = [fields[0] for sentence in sentences for fields in sentence]
    if not all(map(str.isdecimal, values)) or len(set(values)) in {1, len(values)}:
        return False
    return all(int(after) - int(before) in {0, 1} for before, after in pairwise(values))


def _counts(sentence: Sequence[Sequence[str]], first: int) -> bool:
    numbers = [fields[0] for fields in sentence if not NOT_A_WORD.fullmatch(fields[0])]
    return numbers == [str(first + position) for position in range(len(numbers))]


def _guess(layout: Layout, rows: Sequence[Sequence[str]]) -> tuple[Layout, str, bool]:
    """Return the layout with words and tags, what the user should know about it, and whether the tags are unclear."""
    if layout.names in {CONLL_U, CONLL_2012}:
        form, pos = ("FORM", "UPOS") if layout.names == CONLL_U else ("WORD", "NER")
        return replace(layout, word=layout.names.index(form), tag=layout.names.index(pos)), "", False
    columns = [[fields[column] for fields in rows] for column in range(layout.width)]
    entity = [c for c, values in enumerate(columns) if _share(values, _is_tag) > 0.9 and not _are_chunks(values)]
    strong = [column for column in entity if any(map(_TYPED.fullmatch, columns[column]))]
    if layout.number is not None and layout.width == 2 and 1 in entity:
        layout = replace(layout, number=None)  # the words are numbers
    if layout.names:
        return _guess_by_name(layout, strong)
    if layout.number is not None:
        rest = list(range(2, layout.width))
        numbers = [str(layout.first_number + step) for step in range(3)]
        why = f"the first column counts {', '.join(numbers)}, … in every sentence"
        choice = strong if len(rest) > 1 else rest
        if len(choice) > 1:
            why += f", and the columns {_listed(choice)} hold tags"
        elif rest and not choice:
            why += ", and no other column holds tags such as O and B-PER"
        tag = choice[0] if choice else None
        return replace(layout, word=1, tag=tag), why, len(choice) != min(1, len(rest))
    if layout.sentence is not None:
        choice = strong or [layout.width - 1]
        why = "the first column numbers the sentences"
        if len(choice) > 1:
            why += f", and the columns {_listed(choice)} hold tags"
        return replace(layout, word=1, tag=choice[0]), why, len(choice) > 1
    return _guess_plain(layout, columns, entity, strong)


def _guess_plain(
    layout: Layout, columns: Sequence[Sequence[str]], entity: Sequence[int], strong: Sequence[int]
) -> tuple[Layout, str, bool]:
    """Return what `_guess` does for a file without names and numbers: first the word, last its tag, unless in doubt.

    Args:
        layout: The layout so far.
        columns: The values of every column.
        entity: Columns that hold tags of entities, or `O` alone.
        strong: Those of them with a tag other than `O`.
    """
    last = layout.width - 1
    if layout.width == 1:
        return layout, "", False
    if strong == [0] and layout.width == 2 and OUTSIDE in columns[0]:
        return replace(layout, word=1, tag=0), "the first column holds tags such as O and B-PER", False
    inner = [column for column in strong if 0 < column < last]
    holds_tags = last in entity or _is_mostly_outside(columns[last]) or _are_chunks(columns[last])
    if inner and not holds_tags and len(inner) == 1:
        return replace(layout, tag=inner[0]), f"only column {inner[0] + 1} holds tags such as O and B-PER", False
    if inner:
        several = [*inner, last] if holds_tags else inner
        return replace(layout, tag=several[0]), f"the columns {_listed(several)} hold tags", True
    if layout.width > 2 and not holds_tags:
        return layout, f"the lines have {layout.width} columns, and none holds tags such as O and B-PER", True
    return replace(layout, tag=last), "", False


def _guess_by_name(layout: Layout, strong: Sequence[int]) -> tuple[Layout, str, bool]:
    """Return what `_guess` does for a file that names its columns."""
    folded = [name.casefold() for name in layout.names]
    word = next((position for position, name in enumerate(folded) if name in _WORD_NAMES), None)
    tags = [position for position, name in enumerate(folded) if names_tags(name) and position != word]
    best = [position for position in tags if position in strong] or tags
    why = f"the file names its columns {', '.join(layout.names)}"
    if word is None:
        word = 0 if layout.number is None else 1
    if len(best) > 1:
        best = [position for position in best if folded[position] in _BEST_NAMES][:1]
    if best:
        return replace(layout, word=word, tag=best[0]), why, False
    return replace(layout, word=word), why, layout.width > 1


def _is_tag(value: str) -> bool:
    return value == OUTSIDE or _TYPED.fullmatch(value) is not None


def _are_chunks(values: Sequence[str]) -> bool:
    typed = [value for value in values if _TYPED.fullmatch(value)]
    return bool(typed) and _share(typed, lambda value: _CHUNK.fullmatch(value) is not None) > 0.9


def _is_mostly_outside(values: Sequence[str]) -> bool:
    return 2 * values.count(OUTSIDE) > len(values)


def _share(values: Sequence[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, values)) / max(len(values), 1)


def _with_tag(layout: Layout, tag: int | str, *, line: int | None) -> Layout:
    """Return the layout with the column of tags that the recipe gives; ``MISC.name`` is an attribute in it."""
    if isinstance(tag, str) and layout.column(tag) is None:
        column, _, attribute = tag.partition(".")
        position = layout.column(column)
        if attribute and position is not None:
            return replace(layout, tag=position, attribute=attribute)
    return replace(layout, tag=_position(tag, layout, option="tag", line=line), attribute="")


def _position(column: int | str, layout: Layout, *, option: str, line: int | None) -> int:
    """Return the position of a column that the recipe gives."""
    if isinstance(column, str) and not column.isdecimal():
        position = layout.column(column)
        if position is not None:
            return position
        message = f"dataset.options.{option}: the file names no column {column!r}.{did_you_mean(column, layout.names)}"
        named = f"Its columns are {', '.join(layout.names)}." if layout.names else "It does not name its columns."
        raise ColumnsError(_finding("no-such-column", message, fix=f"{named} Or give the number.", line=line))
    number = int(column)
    if not 1 <= number <= layout.width:
        columns = "1 column" if layout.width == 1 else f"{layout.width} columns"
        message = f"dataset.options.{option} is {number}, but the lines have {columns}."
        raise ColumnsError(
            _finding("no-such-column", message, fix="Columns count from 1; a name works, too.", line=line)
        )
    return number - 1


def _unclear(layout: Layout, why: str, *, line: int | None) -> Finding:
    tag = layout.tag if layout.tag is not None else min(layout.word + 1, layout.width - 1)
    word_and_tag = f"{{word: {layout.shown(layout.word)}, tag: {layout.shown(tag)}}}"
    fix = f"Say which columns hold the words and the tags, such as dataset.options: {word_and_tag}."
    return _finding("columns-unclear", f"{why}.", fix=fix, line=line)


def _stated(layout: Layout, why: str, *, line: int | None) -> Finding:
    chosen = f"word: {layout.shown(layout.word)}"
    message = f"{why}. The words are read from column {layout.word + 1}"
    if layout.tag is not None:
        chosen += f", tag: {layout.shown(layout.tag)}"
        message += f", the tags from column {layout.tag + 1}"
    fix = f"To choose, set dataset.options: {{{chosen}}}."
    return _finding("columns-detected", f"{message}.", fix=fix, level="warning", line=line)


def _listed(columns: Sequence[int]) -> str:
    *first, last = [str(column + 1) for column in columns]
    return f"{', '.join(first)} and {last}" if first else last


def _finding(code: str, message: str, *, level: Literal["error", "row", "warning"] = "error", **rest: Any) -> Finding:
    return Finding(code=code, message=message, level=level, **rest)
