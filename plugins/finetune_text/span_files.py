"""Files of texts with marked spans, as annotation tools write them: doccano, Label Studio, Prodigy, spaCy."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, NamedTuple

from finetune.interfaces import Finding, Reader, ReadRow, Row
from finetune.kit import JsonArrayReader, JsonLinesReader, is_blank
from finetune_text import words
from finetune_text.tags import Entity, write
from finetune_text.token_checks import TAGS
from finetune_text.words import SPACE_AFTER, TOKENS

_COLUMNS = ("spans", "entities", "label", "labels")
"""Names of the column of spans, in the order in which they are looked for."""
_STARTS, _ENDS = ("start", "start_offset"), ("end", "end_offset")
_LABELS = ("label", "labels")
_AS_LIST = r"\[\s*\[\s*\d+\s*,\s*\d+\s*,\s*\""
_AS_OBJECT = r"\[\s*\{(?=[^{}]*\"(?:start|start_offset)\"\s*:\s*\d)(?=[^{}]*\"labels?\"\s*:)"
_RECOGNISED = (
    re.compile(rf'"(?:{"|".join(_COLUMNS)})"\s*:\s*(?:{_AS_LIST}|{_AS_OBJECT})'),
    re.compile(r'"(?:annotations|completions)"\s*:\s*\[\s*\{.*"result"\s*:', re.DOTALL),
)
_PAIRS_UNDER_KEY = re.compile(r'"annotations"\s*:\s*\[\s*\[')
_LEFT_OUT = ("reject", "ignore")


class _Span(NamedTuple):
    """One marked span, with the text that the file says it holds, if it does."""

    start: int
    end: int
    label: str
    text: str | None


class _SpanError(ValueError):
    """A row cannot be read; carries what the finding says."""

    def __init__(self, code: str, message: str, fix: str, value: str | None = None) -> None:
        super().__init__(message)
        self.code, self.fix, self.value = code, fix, value


@dataclass(frozen=True, kw_only=True)
class SpansReader(Reader):
    """Reads texts with spans as words with tags in BIO.

    ``{"text": "Zoë sails.", "entities": [[0, 3, "PER"]]}`` becomes ``{"text": "Zoë sails.",
    "tokens": ["Zoë", "sails", "."], "ner_tags": ["B-PER", "O", "O"], "space_after": [true, false,
    true]}``.

    It reads JSON lines and JSON arrays of doccano (`label`, or `entities` with `start_offset`),
    spaCy (`entities`; in version 2 a pair, ``["Zoë sails.", {"entities": […]}]``), Prodigy (`spans`,
    with its own `tokens`; rejected and ignored rows are left out) and Label Studio (its JSON and
    JSON-MIN exports). A span is ``[start, end, label]`` or an object with these keys, and counts
    characters from 0. Other columns are kept if they hold text or numbers.

    A row is a finding if a span begins or ends inside a word, shares a word with another span, or
    lies outside the text.
    """

    text: str = "text"
    """The column of texts; for Label Studio, the key in `data`."""
    spans: str | None = None
    """The column of spans; by default `spans`, `entities`, `label` or `labels`."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".json", ".ndjson")

    def recognises(self, head: str) -> bool:
        """Say whether a file begins with marked spans; other readers take these suffixes, too."""
        return any(pattern.search(head) for pattern in _RECOGNISED)

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[ReadRow | Finding]:
        """Yield every text with the line where it begins, or a finding in its place."""
        pieces = iter(text)
        head = next(pieces, "")
        begin = head.lstrip()
        is_array = begin.startswith("[") and not begin[1:].lstrip().startswith('"')  # else a pair on each line
        is_array = is_array or _PAIRS_UNDER_KEY.search(head) is not None
        reader = JsonArrayReader(from_list=_from_pair) if is_array else JsonLinesReader(from_list=_from_pair)
        for item in reader.rows(chain([head], pieces), file=file):
            if isinstance(item, Finding):
                yield item
                continue
            line, row = item[:2]
            path = item[2] if len(item) > 2 else None
            if row.get("answer") in _LEFT_OUT and ("spans" in row or "_task_hash" in row):
                message = f"the answer is {row['answer']!r}, so the row is left out."
                yield Finding(
                    code="answer-not-accepted", message=message, level="warning", column="answer", line=line, path=path
                )
                continue
            try:
                made = self._row(row)
                yield (line, made) if path is None else (line, made, path)
            except _SpanError as error:
                yield Finding(
                    code=error.code, message=str(error), fix=error.fix, column=self.spans or _column(row), line=line,
                    value=error.value, path=path,
                )  # fmt: skip

    def _row(self, row: Row) -> Row:
        """Return the words and tags of one row, and its columns of text and numbers."""
        name = self.spans or _column(row)
        rest = {key: value for key, value in row.items() if value is None or isinstance(value, str | int | float)}
        if isinstance(row.get("data"), Mapping):
            text, spans = row["data"].get(self.text), _label_studio(row)
            rest |= {key: value for key, value in row["data"].items() if isinstance(value, str | int | float)}
        else:
            text, given = row.get(self.text), row.get(name) if name else None
            spans = None if given is None else _spans(given)
        if not isinstance(text, str):
            keys = ", ".join(map(repr, row["data"] if isinstance(row.get("data"), Mapping) else row))
            message = f"the row has no text under the key {self.text!r}. Its keys are {keys}."
            raise _SpanError("text-missing", message, "Name the key of the text: dataset.options: {text: NAME}.")
        places = _places(row, text)
        tags = None if spans is None else _tags(text, places, spans)
        made = {
            TOKENS: [text[start:end] for start, end in places], TAGS: tags, SPACE_AFTER: words.spaces_between(places),
        }  # fmt: skip
        return {**{key: value for key, value in rest.items() if key != name}, **made}


