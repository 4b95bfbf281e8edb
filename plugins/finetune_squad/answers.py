"""Answers as rows hold them: SQuAD's nested column, two plain ones, or a cell of a table with either as text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.errors import BadData
from finetune.interfaces import Batch, Finding, Row
from finetune.kit import parse_cell
from finetune_squad import offsets

NESTED = "answers"
FLAT = ("answer_text", "answer_start")
NO_ANSWER_WORDS = ("ANSWERNOTFOUND", "CANNOTANSWER")
"""What SubjQA and QuAC write for "no answer"."""
GREATEST = 2**53
"""Offsets are below this number, up to which a float is exact."""

Written = list[tuple[str, int | None]]
"""Answers as they are written, each a text and its first character; None if no offset is given."""
Answers = list[tuple[str, int]]
"""Answers, each a text and its first character."""

_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_FORM = (
    'Write {"text": ["…"], "answer_start": [0]}, with empty lists for no answer; for a file of plain columns, '
    "name them answer_text and answer_start and set preprocessor.flat: true."
)


class MalformedAnswers(ValueError):
    """Answers that do not have a known form."""

    def __init__(self, code: str, message: str, fix: str, value: Any, *, place: str = "") -> None:
        super().__init__(message)
        self.code, self.fix, self.value = code, fix, value
        self.place = place
        """Where in the answers: ``.text[0]``."""

    def finding(self, row: int, column: str) -> Finding:
        """Return the finding for the row that holds the answers."""
        place = f"{column}{self.place}"
        return Finding(code=self.code, message=str(self), fix=self.fix, row=row, column=place, value=repr(self.value))


@dataclass(frozen=True, kw_only=True)
class Form:
    """How rows hold answers, and which of them are corrected."""

    flat: bool = False
    """Whether they are in the two plain columns."""
    fix_offsets: bool = False
    """Whether an offset that is missing or wrong is looked up, if there is no doubt about the place."""
    no_answer_words: Sequence[str] = NO_ANSWER_WORDS
    """Texts that mean "no answer"."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that must be there. Without `answer_start`, every offset is looked up."""
        if not self.flat:
            return (NESTED,)
        return FLAT[:1] if self.fix_offsets else FLAT

    def written(self, row: Row) -> Written | None:
        """Return the answers of a row as they are written; None if the row has no answers column.

        Examples:
            >>> Form().written({"answers": {"text": ["quay"], "answer_start": [4]}})
            [('quay', 4)]
            >>> Form().written({"answers": "[{'text': 'quay', 'answer_start': 4.0}]"})
            [('quay', 4)]
            >>> Form(flat=True).written({"answer_text": "quay", "answer_start": "(4, 8)"})
            [('quay', 4)]
            >>> Form().written({"answers": {"text": [], "answer_start": []}})  # unanswerable
            []

        Raises:
            MalformedAnswers: They have another form.
        """
        column = FLAT[0] if self.flat else NESTED
        if column not in row:
            return None
        found = _flat(row) if self.flat else nested(row[NESTED])
        return [(text, start) for text, start in found if text.strip() not in self.no_answer_words]

    def answers(self, row: Row) -> Answers | None:
        """Return the answers of a row with their offsets, corrected if `fix_offsets` is set; None without a column.

        Raises:
            MalformedAnswers: They have another form, or an offset is missing or wrong and cannot be corrected.
        """
        written = self.written(row)
        if written is None:
            return None
        return [self.located(row["context"], text, start) for text, start in written]

    def located(self, context: str, text: str, start: int | None) -> tuple[str, int]:
        """Return an answer with its offset, corrected if `fix_offsets` is set.

        Raises:
            MalformedAnswers: The offset is missing or wrong, and cannot be corrected.
        """
        if start is not None and start >= 0 and context.startswith(text, start):
            return text, start
        problem = offsets.diagnose(context, text, start)
        if self.fix_offsets and problem.place is not None:
            return problem.place
        raise MalformedAnswers(problem.code, problem.message, problem.fix, text)


def first_answers(batch: Batch, form: Form) -> list[tuple[str, int] | None] | None:
    """Return the first answer of each example, which is the label in training; None in the list means "no answer".

    The result is None if the batch has no answers column, or the nested column has no value.

    Raises:
        BadData: An answer is malformed, or is not at its offset.
    """
    column = FLAT[0] if form.flat else NESTED
    if column not in batch or (not form.flat and all(value is None for value in batch[column])):
        return None
    firsts: list[tuple[str, int] | None] = []
    for index, context in enumerate(batch["context"]):
        row = {name: batch[name][index] for name in (NESTED, *FLAT) if name in batch}
        try:
            written = form.written(row)
            firsts.append(form.located(context, *written[0]) if written else None)
        except MalformedAnswers as error:
            raise BadData(
                f"{name_of(batch, index)}: {error} {error.fix} `finetune check` finds all such rows."
            ) from error
    return firsts


