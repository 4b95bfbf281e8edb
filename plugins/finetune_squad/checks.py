"""What can be wrong with questions, contexts and answers: found, named, and explained before any model is loaded."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from finetune.interfaces import Finding, Row
from finetune_squad.answers import FLAT, NESTED, Malformed, answers_of


def findings(examples: Sequence[Row], *, flat: bool = False, allow_unanswerable: bool = True) -> Iterator[Finding]:
    """Yield what is wrong with the examples of one split, in order; what concerns several of them, last."""
    seen_ids: dict[str, int] = {}
    asked: dict[tuple[str, str], tuple[int, frozenset[str]]] = {}
    several = spaced = 0
    for row, example in enumerate(examples):
        yield from _id(row, example, seen_ids)
        problems = list(_texts(row, example))
        yield from problems
        if problems:
            continue
        column = FLAT[0] if flat else NESTED
        try:
            answers = answers_of(example, flat=flat)
        except Malformed as error:
            yield Finding(
                code=error.code, message=str(error), fix=error.fix, row=row, column=column, value=repr(error.value)
            )
            continue
        if answers is None:
            continue
        several += len({text for text, _ in answers}) > 1
        spaced += any(text != text.strip() and _seen(text) for text, _ in answers)
        yield from _answers(row, example, answers, column=column, allow_unanswerable=allow_unanswerable)
        yield from _conflict(row, example, answers, asked)
    for code, count, what in (
        ("several-answers", several, "several different answers; training uses the first, scoring all"),
        ("answer-outer-space", spaced, "answers with white space at an end; the labels leave it out"),
    ):
        if count:
            message = f"{count:,} questions have {what}."
            yield Finding(code=code, message=message, level="warning", column=FLAT[0] if flat else NESTED)


def _id(row: int, example: Row, seen: dict[str, int]) -> Iterator[Finding]:
    if example.get("id") in (None, ""):
        return
    name = str(example["id"])
    if name in seen:
        yield Finding(
            code="duplicate-id",
            message=f"row {seen[name]} (counted from 0) has this id, too: predictions are kept by id.",
            fix="Give every question an id of its own, or leave the column out.",
            level="error",
            row=row,
            column="id",
            value=name,
        )
    seen.setdefault(name, row)


def _texts(row: int, example: Row) -> Iterator[Finding]:
    for column in ("question", "context"):
        text = example.get(column)
        if not isinstance(text, str):
            message, code = f"the {column} is {type(text).__name__}, not text.", f"{column}-not-text"
        elif not _seen(text):
            message, code = f"the {column} holds no visible character.", f"{column}-empty"
        elif not _unicode(text):
            message, code = f"the {column} holds half a surrogate pair, which is no character.", "not-unicode"
        else:
            continue
        fix = "Write the text, or drop the row (dataset.on_bad: drop)."
        yield Finding(code=code, message=message, fix=fix, row=row, column=column, value=ascii(text))


def _answers(
    row: int, example: Row, answers: list[tuple[str, int]], *, column: str, allow_unanswerable: bool
) -> Iterator[Finding]:
    impossible = example.get("is_impossible")
    if impossible in (True, "true", "True") and answers:
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
        yield from _answer(row, example["context"], text, start, place)


def _answer(row: int, context: str, text: str, start: int, place: str) -> Iterator[Finding]:
    if not _seen(text):
        yield Finding(
            code="answer-empty",
            message="the answer holds no visible character.",
            fix="Write the answer, or leave the lists empty for no answer.",
            row=row,
            column=place,
            value=ascii(text),
        )
    elif start < 0 or start + len(text) > len(context):
        yield Finding(
            code="answer-outside-context",
            message=f"the answer would stand at characters {start} to {start + len(text)}; the context has "
            f"{len(context)}.",
            fix=_right_place(context, text, start) if start < 0 else _diagnosis(context, text, start)[1],
            row=row,
            column=place,
            value=text,
        )
    elif not context.startswith(text, start):
        code, fix = _diagnosis(context, text, start)
        yield Finding(
            code=code,
            message=f"the answer is {_short(text)}, and at answer_start={start} the context says "
            f"{_short(context[start : start + len(text)])}.",
            fix=fix,
            row=row,
            column=place,
            value=text,
        )


def _diagnosis(context: str, text: str, start: int) -> tuple[str, str]:
    """Say why an answer does not stand at its offset, as far as it shows, and what to do."""
    if not _unicode(context) or not _unicode(text):
        return "not-unicode", "Take the half surrogate pair out."
    for encoding, unit, size in (("utf-8", "bytes of UTF-8", 1), ("utf-16-le", "UTF-16 units, as JavaScript", 2)):
        data, wanted = context.encode(encoding), text.encode(encoding)
        if data[start * size :].startswith(wanted):
            right = len(data[: start * size].decode(encoding, "ignore"))
            return "answer-not-at-offset", f"answer_start counts {unit}; in characters it is {right}. Recount all."
    if text not in context:
        for form in ("NFC", "NFD"):
            if unicodedata.normalize(form, text) in context:
                fix = f"The context is in Unicode form {form}, the answer is not: normalise both the same way."
                return "answer-in-other-unicode-form", fix
    if "\r\n" in context and context.replace("\r\n", "\n").startswith(text, start):
        right = len(context) - len(context.replace("\r\n", "\n")[start:].replace("\n", "\r\n"))
        return "answer-not-at-offset", f"answer_start counts each line end as one character; here it is {right}."
    return "answer-not-at-offset", _right_place(context, text, start)


def _right_place(context: str, text: str, start: int) -> str:
    count = context.count(text)
    if count == 1:
        return f"It stands in the context once, at {context.index(text)}: set answer_start to {context.index(text)}."
    if count:
        places = (found.start() for found in re.finditer(re.escape(text), context))
        nearest = min(places, key=lambda place: abs(place - start))
        return f"It stands in the context {count} times, nearest at {nearest}: choose the right place, or drop the row."
    return "It does not stand in the context at all: correct the answer, or drop the row (dataset.on_bad: drop)."


def _conflict(
    row: int, example: Row, answers: list[tuple[str, int]], asked: dict[tuple[str, str], tuple[int, frozenset[str]]]
) -> Iterator[Finding]:
    texts = frozenset(text.strip() for text, _ in answers)
    other, before = asked.setdefault((example["question"].strip(), example["context"]), (row, texts))
    if other != row and not (before & texts or before == texts):
        yield Finding(
            code="conflicting-answers",
            message=f"row {other} (counted from 0) asks the same of the same context, and has another answer.",
            level="warning",
            row=row,
            column="question",
            value=example["question"],
        )


def _seen(text: str) -> bool:
    """Say whether a text holds a visible character: no space, no control, nothing of zero width."""
    return any(not character.isspace() and unicodedata.category(character)[0] not in "CZ" for character in text)


def _unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(text: Any) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}…")