def _from_pair(pair: list[Any]) -> Row:
    """Return the row of a pair of spaCy 2; anything else is a row without text.

    >>> _from_pair(["Zoë sails.", {"entities": [[0, 3, "PER"]]}])
    {'text': 'Zoë sails.', 'entities': [[0, 3, 'PER']]}
    """
    if len(pair) == 2 and isinstance(pair[1], dict):
        return {"text": pair[0], **pair[1]}
    return {}


def _column(row: Row) -> str | None:
    """Return the column of spans of a row."""
    for name in _COLUMNS:
        if isinstance(row.get(name), list):
            return name
    return None


def _spans(given: Any) -> list[_Span]:
    if not isinstance(given, list):
        raise _unreadable(given)
    spans: list[_Span] = []
    for one in given:
        spans += _read(one)
    return spans


def _read(one: Any) -> list[_Span]:
    """Return a span as the file writes it; one with several labels is several spans."""
    if isinstance(one, Mapping):
        start, end = _first(one, _STARTS), _first(one, _ENDS)
        label, text = _first(one, _LABELS), one.get("text")
    elif isinstance(one, list) and len(one) >= 3:
        start, end, label = one[:3]
        text = None
    else:
        raise _unreadable(one)
    labels = label if isinstance(label, list) else [label]
    numbers = isinstance(start, int) and isinstance(end, int) and not isinstance(start, bool)
    if not numbers or not labels or not all(isinstance(name, str) and name for name in labels):
        raise _unreadable(one)
    return [_Span(start, end, name, text if isinstance(text, str) else None) for name in labels]


def _first(mapping: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((mapping[name] for name in names if name in mapping), None)


def _unreadable(value: Any) -> _SpanError:
    fix = 'Write [start, end, "label"] or {"start": …, "end": …, "label": …}, with whole numbers.'
    return _SpanError("span-not-read", "a span has no start, end and label.", fix, str(value))


def _label_studio(row: Row) -> list[_Span] | None:
    """Return the spans of a task of Label Studio; None if it has no annotation.

    Raises:
        _SpanError: Two annotations of the task differ, and none is the ground truth.
    """
    given = row.get("annotations", row.get("completions"))
    if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
        return None
    done = [one for one in given if not one.get("was_cancelled")]
    truth = [one for one in done if one.get("ground_truth")]
    found: list[list[_Span]] = []
    for annotation in truth or done:
        spans: list[_Span] = []
        results = annotation.get("result")
        for result in results if isinstance(results, list) else ():
            if isinstance(result, Mapping) and result.get("type", "labels") == "labels":
                spans += _read(result.get("value"))
        found.append(spans)
    if any(set(spans) != set(found[0]) for spans in found):
        message = f"{len(found)} annotations of this text differ."
        raise _SpanError("annotations-differ", message, "Mark one as the ground truth, or delete the others.")
    return found[0] if found else None


def _places(row: Row, text: str) -> list[tuple[int, int]]:
    """Return where the words are: the tokens of Prodigy, or what `words.split` finds."""
    tokens = row.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, Mapping) for token in tokens):
        return words.split(text)
    places: list[tuple[int, int]] = []
    for token in tokens:
        start, end = token.get("start"), token.get("end")
        after = places[-1][1] if places else 0
        inside = isinstance(start, int) and isinstance(end, int) and after <= start < end
        if not inside or text[start:end] != token.get("text", text[start:end]):
            message = f"the token {token.get('text')!r} is not in the text from {start} to {end}."
            raise _SpanError("token-misplaced", message, "Write the tokens of this text again.", str(token))
        if not is_blank(text[start:end]):
            places.append((start, end))
    return places


