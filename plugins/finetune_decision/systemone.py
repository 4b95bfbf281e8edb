"""`/v1/systemone`: the requests and answers of `transformers serve`.

Source: transformers 5.23, ``cli/serving/systemone.py``: ``SystemOneRequest`` for the fields and their limits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from transformers.decision import DecisionConfig, parse_questions

from finetune.errors import BadData, did_you_mean
from finetune.interfaces import Api, Record, Row

MOST_QUESTIONS = 64
"""Of one request."""
_FIELDS = ("model", "state", "questions", "assets")


class SystemOne(Api):
    """Typed questions about a state, answered with a probability for every option."""

    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "required": ["state", "questions"],
        "additionalProperties": False,
        "properties": {
            "model": {"type": "string"},
            "state": {"type": ["string", "object", "array"]},
            "questions": {
                "type": "object",
                "minProperties": 1,
                "maxProperties": MOST_QUESTIONS,
                "additionalProperties": {
                    "type": "object",
                    "required": ["type"],
                    "properties": {
                        "type": {"enum": ["choice", "noul", "score"]},
                        "instructions": {"type": ["string", "object", "array"]},
                        "criteria": {"type": ["object", "array"]},
                    },
                },
            },
        },
    }

    @property
    def _config(self) -> DecisionConfig:
        config: DecisionConfig = getattr(self.preprocessor, "config", DecisionConfig())
        return config

    def rows(self, content: Any) -> list[Row]:
        """Return one row for each question.

        Raises:
            BadData: The body is no request, or a question is not valid.
        """
        _check(content)
        try:
            parse_questions(content["questions"], self._config)
        except ValueError as error:
            raise BadData(f"questions: {error}") from error
        rows: list[Row] = []
        for question in content["questions"].values():
            row = {"state": _text(content["state"]), "type": question["type"]}
            if question.get("instructions") is not None:
                row["instructions"] = _text(question["instructions"])
            if question.get("criteria") is not None:
                row["criteria"] = json.dumps(question["criteria"], ensure_ascii=False)
            rows.append(row)
        return rows

    def answer(self, content: Any, records: Sequence[Record], *, model: str, tokens: int) -> dict[str, Any]:
        """Return the answers by the names of their questions, in the words of transformers."""
        answers = {}
        for question, record in zip(parse_questions(content["questions"], self._config), records, strict=True):
            answers[question.name] = question.answer(list(record["probabilities"].values()))
        return {
            "model": content.get("model", model),
            "answers": answers,
            "usage": {"input_tokens": tokens, "output_tokens": 0},
        }


def _text(value: Any) -> str:
    """Return a value as the template of transformers prints it: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _check(content: Any) -> None:
    """Check the fields of a request.

    Raises:
        BadData: One is missing, unknown, or of the wrong type.
    """
    if not isinstance(content, Mapping):
        raise BadData('the body must be an object: {"state": …, "questions": {name: {"type": …}}}.')
    for name in content:
        if name not in _FIELDS:
            raise BadData(f"{name!r} is not a field of a request.{did_you_mean(name, _FIELDS)}")
    for name in ("state", "questions"):
        if name not in content:
            raise BadData(f"{name!r} is missing.")
    if content.get("assets"):
        raise BadData("assets: the model reads texts only. Leave the images out.")
    if not isinstance(content.get("model", ""), str):
        raise BadData("model: expected a text.")
    if not isinstance(content["state"], str | dict | list):
        raise BadData("state: expected a text, an object or a list.")
    questions = content["questions"]
    if not isinstance(questions, Mapping) or not 1 <= len(questions) <= MOST_QUESTIONS:
        raise BadData(f"questions: expected an object with 1 to {MOST_QUESTIONS} questions.")