def references_of(row: Row) -> Written | None:
    """Return the right answers of a row in a canonical form, ``[]`` for an unanswerable question; None without any."""
    is_nested = row.get(NESTED) is not None
    if not is_nested and row.get(FLAT[0]) is None:
        return None
    return Form(flat=not is_nested, no_answer_words=()).written(row)


def name_of(batch: Batch, index: int) -> str:
    """Return the name of an example in messages: its id if it has one."""
    return f"example {batch['id'][index]!r}" if "id" in batch else f"example {index} of the batch"


def nested(value: Any) -> Written:
    """Return the answers in a value of the nested column.

    It holds a mapping with the lists ``text`` and ``answer_start``, or a list of such mappings for single answers. The
    value may also be the JSON or the Python literal of either, or a plain text without an offset.

    Raises:
        MalformedAnswers: It has another form.
    """
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, str):
        return [(value, None)] if value else []
    if isinstance(value, Mapping):
        return _mapping(value, "")
    if not isinstance(value, list | tuple):
        message = "answers do not hold text and answer_start."
        raise MalformedAnswers("answers-malformed", message, _FORM, value)
    found: Written = []
    for number, answer in enumerate(value):
        if isinstance(answer, Mapping):
            found += _mapping(answer, f"[{number}]")
        elif isinstance(answer, str):
            found.append((answer, None))
        else:
            message = "the answer has no text 'text'."
            raise MalformedAnswers("answers-malformed", message, _FORM, answer, place=f"[{number}]")
    return found


def _flat(row: Row) -> Written:
    text, start = row[FLAT[0]], row.get(FLAT[1])
    if text is None or text == "":
        return []
    if not isinstance(text, str):
        fix = "Write text, or nothing for no answer."
        raise MalformedAnswers("answers-malformed", "answer_text is not text.", fix, text)
    return [(text, _offset(start, ""))]


def _mapping(answers: Mapping[str, Any], place: str) -> Written:
    """Return the answers of a mapping with ``text`` and ``answer_start``: two lists, or two single values."""
    if "text" not in answers:
        message = "the answer has no text 'text'." if place else "answers do not hold text and answer_start."
        raise MalformedAnswers("answers-malformed", message, _FORM, answers, place=place)
    texts, starts = answers["text"], answers.get("answer_start")
    others = [name for name, value in answers.items() if name not in {"text", "answer_start"} and value is not None]
    if texts is None and others:  # the row has other keys instead; a reader adds the keys that other rows have
        message = "answers do not hold text and answer_start."
        raise MalformedAnswers("answers-malformed", message, _FORM, answers, place=place)
    if texts is None or texts == "":
        return []
    if isinstance(texts, str):
        return [(texts, _offset(starts, f"{place}.answer_start"))]
    if not isinstance(texts, list | tuple):
        message = "text of the answers is neither text nor a list."
        raise MalformedAnswers("answers-malformed", message, _FORM, texts, place=f"{place}.text")
    if starts is None:
        starts = [None] * len(texts)
    if not isinstance(starts, list | tuple):
        message = "text of the answers is a list, but answer_start is not."
        raise MalformedAnswers("answers-malformed", message, _FORM, starts, place=f"{place}.answer_start")
    if len(texts) != len(starts):
        message = f"answers hold {len(texts)} texts and {len(starts)} answer_starts."
        raise MalformedAnswers("answers-uneven", message, "Give every text its answer_start.", answers, place=place)
    found: Written = []
    for number, (text, start) in enumerate(zip(texts, starts, strict=True)):
        if not isinstance(text, str):
            message = "an answer is not text."
            where = f"{place}.text[{number}]"
            raise MalformedAnswers("answers-malformed", message, "Write it in quotes.", text, place=where)
        found.append((text, _offset(start, f"{place}.answer_start[{number}]")))
    return found


def _offset(value: Any, place: str) -> int | None:
    """Return an offset: a whole number, the first of a pair (start, end), or None if there is none.

    A column of whole numbers with gaps has floats in pandas, so 10.0 is 10.
    """
    given = value
    if isinstance(value, str):
        value = value.strip()
        if value.startswith(("(", "[")):
            value = _parsed(value)
    if isinstance(value, list | tuple) and len(value) in (1, 2):
        value = value[0]
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value.partition(".")[0])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < GREATEST:
        return value
    raise MalformedAnswers(
        "answer-start-not-integer",
        f"answer_start is {given!r}, not a whole number.",
        "Write the position of the answer's first character as a number, counted from 0.",
        given,
        place=place,
    )


def _parsed(text: str) -> Any:
    """Return the value of a text that is JSON or a Python literal of a list, a mapping or a pair; other text as it is.

    Raises:
        MalformedAnswers: It begins as a list or a mapping, and is neither.
    """
    stripped = text.strip()
    if not stripped.startswith(("{", "[", "(")):
        return text
    try:
        return parse_cell(stripped)
    except ValueError as error:
        if stripped.startswith("("):
            return text  # an answer in brackets
        raise MalformedAnswers("answers-malformed", str(error), _FORM, text) from error