def _tags(text: str, places: Sequence[tuple[int, int]], spans: Sequence[_Span]) -> list[str]:
    """Return the tag of every word in BIO.

    Raises:
        _SpanError: A span cannot be written as tags of whole words.
    """
    starts = [start for start, _ in places]
    ends = [end for _, end in places]
    found: dict[Entity, _Span] = {}
    for span in sorted(_in_characters(spans, text), key=lambda span: span[:3]):
        first = bisect_right(ends, span.start)
        last = bisect_left(starts, span.end) - 1
        if last < first:
            raise _SpanError("span-empty", f"{_shown(span, text)} holds no word.", "Remove it.")
        begin, end = starts[first], ends[last]
        if begin < span.start or end > span.end:
            place, word = ("begins", first) if begin < span.start else ("ends", last)
            message = f"{_shown(span, text)} {place} inside the word {text[starts[word] : ends[word]]!r}."
            fix = f"Mark whole words, here from {begin} to {end}, or drop the row."
            positions = _positions(text)
            begin16, end16 = positions.get(span.start), positions.get(span.end)
            if begin16 in starts and end16 in ends:
                fix = f"Count a character such as an emoji as one, not as two: here from {begin16} to {end16}."
            raise _SpanError("span-cuts-word", message, fix, text[begin:end])
        entity = Entity(span.label, first, last)
        for other, earlier in list(found.items())[-1:]:  # spans are in order
            if entity != other and other.last_word >= first:
                message = f"{_shown(earlier, text)} and {_shown(span, text)} share a word."
                raise _SpanError("spans-overlap", message, "Keep one of them: a word has one tag.", text[begin:end])
        found[entity] = span
    return write(list(found), len(places), "BIO")


def _in_characters(spans: Sequence[_Span], text: str) -> list[_Span]:
    """Return the spans of a text with offsets that count characters of Python.

    Older files of Label Studio count as JavaScript does: a character beyond U+FFFF, such as an
    emoji, is two. The text of the spans tells which it is.

    Raises:
        _SpanError: A span is not inside the text, or holds another text than it says.
    """
    if all(_fits(span, text) for span in spans):
        return list(spans)
    positions = _positions(text)
    counted = []
    for span in spans:
        start, end = positions.get(span.start, -1), positions.get(span.end, -1)
        counted.append(_Span(start=start, end=end, label=span.label, text=span.text))
    if all(span.text is not None and _fits(span, text) for span in counted):
        return counted
    wrong = next(span for span in spans if not _fits(span, text))
    if not 0 <= wrong.start < wrong.end <= len(text):
        place = f"the span from {wrong.start} to {wrong.end} ({wrong.label})"
        message = f"{place} is not inside the text, which ends at {len(text)}."
        raise _SpanError("span-outside-text", message, "Offsets count characters from 0; the end is not included.")
    holds = text[wrong.start : wrong.end]
    message = f"the span from {wrong.start} to {wrong.end} holds {holds!r}, but its text is {wrong.text!r}."
    raise _SpanError("span-text-differs", message, "Correct the offsets: they count characters from 0.")


def _positions(text: str) -> dict[int, int]:
    """Return where each character is that begins at an offset as JavaScript counts them, and the end of the text."""
    positions: dict[int, int] = {}
    unit = 0
    for position, character in enumerate(text):
        positions[unit] = position
        unit += 2 if ord(character) > 0xFFFF else 1
    positions[unit] = len(text)
    return positions


def _fits(span: _Span, text: str) -> bool:
    inside = 0 <= span.start < span.end <= len(text)
    return inside and span.text in {None, text[span.start : span.end]}


def _shown(span: _Span, text: str) -> str:
    return f"the span {text[span.start : span.end]!r} ({span.label})"
