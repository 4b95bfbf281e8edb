"""A row → a question of the System One protocol, and the position of its right option.

The words are those of `transformers.decision`: a question has a `type`, `instructions` and `criteria`, and its options
are the keys of a choice, the levels of a score, or `true` and `false`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from transformers.decision import DecisionConfig, Question

from finetune.interfaces import Row
from finetune.kit import parse_cell

TYPES: tuple[str, ...] = Question.questions_types
"""The types of questions that transformers knows: `noul` (yes or no), `choice` and `score`."""
NAME = "answer"
"""What the only question of a row is called in a request."""


def question_of(row: Row, config: DecisionConfig) -> Question:
    """Return the question of a row, as transformers parses it.

    >>> row = {"type": "choice", "instructions": "Which quay?", "criteria": ["Salt Quay", "Rope Quay"]}
    >>> question_of(row, DecisionConfig()).options
    ['Salt Quay', 'Rope Quay']

    Args:
        row: The row.
        config: Says how many options a question of each type can have.

    Raises:
        ValueError: transformers refuses the question; the message is its own.
    """
    return Question.from_request(NAME, request_of(row), config)


def request_of(row: Row) -> dict[str, Any]:
    """Return the question of a row as a request holds it.

    Raises:
        ValueError: The criteria cannot be read.
    """
    question: dict[str, Any] = {"type": row.get("type")}
    if row.get("instructions") not in (None, ""):
        question["instructions"] = row["instructions"]
    criteria = criteria_of(row.get("criteria"), kind=question["type"])
    if criteria is not None:
        question["criteria"] = criteria
    return question


def criteria_of(cell: Any, *, kind: Any) -> Any:
    """Return criteria as a request holds them: a list for a score, else a mapping of options to descriptions.

    >>> criteria_of('{"calm": null, "angry": "Swears."}', kind="choice")
    {'calm': None, 'angry': 'Swears.'}
    >>> criteria_of(["calm", "angry"], kind="choice"), criteria_of(["can wait", "today"], kind="score")
    ({'calm': None, 'angry': None}, ['can wait', 'today'])

    Args:
        cell: JSON text, a list of options or levels, a mapping, or nothing.
        kind: The type of the question.

    Raises:
        ValueError: The text is not JSON, an option repeats, or the mapping has empty values.
    """
    if cell is None or cell == "":
        return None
    is_text = isinstance(cell, str)
    value = _parsed(cell) if is_text else cell
    if isinstance(value, Mapping):
        return dict(value) if is_text else _of_table(value, kind=kind)
    if kind == "choice" and isinstance(value, Sequence) and not isinstance(value, str):
        return _options(value)
    return list(value) if isinstance(value, tuple) else value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError:
        return parse_cell(text)  # as Python prints it


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the option {repeated!r} stands twice in the criteria.")
    return found


def _options(options: Sequence[Any]) -> dict[str, None]:
    found: dict[str, None] = {}
    for option in options:
        if not isinstance(option, str):
            raise ValueError(f"the option {option!r} of the criteria is no text.")
        if option in found:
            raise ValueError(f"the option {option!r} stands twice in the criteria.")
        found[option] = None
    return found


def _of_table(value: Mapping[str, Any], *, kind: Any) -> dict[str, Any]:
    """Return a mapping of a table, which gives each row the keys of all rows, empty where the row has none."""
    given = {option: text for option, text in value.items() if text is not None}
    if len(given) < len(value) and kind != "noul":
        raise ValueError(
            "the criteria are a mapping with empty values, and a table also fills the options of other rows with them. "
            'Write the mapping as a JSON text, \'{"calm": null, "angry": "Swears."}\', or the options as a list.'
        )
    return given


def position_of(answer: Any, question: Question) -> int | None:
    """Return the position of the right option, from 0; None if the answer names none.

    A choice is answered by its option, a yes/no question by `true` or `false`, and a score by its level: the number of
    the level from 0, or its text.

    >>> score = question_of({"type": "score", "criteria": ["can wait", "today"]}, DecisionConfig())
    >>> position_of("today", score), position_of(0, score), position_of("2", score)
    (1, 0, None)
    """
    if isinstance(answer, bool):
        answer = str(answer).lower()
    text = str(answer).strip()
    if question.type == "noul":
        text = text.lower()
    if question.type == "score":
        text = text.removesuffix(".0")  # pandas writes a column of whole numbers with gaps so
        if text not in question.options and text in question.descriptions:
            return question.descriptions.index(text)
    return question.options.index(text) if text in question.options else None


def is_ambiguous(answer: Any, question: Question) -> bool:
    """Return whether the answer of a score is the number of one level, and the text of another.

    >>> stars = question_of({"type": "score", "criteria": ["1", "2", "3"]}, DecisionConfig())
    >>> is_ambiguous("1", stars), is_ambiguous("0", stars)
    (True, False)
    """
    text = str(answer).strip()
    if question.type != "score" or text not in question.options or text not in question.descriptions:
        return False
    return question.options.index(text) != question.descriptions.index(text)


def answers_of(question: Question) -> str:
    """Return the possible answers of a question in words, for messages."""
    options = ", ".join(repr(option) for option in question.options)
    if question.type == "score":
        return f"one of the levels {options}, or the text of a level"
    return f"one of {options}"


def identity_of(question: Question) -> str:
    """Return what makes two rows ask the same question: type, instructions, options and descriptions."""
    return json.dumps([question.type, question.instructions, question.options, question.descriptions], default=str)
