"""In what way answers are wrong, and of what kind the questions are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from finetune.interfaces import Record, Row
from finetune_squad.answers import answers_of
from finetune_squad.scores import exact, f1

RIGHT = "right"
BOUNDARY = "wrong boundaries"
OTHER = "another span"
FALSE = "answered, and there is no answer"
MISSED = "not answered, and there is an answer"
KINDS = (RIGHT, BOUNDARY, OTHER, FALSE, MISSED)
_WORDS = ("who", "whom", "whose", "what", "which", "when", "where", "why", "how")
_WORD = re.compile(r"[^\W\d_]+")


def kind(record: Record) -> str:
    """Return in what way an answer is wrong: an answer that shares a word with a right one has wrong boundaries.

    >>> kind({"prediction": "the old pier", "reference": ["pier"]})
    'wrong boundaries'
    >>> kind({"prediction": "", "reference": ["pier"]})
    'not answered, and there is an answer'
    """
    answer, wanted = record["prediction"], record["reference"]
    if exact(answer, wanted):
        return RIGHT
    if not wanted:
        return FALSE
    if not answer:
        return MISSED
    return BOUNDARY if f1(answer, wanted) > 0 else OTHER


def counts(records: Sequence[Record]) -> dict[str, int]:
    """Return how many answers are right, and wrong in which way."""
    found = Counter(map(kind, records))
    return {name: found[name] for name in KINDS}


def question_word(question: str) -> str:
    """Return the first question word of a question, or ``other``; a title in front of it does no harm.

    >>> question_word("In which year was the quay built?"), question_word("Name the ship.")
    ('which', 'other')
    """
    found = (word for word in _WORD.findall(question.lower()) if word in _WORDS)
    return next(found, "other")


def slices(records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
    """Return of what kind each question is."""
    found: dict[str, list[str]] = {
        "question word": [question_word(example["question"]) for example in examples],
        "answerable": ["yes" if record["reference"] else "no" for record in records],
        "words of the answer": [_words(record["reference"]) for record in records],
    }
    if all("windows" in record for record in records):
        found["windows"] = [str(record["windows"]) if record["windows"] < 4 else "4 or more" for record in records]
    found["place of the answer in the text"] = [
        _place(record, example) for record, example in zip(records, examples, strict=True)
    ]
    return found


def _words(reference: Sequence[str]) -> str:
    if not reference:
        return "no answer"
    size = min(len(text.split()) for text in reference)
    return str(size) if size < 4 else "4 to 6" if size < 7 else "7 or more"


def _place(record: Record, example: Row) -> str:
    """Return the third of the text that a right answer begins in."""
    if not record["reference"]:
        return "no answer"
    known = answers_of(example, flat="answers" not in example)
    if not known:
        return "unknown"
    third = min(3 * known[0][1] // max(len(example["context"]), 1), 2)
    return ("first third", "middle third", "last third")[third]
