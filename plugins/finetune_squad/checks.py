"""What can be wrong with questions, contexts and answers, found before any model is loaded."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from finetune.interfaces import Finding, Row
from finetune.kit import check_text, is_blank
from finetune_squad.answers import FLAT, NESTED, MalformedAnswers, answers_of
from finetune_squad.spans import has_surrogate

Answers = list[tuple[str, int]]
_UNITS = (("utf-8", "bytes of UTF-8", 1), ("utf-16-le", "UTF-16 units, as JavaScript does", 2))
"""Encoding, its name in messages, and how many bytes one unit has."""


@dataclass
class _Seen:
    """What earlier rows of the split held."""

    ids: dict[str, int] = field(default_factory=dict)
    """Id → row."""
    answers: dict[tuple[str, str], tuple[int, frozenset[str]]] = field(default_factory=dict)
    """Question and context → the first row with both, and the texts of its answers."""


def check_examples(
    examples: Sequence[Row], *, flat: bool = False, allow_unanswerable: bool = True
) -> Iterator[Finding]:
    """Yield what is wrong with the examples of one split, in order; then what concerns several of them.

    Args:
        examples: The rows.
        flat: Whether answers are in plain columns.
        allow_unanswerable: Whether a question may have no answer.
    """
    column = FLAT[0] if flat else NESTED
    seen = _Seen()
    several = spaced = 0
    for row, example in enumerate(examples):
        yield from _check_id(row, example, seen)
        problems = list(_check_texts(row, example))
        yield from problems
        if problems:
            continue
        try:
            answers = answers_of(example, flat=flat)
        except MalformedAnswers as error:
            yield error.finding(row, column)
            continue
        if answers is None:
            continue
        texts = {text for text, _ in answers}
        several += len(texts) > 1
        spaced += any(text != text.strip() and not is_blank(text) for text in texts)
        yield from _check_answers(row, example, answers, column=column, allow_unanswerable=allow_unanswerable)
        yield from _check_conflict(row, example, answers, seen)
    if several:
        message = f"{several:,} questions have several different answers; training uses the first, scoring all."
        yield Finding(code="several-answers", message=message, level="warning", column=column)
    if spaced:
        message = f"{spaced:,} questions have answers with white space at an end; the labels leave it out."
        yield Finding(code="answer-outer-space", message=message, level="warning", column=column)


def _check_id(row: int, example: Row, seen: _Seen) -> Iterator[Finding]:
    if example.get("id") in (None, ""):
        return
    name = str(example["id"])
    if name in seen.ids:
        yield Finding(
            code="duplicate-id",
            message=f"row {seen.ids[name]} (counted from 0) has the same id: predictions are kept by id.",
            fix="Give every question its own id, or leave the column out.",
            level="error",
            row=row,
            column="id",
            value=name,
        )
    seen.ids.setdefault(name, row)


def _check_texts(row: int, example: Row) -> Iterator[Finding]:
    for column in ("question", "context"):
        for finding in check_text(example.get(column), row=row, column=column, name=column):
            yield replace(finding, level="row")  # a bad question can be dropped; the others stay usable


def _check_answers(
    row: int, example: Row, answers: Answers, *, column: str, allow_unanswerable: bool
) -> Iterator[Finding]:
    impossible = example.get("is_impossible")
    if answers and impossible in (True, "true", "True"):
        yield Finding(
            code="impossible-with-answer",
            message="is_impossible is true, and there is an answer.",
            fix="Correct is_impossible, or take the answer out.",
            row=row,
            column="is_impossible",
            value=answers[0][0],
        )
    if not answers and impossible in (False, "false", "False"):
        yield Finding(
            code="possible-without-answer",
            message="is_impossible is false, and there is no answer.",
            fix="Correct is_impossible, or give the answer.",
            row=row,
            column=column,
        )
    elif not answers and not allow_unanswerable:
        yield Finding(
            code="no-answer",
            message="the question has no answer, and preprocessor.allow_unanswerable is false.",
            fix="Give the answer, or set preprocessor.allow_unanswerable: true.",
            row=row,
            column=column,
        )
    for number, (text, start) in enumerate(answers):
        place = column if column == FLAT[0] else f"{column}.text[{number}]"
        finding = _check_answer(row, example["context"], text, start, place)
        if finding is not None:
            yield finding


def _check_answer(row: int, context: str, text: str, start: int, column: str) -> Finding | None:
    if is_blank(text):
        return Finding(
            code="answer-empty",
            message="the answer has no visible character.",
            fix="Write the answer, or leave the lists empty for no answer.",
            row=row,
            column=column,
            value=ascii(text),
        )
    end = start + len(text)
    if start < 0 or end > len(context):
        return Finding(
            code="answer-outside-context",
            message=f"the answer would be at characters {start} to {end}; the context has {len(context)}.",
            fix=_right_place(context, text, start) if start < 0 else _diagnosis(context, text, start)[1],
            row=row,
            column=column,
            value=text,
        )
    if context.startswith(text, start):
        return None
    code, fix = _diagnosis(context, text, start)
    return Finding(
        code=code,
        message=f"the answer is {_short(text)}, but at answer_start={start} the context says "
        f"{_short(context[start:end])}.",
        fix=fix,
        row=row,
        column=column,
        value=text,
    )


def _diagnosis(context: str, text: str, start: int) -> tuple[str, str]:
    """Return a code and a fix for an answer that is not at its offset."""
    if has_surrogate(text):
        return "answer-surrogate", "Remove the half of a surrogate pair from the answer."
    for encoding, unit, size in _UNITS:
        data, wanted = context.encode(encoding), text.encode(encoding)
        if data[start * size :].startswith(wanted):
            right = len(data[: start * size].decode(encoding, "ignore"))
            return "answer-not-at-offset", f"answer_start counts {unit}; in characters it is {right}. Recount all."
    if text not in context:
        for form in ("NFC", "NFD"):
            if unicodedata.normalize(form, text) in context:
                fix = f"The context is in Unicode form {form}, the answer is not: normalize both the same way."
                return "answer-in-other-unicode-form", fix
    unix = context.replace("\r\n", "\n")
    if unix != context and unix.startswith(text, start):
        right = len(context) - len(unix[start:].replace("\n", "\r\n"))
        return "answer-not-at-offset", f"answer_start counts each line end as one character; here it is {right}."
    return "answer-not-at-offset", _right_place(context, text, start)


def _right_place(context: str, text: str, start: int) -> str:
    count = context.count(text)
    if count == 1:
        return f"It occurs once in the context, at {context.index(text)}: set answer_start to {context.index(text)}."
    if count:
        places = (match.start() for match in re.finditer(re.escape(text), context))
        nearest = min(places, key=lambda place: abs(place - start))
        return f"It occurs {count} times in the context, nearest at {nearest}: choose the right place, or drop the row."
    return "The context does not hold it at all: correct the answer, or drop the row (dataset.on_bad: drop)."


def _check_conflict(row: int, example: Row, answers: Answers, seen: _Seen) -> Iterator[Finding]:
    texts = frozenset(text.strip() for text, _ in answers)
    key = (example["question"].strip(), example["context"])
    other, before = seen.answers.setdefault(key, (row, texts))
    if other != row and before != texts and before.isdisjoint(texts):
        yield Finding(
            code="conflicting-answers",
            message=f"row {other} (counted from 0) has the same question and context, and another answer.",
            level="warning",
            row=row,
            column="question",
            value=example["question"],
        )


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}…")
