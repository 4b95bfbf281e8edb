"""Answers as rows hold them: SQuAD's nested column, or two plain ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune.errors import BadData
from finetune.interfaces import Batch, Finding, Row

NESTED = "answers"
FLAT = ("answer_text", "answer_start")


class MalformedAnswers(ValueError):
    """Answers that do not have the required form."""

    def __init__(self, code: str, message: str, fix: str, value: Any) -> None:
        super().__init__(message)
        self.code, self.fix, self.value = code, fix, value

    def finding(self, row: int, column: str) -> Finding:
        """Return the finding for the row that holds the answers."""
        return Finding(code=self.code, message=str(self), fix=self.fix, row=row, column=column, value=repr(self.value))


def answers_of(row: Row, *, flat: bool = False) -> list[tuple[str, int]] | None:
    """Return the answers of a row, each a text and its first character; None if the row has no answers column.

    Examples:
        >>> answers_of({"answers": {"text": ["quay"], "answer_start": [4]}})
        [('quay', 4)]
        >>> answers_of({"answer_text": "quay", "answer_start": "4"}, flat=True)
        [('quay', 4)]
        >>> answers_of({"answers": {"text": [], "answer_start": []}})  # unanswerable
        []

    Raises:
        MalformedAnswers: They have another form.
    """
    if flat:
        return _flat(row) if FLAT[0] in row else None
    return _nested(row[NESTED]) if NESTED in row else None


def first_answers(batch: Batch, *, flat: bool) -> list[tuple[str, int] | None] | None:
    """Return the first answer of each example, which is the label in training; None in the list means "no answer".

    The result is None if the batch has no answers column, or the column has no value.

    Raises:
        BadData: An answer is malformed, or is not at its offset.
    """
    columns = FLAT if flat else (NESTED,)
    if columns[0] not in batch or all(value is None for value in batch[columns[0]]):
        return None
    firsts: list[tuple[str, int] | None] = []
    for index, context in enumerate(batch["context"]):
        row = {column: batch[column][index] for column in columns if column in batch}
        try:
            answers = answers_of(row, flat=flat)
        except MalformedAnswers as error:
            raise BadData(f"{name_of(batch, index)}: {error} {error.fix}") from error
        if not answers:
            firsts.append(None)
            continue
        text, start = answers[0]
        if start < 0 or not context.startswith(text, start):
            there = context[max(start, 0) :][: len(text)][:80]
            raise BadData(
                f"{name_of(batch, index)}: the answer {text[:80]!r} is not at answer_start={start}; there, the context "
                f"says {there!r}. `finetune check` finds all such rows."
            )
        firsts.append(answers[0])
    return firsts


def references_of(row: Row) -> list[str] | None:
    """Return the texts that count as right, ``[]`` for an unanswerable question; None if the row has no answers."""
    nested = row.get(NESTED) is not None
    if not nested and row.get(FLAT[0]) is None:
        return None
    return [text for text, _ in answers_of(row, flat=not nested) or []]


def name_of(batch: Batch, index: int) -> str:
    """Return the name of an example in messages: its id if it has one."""
    return f"example {batch['id'][index]!r}" if "id" in batch else f"example {index} of the batch"


def _flat(row: Row) -> list[tuple[str, int]]:
    text, start = row[FLAT[0]], row.get(FLAT[1])
    if not isinstance(text, str):
        fix = "Write text, or nothing for no answer."
        raise MalformedAnswers("answers-malformed", "answer_text is not text.", fix, text)
    if not text:
        return []
    return [(text, _integer(start, text_allowed=True))]


def _nested(answers: Any) -> list[tuple[str, int]]:
    if not isinstance(answers, Mapping) or not {"text", "answer_start"} <= set(answers):
        fix = (
            'Write {"text": ["…"], "answer_start": [0]}, with empty lists for no answer; for a file of plain columns, '
            "name them answer_text and answer_start and set preprocessor.flat: true."
        )
        raise MalformedAnswers("answers-malformed", "answers do not hold text and answer_start.", fix, answers)
    texts, starts = answers["text"], answers["answer_start"]
    if not isinstance(texts, list | tuple) or not isinstance(starts, list | tuple):
        fix = 'Write {"text": ["…"], "answer_start": [0]}: lists, even for one answer.'
        raise MalformedAnswers("answers-malformed", "text and answer_start of answers are not lists.", fix, answers)
    if len(texts) != len(starts):
        message = f"answers hold {len(texts)} texts and {len(starts)} answer_starts."
        raise MalformedAnswers("answers-uneven", message, "Give every text its answer_start.", answers)
    for text in texts:
        if not isinstance(text, str):
            raise MalformedAnswers("answers-malformed", "an answer is not text.", "Write it in quotes.", text)
    return list(zip(texts, map(_integer, starts), strict=True))


def _integer(value: Any, *, text_allowed: bool = False) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if text_allowed and isinstance(value, str) and value.strip().removeprefix("-").isdecimal():
        return int(value)
    raise MalformedAnswers(
        "answer-start-not-integer",
        f"answer_start is {value!r}, not a whole number.",
        "Write the position of the answer's first character as a number, counted from 0.",
        value,
    )
