"""Error analysis: in what way an answer is wrong, and what slices questions fall into."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from finetune.interfaces import Record, Row
from finetune_squad.scores import exact, f1

RIGHT = "right"
BOUNDARY = "wrong boundaries"
OTHER = "another span"
FALSE = "answered, and there is no answer"
MISSED = "not answered, and there is an answer"
ERROR_TYPES = (RIGHT, BOUNDARY, OTHER, FALSE, MISSED)
_QUESTION_WORDS = ("who", "whom", "whose", "what", "which", "when", "where", "why", "how")
_WORD = re.compile(r"[^\W\d_]+")
_THIRDS = ("first third", "middle third", "last third")


def error_type(record: Record) -> str:
    """Return in what way an answer is wrong: an answer that shares a word with a right one has wrong boundaries.

    >>> error_type({"prediction": "the old pier", "reference": ["pier"]})
    'wrong boundaries'
    >>> error_type({"prediction": "", "reference": ["pier"]})
    'not answered, and there is an answer'
    """
    answer, references = record["prediction"], record["reference"]
    if exact(answer, references):
        return RIGHT
    if not references:
        return FALSE
    if not answer:
        return MISSED
    return BOUNDARY if f1(answer, references) > 0 else OTHER


def counts(records: Sequence[Record]) -> dict[str, int]:
    """Return how many answers are right, and how many are wrong in each way."""
    found = Counter(map(error_type, records))
    return {name: found[name] for name in ERROR_TYPES}


def question_word(question: str) -> str:
    """Return the first question word of a question, or ``other``; it need not be the first word.

    >>> question_word("In which year was the quay built?"), question_word("Name the ship.")
    ('which', 'other')
    """
    for word in _WORD.findall(question.lower()):
        if word in _QUESTION_WORDS:
            return str(word)
    return "other"


def slices(records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
    """Return the slices that the scores are reported for: name → a value for each question."""
    names = ["question word", "answerable", "words of the answer"]
    if all("windows" in record for record in records):
        names.append("windows")
    names.append("place of the answer in the text")
    found: dict[str, list[str]] = {name: [] for name in names}
    for record, example in zip(records, examples, strict=True):
        found["question word"].append(question_word(example["question"]))
        found["answerable"].append("yes" if record["reference"] else "no")
        found["words of the answer"].append(_words(record["reference"]))
        if "windows" in found:
            found["windows"].append(str(record["windows"]) if record["windows"] < 4 else "4 or more")
        found["place of the answer in the text"].append(_place(record, example))
    return found


def _words(references: Sequence[str]) -> str:
    if not references:
        return "no answer"
    size = min(len(text.split()) for text in references)
    if size < 4:
        return str(size)
    return "4 to 6" if size < 7 else "7 or more"


def _place(record: Record, example: Row) -> str:
    """Return the third of the text in which the first right answer begins."""
    if not record["reference"]:
        return "no answer"
    start = next(iter(record.get("reference_start", ())), None)
    if start is None:
        return "unknown"
    return _THIRDS[min(3 * start // max(len(example["context"]), 1), 2)]
