"""What the values of a column look like, and how well they fit a kind of values of `finetune.interfaces.Values`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune.data.cells import parse_cell
from finetune.errors import listed

MOST_CHARACTERS = 2_000
"""Characters of a text in which words are counted."""
LONGEST_LABEL = 60
"""Most characters of a label, on average."""
MOST_LABELS = 200
"""Most different labels that are likely."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_TAG = re.compile(r"O|[BIESLU]-\S+|[A-Z]{1,6}[$.,:'`]*|-?LRB-|-?RRB-|\d+|[.,:'`$#]+")
_LETTER = re.compile("[A-Za-z]")
_ONES = frozenset({"1", "1.0", "true"})
_BITS = _ONES | {"0", "0.0", "false"}
_NO_PROSE = re.compile(
    r"\S+@\S+\.\w+|https?://\S+|\d{4}-\d\d-\d\d.*|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}.*|[0-9a-f-]{16,}|"
    r"(mon|tue|wed|thu|fri|sat|sun)[a-z]*,? .*\d{4}|"
    r"\d{1,2} (jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* \d{4}.*",
    re.IGNORECASE,
)
"""Addresses, dates and digests."""
_WORDS_TRUE = frozenset({"true", "false", "0", "1", "yes", "no"})
_SEPARATORS = ("|", ";", ",")
_MOST = 0.9
"""Share of the values that must have a form."""


@dataclass(frozen=True)
class Fit:
    """How well a column fits a kind of values."""

    score: float
    """0 if it cannot be; near 0 if it is unlikely; 1 if it fits."""
    why: str = ""
    """What the values look like: ``"5 different values: 1, 2, 3, 4, 5"``."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What else was found out: ``{"separator": "|"}``."""


NO = Fit(0.0)


@dataclass(frozen=True, kw_only=True)
class Column:
    """The values of a column in some rows of a data set."""

    name: str
    values: tuple[Any, ...]
    """Those that are not empty; a cell of text that holds a list or a mapping is read as one."""
    rows: int
    """How many rows there are, empty values included."""

    @property
    def texts(self) -> list[str]:
        """The values that are text."""
        return [value for value in self.values if isinstance(value, str)]

    def share(self, test: Callable[[Any], bool]) -> float:
        """Return the share of the values for which a test is true; 0 without values."""
        return sum(map(test, self.values)) / len(self.values) if self.values else 0.0

    def fit(self, kind: str) -> Fit:
        """Return how well the values fit a kind; an unknown kind is like ``any``."""
        if not self.values:
            return NO
        return _KINDS.get(kind, _any)(self)


def column(name: str, values: Sequence[Any]) -> Column:
    """Return a column from its values, one for each row."""
    kept = []
    for value in values:
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        kept.append(_parsed(value))
    return Column(name=name, values=tuple(kept), rows=len(values))


def _parsed(value: Any) -> Any:
    """Return what a cell holds as JSON or as a Python literal, if it is a list or a mapping."""
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{") or len(value) > 100_000:
        return value
    try:
        found = parse_cell(value)
    except ValueError:
        return value
    return found if isinstance(found, list | dict) else value


def is_number(value: Any) -> bool:
    """Return whether a value is a number, also one that is written as text."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float):
        return True
    return isinstance(value, str) and _NUMBER.fullmatch(value.strip()) is not None


def _is_whole(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return is_number(value) and _WHOLE.fullmatch(str(value).strip()) is not None


def _words(text: str) -> int:
    return len(text[:MOST_CHARACTERS].split())


def _mean_words(column: Column) -> float:
    texts = column.texts
    return sum(map(_words, texts)) / len(texts) if texts else 0.0


def _is_list_of(of: type | tuple[type, ...]) -> Callable[[Any], bool]:
    def test(value: Any) -> bool:
        return isinstance(value, list | tuple) and all(isinstance(part, of) for part in value)

    return test


def _any(column: Column) -> Fit:
    first = column.values[0]
    if isinstance(first, str):
        return Fit(0.8, f"texts of about {_mean_words(column):.0f} words")
    return Fit(
        0.8, f"{'lists' if isinstance(first, list | tuple) else 'objects' if isinstance(first, dict) else 'values'}"
    )


def _text(column: Column) -> Fit:
    if column.share(lambda value: isinstance(value, str) and not is_number(value)) < _MOST:
        return NO
    if column.share(lambda value: _NO_PROSE.fullmatch(value.strip()) is not None) >= _MOST:
        return NO
    words = _mean_words(column)
    different = len(set(column.texts)) / len(column.values)
    score = min(1.0, words / 4) * (0.2 + 0.8 * min(1.0, 2 * different))
    return Fit(max(score, 0.05), f"texts of about {max(words, 1):.0f} word{'s' if words >= 1.5 else ''}")


def _phrase(column: Column) -> Fit:
    if column.share(lambda value: isinstance(value, str | int | float) and not isinstance(value, bool)) < _MOST:
        return NO
    words = _mean_words(column)
    return Fit(1.0 if words <= 30 else 0.3, f"texts of about {max(words, 1):.0f} word{'s' if words >= 1.5 else ''}")


def _summary(column: Column) -> Fit:
    if column.share(_is_list_of(str)) >= _MOST:
        return Fit(0.8, "a list of texts")
    return _text(column)


def _label(column: Column) -> Fit:
    if column.share(lambda value: isinstance(value, str | int | float | bool)) < _MOST:
        return NO
    numbers = column.share(is_number) == 1
    if numbers and column.share(_is_whole) < 1:
        return NO
    texts = list(map(str, column.values))
    if sum(map(len, texts)) / len(texts) > LONGEST_LABEL:
        return NO
    counts = Counter(text.strip() for text in texts)
    names = sorted(counts, key=_in_order)
    why = f"{len(counts)} different value{'s' if len(counts) > 1 else ''}: {listed(names, most=6)}"
    repeats = 1 - len(counts) / len(texts)
    if len(counts) < 2 or (len(texts) >= 20 and repeats < 0.5) or len(counts) > max(MOST_LABELS, len(texts) // 50):
        return Fit(0.02, why)
    return Fit(max(0.1, min(1.0, repeats * 1.2)), why)


def _in_order(name: str) -> tuple[float, str]:
    return (float(name), "") if is_number(name) else (float("inf"), name)


def _number(column: Column) -> Fit:
    if column.share(is_number) < _MOST:
        return NO
    numbers = [float(value) for value in column.values if is_number(value)]
    different = len(set(numbers))
    why = f"{different} different numbers from {min(numbers):g} to {max(numbers):g}"
    if different < 3:
        return Fit(0.02, why)
    if column.share(_is_whole) < 1:
        return Fit(1.0, why)
    return Fit(0.9 if different > 20 else 0.4, why)


def _boolean(column: Column) -> Fit:
    found = {str(value).strip().casefold() for value in column.values}
    if not found <= _WORDS_TRUE or len(found) > 2:
        return NO
    return Fit(1.0, f"{' and '.join(sorted(found))}")


def _offset(column: Column) -> Fit:
    def is_offset(value: Any) -> bool:
        return _is_whole(value) or (isinstance(value, str) and re.fullmatch(r"\(\d+, ?\d+\)", value) is not None)

    return Fit(1.0, "whole numbers") if column.share(is_offset) >= _MOST else NO


def _index(column: Column) -> Fit:
    if column.share(_is_whole) < 1:
        return NO
    numbers = {int(float(value)) for value in column.values}
    if min(numbers) < 0 or max(numbers) > 25:
        return NO
    return Fit(1.0 if 0 in numbers else 0.4, f"positions from {min(numbers)} to {max(numbers)}")


def _ordinal(column: Column) -> Fit:
    if column.share(_is_whole) < 1:
        return NO
    numbers = {int(float(value)) for value in column.values}
    if min(numbers) < 1 or max(numbers) > 26:
        return NO
    return Fit(1.0, f"positions from {min(numbers)} to {max(numbers)}")


def _letter(column: Column) -> Fit:
    def is_letter(value: Any) -> bool:
        return _LETTER.fullmatch(str(value).strip()) is not None

    if column.share(is_letter) < _MOST:
        return NO
    letters = sorted({str(value).strip() for value in column.values if is_letter(value)})
    return Fit(1.0, f"letters: {', '.join(letters)}")


def _bit(column: Column) -> Fit:
    found = {str(value).strip().casefold() for value in column.values}
    is_whole = len(column.values) >= _MOST * column.rows
    if not is_whole or not found <= _BITS or len({value in _ONES for value in found}) < 2:
        return NO
    return Fit(1.0, f"{' and '.join(sorted(found))}")


def _labels(column: Column) -> Fit:
    if column.share(_is_list_of((str, int, float))) >= _MOST:
        counts = Counter(str(part) for value in column.values if isinstance(value, list | tuple) for part in value)
        total = sum(counts.values())
        if not counts or (total >= 20 and len(counts) > total / 2):
            return Fit(0.05, "lists")
        return Fit(1.0, f"lists of {len(counts)} different values: {listed(sorted(counts), most=6)}")
    if column.share(lambda value: isinstance(value, str)) < _MOST:
        return NO
    for separator in _SEPARATORS:
        parts = [[part.strip() for part in text.split(separator)] for text in column.texts]
        several = sum(len(part) > 1 for part in parts) / len(parts)
        counts = Counter(part for each in parts for part in each if part)
        total = sum(counts.values())
        short = all(len(name.split()) <= 4 and len(name) <= LONGEST_LABEL for name in counts)
        if several >= 0.1 and short and len(counts) <= max(3, total / 3):
            why = f"{len(counts)} different values, joined by {separator!r}: {listed(sorted(counts), most=6)}"
            return Fit(1.0, why, {"separator": separator})
    return Fit(0.02, "texts")


def _of_words(column: Column) -> Fit:
    if column.share(_is_list_of(str)) >= _MOST:
        return Fit(1.0, "lists of words")
    return Fit(0.3, "texts of words with spaces") if _text(column).score > 0.2 else NO


def _tags(column: Column) -> Fit:
    if column.share(_is_list_of((str, int))) >= _MOST:
        parts = [str(part) for value in column.values if isinstance(value, list | tuple) for part in value]
    elif column.share(lambda value: isinstance(value, str)) >= _MOST:
        parts = [part for text in column.texts for part in text.split()]
        if not all(_TAG.fullmatch(part) for part in parts[:200]):
            return NO
    else:
        return NO
    counts = Counter(parts)
    if len(parts) >= 20 and len(counts) > max(60, len(parts) / 20):
        return NO
    common = [name for name, _ in counts.most_common()]
    return Fit(1.0 if all(_TAG.fullmatch(part) for part in counts) else 0.6, f"tags: {listed(common, most=6)}")


def _dicts(column: Column, keys: Sequence[set[str]]) -> bool:
    def test(value: Any) -> bool:
        parts = value if isinstance(value, list | tuple) else [value]
        return bool(parts) and all(isinstance(p, dict) and any(wanted <= p.keys() for wanted in keys) for p in parts)

    return column.share(test) >= _MOST


def _messages(column: Column) -> Fit:
    return Fit(1.0, "lists of {role, content}") if _dicts(column, [{"role", "content"}]) else NO


def _turns(column: Column) -> Fit:
    return Fit(1.0, "lists of {from, value}") if _dicts(column, [{"from", "value"}]) else NO


def _answers(column: Column) -> Fit:
    def is_empty(value: Any) -> bool:
        return isinstance(value, list | tuple) and not value

    filled = Column(name="", values=tuple(v for v in column.values if not is_empty(v)), rows=0)
    found = _dicts(filled, [{"text", "answer_start"}, {"text", "start"}])
    return Fit(1.0, "texts with their first characters") if filled.values and found else NO


def _lists(column: Column) -> Fit:
    lists: list[list[str]] = []
    for value in column.values:
        texts = value.get("text") if isinstance(value, dict) else value
        if isinstance(texts, list | tuple) and _is_list_of(str)(texts):
            lists.append(list(texts))
    if len(lists) < _MOST * len(column.values):
        return NO
    sizes = Counter(map(len, lists))
    usual, times = sizes.most_common(1)[0]
    if usual < 2:
        return NO
    return Fit(times / len(column.values), f"lists of {usual} texts")


def _pair(column: Column) -> Fit:
    first = column.values[0]
    if not isinstance(first, dict):
        return NO
    keys = [key for key, value in first.items() if isinstance(value, str)]
    if len(keys) < 2 or not _dicts(column, [set(keys[:2])]):
        return NO
    return Fit(1.0, f"texts in {' and '.join(keys)}", {"first": keys[0], "second": keys[1]})


_KINDS: dict[str, Callable[[Column], Fit]] = {
    "text": _text,
    "phrase": _phrase,
    "summary": _summary,
    "label": _label,
    "labels": _labels,
    "number": _number,
    "boolean": _boolean,
    "offset": _offset,
    "index": _index,
    "ordinal": _ordinal,
    "bit": _bit,
    "letter": _letter,
    "words": _of_words,
    "tags": _tags,
    "messages": _messages,
    "turns": _turns,
    "texts": _lists,
    "answers": _answers,
    "pair": _pair,
}
"""Kind → function that says how well the values of a column fit it."""
