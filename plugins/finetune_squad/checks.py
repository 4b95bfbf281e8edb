"""What can be wrong with questions, contexts and answers, found before any model is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from finetune.interfaces import Finding, Row
from finetune.kit import check_text, is_blank, special_token_in
from finetune_squad import offsets
from finetune_squad.answers import FLAT, NESTED, Form, MalformedAnswers, Written

_NOT_BY_CHANCE = 5
"""A smaller split can lack answers by chance."""


@dataclass
class _Tally:
    """How many rows have something in common, and the first of them."""

    code: str
    message: str
    """It follows their number."""
    fix: str = ""
    column: str | None = None
    count: int = 0
    first: int | None = None
    value: str | None = None

    def add(self, row: int, value: str) -> None:
        """Count a row."""
        self.count += 1
        if self.first is None:
            self.first, self.value = row, value

    def finding(self) -> Iterator[Finding]:
        """Yield a warning if there are such rows."""
        if self.count:
            yield Finding(
                code=self.code,
                message=f"{self.count:,} {self.message}",
                fix=self.fix,
                level="warning",
                row=self.first,
                column=self.column,
                value=self.value,
            )


MOST_REMEMBERED = 1_000_000
"""Ids and questions that are remembered, to find those that repeat: 100 bytes each."""


class _Remembered:
    """The first row with each of many texts; the memory for them has a limit."""

    def __init__(self) -> None:
        self._rows: dict[bytes, int] = {}
        self.is_full = False
        """Whether a text was not remembered, because there are too many."""

    def first(self, row: int, *texts: str) -> int:
        """Return the first row with some texts: this one, or an earlier one."""
        key = _digest("\0".join(texts))
        if key in self._rows:
            return self._rows[key]
        if len(self._rows) < MOST_REMEMBERED:
            self._rows[key] = row
        else:
            self.is_full = True
        return row


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class _Seen:
    """What the rows of the split so far held."""

    def __init__(self, column: str) -> None:
        self.ids = _Remembered()
        """The rows with each id."""
        self.answers = _Remembered()
        """The rows with each question and context."""
        self.texts: dict[int, frozenset[bytes]] = {}
        """Row of `answers` → digests of the texts of its answers."""
        self.several = _Tally(
            "several-answers",
            "questions have several different answers; training uses the first, scoring all.",
            column=column,
        )
        self.spaced = _Tally(
            "answer-outer-space",
            "questions have answers with white space at an end; the labels leave it out.",
            column=column,
        )
        self.corrected = _Tally(
            "offset-corrected",
            "questions had answers without an offset or with a wrong one; fix_offsets corrected them.",
            "Check some of them with `finetune check --samples`.",
            column=column,
        )
        self.words = _Tally(
            "no-answer-word",
            "questions have a word for “no answer” instead of an answer; they count as unanswerable.",
            "If a word is a real answer, leave it out of preprocessor.no_answer_words.",
            column=column,
        )
        self.special = _Tally(
            "special-token-in-text",
            "rows contain what looks like a special token. It is read as plain text.",
            "Remove it if it is left over from earlier processing.",
        )
        self.unanswered = _Tally(
            "split-without-answers",
            "questions have no answer: no question of this split has one.",
            "Check that the answers were not lost when the file was written.",
            column=column,
        )
        self.answered = 0

    def warnings(self) -> Iterator[Finding]:
        """Yield what concerns several rows."""
        for tally in (self.several, self.spaced, self.corrected, self.words, self.special):
            yield from tally.finding()
        if self.ids.is_full or self.answers.is_full:
            yield Finding(
                code="not-all-compared",
                message=f"ids and questions are compared with those of the first {MOST_REMEMBERED:,} rows only.",
                fix="Look for duplicates in your data with a tool that sorts them.",
                level="warning",
            )
        if not self.answered and self.unanswered.count >= _NOT_BY_CHANCE:
            yield from self.unanswered.finding()


def check_examples(examples: Sequence[Row], *, form: Form, allow_unanswerable: bool = True) -> Iterator[Finding]:
    """Yield what is wrong with the examples of one split, in order; then what concerns several of them.

    Args:
        examples: The rows.
        form: How the rows hold answers.
        allow_unanswerable: Whether a question may have no answer.
    """
    column = FLAT[0] if form.flat else NESTED
    seen = _Seen(column)
    for row, example in enumerate(examples):
        yield from _check_id(row, example, seen)
        problems = list(_check_texts(row, example))
        yield from problems
        if problems:
            continue
        _count_special_tokens(row, example, seen)
        try:
            written = form.written(example)
        except MalformedAnswers as error:
            yield error.finding(row, column)
            continue
        if written is None:
            continue
        seen.answered += bool(written)
        if not written:
            seen.unanswered.add(row, "")
            _count_words(row, example, form, seen)
        texts = {text for text, _ in written}
        if len(texts) > 1:
            seen.several.add(row, written[1][0])
        for text in texts:
            if text != text.strip() and not is_blank(text):
                seen.spaced.add(row, text)
                break
        yield from _check_answers(row, example, written, column=column, allow_unanswerable=allow_unanswerable)
        yield from _check_offsets(row, example, written, form, seen)
        yield from _check_conflict(row, example, written, seen)
    yield from seen.warnings()


def _check_id(row: int, example: Row, seen: _Seen) -> Iterator[Finding]:
    if example.get("id") in (None, ""):
        return
    name = str(example["id"])
    first = seen.ids.first(row, name)
    if first != row:
        yield Finding(
            code="duplicate-id",
            message="another row has the same id, and predictions are kept by id.",
            fix="Give every question its own id, or leave the column out.",
            level="error",
            row=row,
            other=first,
            column="id",
            value=name,
        )


def _check_texts(row: int, example: Row) -> Iterator[Finding]:
    for column in ("question", "context"):
        for finding in check_text(example.get(column), row=row, column=column, name=column):
            yield replace(finding, level="row")  # a bad question can be dropped; the others stay usable


def _count_special_tokens(row: int, example: Row, seen: _Seen) -> None:
    for column in ("question", "context"):
        token = special_token_in(example[column])
        if token is not None:
            seen.special.column = seen.special.column or column
            seen.special.add(row, token)
            return


def _count_words(row: int, example: Row, form: Form, seen: _Seen) -> None:
    """Count a question without an answer if a word says so."""
    every = replace(form, no_answer_words=()).written(example)
    if every:
        seen.words.add(row, every[0][0])


def _check_answers(
    row: int, example: Row, answers: Written, *, column: str, allow_unanswerable: bool
) -> Iterator[Finding]:
    impossible = _truth(example.get("is_impossible"))
    if answers and impossible is True:
        yield Finding(
            code="impossible-with-answer",
            message="is_impossible is true, and there is an answer.",
            fix="Correct is_impossible, or take the answer out.",
            row=row,
            column="is_impossible",
            value=answers[0][0],
        )
    if not answers and impossible is False:
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


def _truth(value: Any) -> bool | None:
    """Return what `is_impossible` says, which is text in a CSV file; None if it says neither."""
    text = str(value).strip().lower().removesuffix(".0")
    return {"true": True, "1": True, "false": False, "0": False}.get(text)


def _check_offsets(row: int, example: Row, answers: Written, form: Form, seen: _Seen) -> Iterator[Finding]:
    """Yield a finding for each answer that is empty or not at its offset, unless the offset is corrected."""
    context = example["context"]
    corrected: str | None = None
    for number, (text, start) in enumerate(answers):
        column = _place(example, number, form)
        if is_blank(text):
            yield Finding(
                code="answer-empty",
                message="the answer has no visible character.",
                fix="Write the answer, or leave the lists empty for no answer.",
                row=row,
                column=column,
                value=ascii(text),
            )
            continue
        if start is not None and start >= 0 and context.startswith(text, start):
            continue
        problem = offsets.diagnose(context, text, start)
        if form.fix_offsets and problem.place is not None:
            corrected = corrected or text
            continue
        yield Finding(code=problem.code, message=problem.message, fix=problem.fix, row=row, column=column, value=text)
    if corrected is not None:
        seen.corrected.add(row, corrected)


def _place(example: Row, number: int, form: Form) -> str:
    """Return the column of an answer's text, as a path in the row."""
    if form.flat:
        return FLAT[0]
    answers = example[NESTED]
    if isinstance(answers, str):
        return NESTED
    if isinstance(answers, list | tuple):
        return f"{NESTED}[{number}].text"
    return f"{NESTED}.text[{number}]" if isinstance(answers["text"], list | tuple) else f"{NESTED}.text"


def _check_conflict(row: int, example: Row, answers: Written, seen: _Seen) -> Iterator[Finding]:
    texts = frozenset(_digest(text.strip()) for text, _ in answers)
    other = seen.answers.first(row, example["question"].strip(), example["context"])
    if other == row:
        if not seen.answers.is_full:
            seen.texts[row] = texts
        return
    before = seen.texts[other]
    if before != texts and before.isdisjoint(texts):
        yield Finding(
            code="conflicting-answers",
            message="another row has the same question and context, and another answer.",
            level="warning",
            row=row,
            other=other,
            column="question",
            value=example["question"],
        )
