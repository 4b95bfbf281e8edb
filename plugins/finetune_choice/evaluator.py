"""Logits of choices → records → accuracy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import softmax

from finetune.errors import BadData, TrainingFailed
from finetune.interfaces import Decisions, Evaluator, Predictions, Record, Row, Tallies
from finetune.kit import check_temperature, decisions_of, ratios, require_key


@dataclass(frozen=True, kw_only=True)
class MultipleChoiceEvaluator(Evaluator):
    """Accuracy, with each choice's probability, and what the position and the length of a choice alone would give."""

    primary: Literal["accuracy"] = "accuracy"
    """The score that models are chosen by."""
    temperature: float | None = None
    """What logits are divided by before they become probabilities. None: a run fits it on validation. 1 leaves the
    probabilities as they are."""

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        return {"accuracy": "0 to 1"}

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the most probable choice of each question.

        ``{'prediction': 'Fog', 'choice': 0, 'probabilities': [0.75, 0.25], 'reference': 'Fog', 'right': 0}``
        """
        questions = _questions(predictions)
        records = []
        for logits, question in zip(_logits(predictions), questions, strict=True):
            own = logits[: len(question["choices"])]
            probabilities = softmax(own / (self.temperature or 1.0))
            records.append(_record(question, int(own.argmax()), probabilities.tolist()))
        return records

    def decisions(self, predictions: Predictions) -> Decisions | None:
        """Return the logits of the choices of each question that has an answer."""
        rows, scores, answers = [], [], []
        for row, (logits, question) in enumerate(zip(_logits(predictions), _questions(predictions), strict=True)):
            if question["label"] is not None:
                rows.append(row)
                scores.append(logits[: len(question["choices"])])
                answers.append(question["label"])
        return replace(decisions_of(scores, answers), rows=np.array(rows)) if rows else None

    def confidence(self, record: Record) -> float:
        """Return the probability of the predicted choice."""
        return float(record["probabilities"][record["choice"]])

    def label_probabilities(self, record: Record) -> Mapping[int, float]:
        """Return the probability of each choice, by its position."""
        return dict(enumerate(record["probabilities"]))

    def true_label(self, record: Record) -> int:
        """Return the position of the right choice."""
        return int(record["right"])

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the share of questions whose most probable choice is the right one."""
        if not records:
            raise BadData(
                "no question has a right answer, so nothing can be scored. Add the answers, or use `finetune predict`."
            )
        hits = sum(record["choice"] == record["right"] for record in records)
        return {"accuracy": hits / len(records)}

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return hits and questions."""
        hits = [float(record["choice"] == record["right"]) for record in records]
        return ratios({"accuracy": (hits, [1.0] * len(hits))}, most={"accuracy": 1.0})

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return what you get without reading: the most frequent right position of train, and the longest choice."""
        positions = Counter(question["label"] for question in _questions(train))
        majority = positions.most_common(1)[0][0]
        found: dict[str, list[Record]] = {"majority position": [], "longest": []}
        for question in _questions(predictions):
            choices = question["choices"]
            lengths = [len(choice) for choice in choices]
            guesses = {"majority position": min(majority, len(choices) - 1), "longest": lengths.index(max(lengths))}
            for name, guess in guesses.items():
                found[name].append(_record(question, guess, [float(place == guess) for place in range(len(choices))]))
        return found

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return the negative log-likelihood of the right choice, 0 where it is the most probable one."""
        losses = []
        for record in records:
            right = record["choice"] == record["right"]
            losses.append(0.0 if right else -math.log(max(record["probabilities"][record["right"]], 1e-300)))
        return losses

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
        """Return the position of the right choice, and whether it is the longest: a shortcut shows there."""
        positions = [str(record["right"] + 1) for record in records]
        longest = ["yes" if record["right_is_longest"] else "no" for record in records]
        return {"position of the right choice": positions, "the right choice is the longest": longest}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return how often each position was chosen, and how often it is the right one."""
        chosen = Counter(record["choice"] for record in records)
        right = Counter(record["right"] for record in records)
        places = range(max(len(record["probabilities"]) for record in records))
        counts = {"chosen": [chosen[place] for place in places], "right": [right[place] for place in places]}
        return {"positions": counts}


def _record(question: Row, choice: int, probabilities: list[float]) -> Record:
    choices = question["choices"]
    record: Record = {"prediction": choices[choice], "choice": choice, "probabilities": probabilities}
    right = question["label"]
    if right is None:
        return record
    longest = max(len(text) for text in choices)
    known = {"reference": choices[right], "right": right, "right_is_longest": len(choices[right]) == longest}
    return {**record, **known}


def _questions(predictions: Predictions) -> list[Mapping[str, Any]]:
    """Return the choices and the position of the right one of each example, as the preprocessor gives them.

    Raises:
        BadOptions: The preprocessor does not give them.
    """
    preprocessor = predictions.preprocessor
    remedy = "Return {'choices': [texts], 'label': position or None}, or choose another evaluator."
    questions = []
    for example in predictions.examples:
        question = preprocessor.canonical(example)
        for key in ("choices", "label"):
            require_key(question, key, preprocessor, method="canonical()", remedy=remedy)
        questions.append(question)
    return questions


def _logits(predictions: Predictions) -> Any:
    """Return the logits as an array (N, C).

    Raises:
        TrainingFailed: They have another shape, or are not finite.
    """
    outputs = predictions.outputs
    logits = np.asarray(outputs[0] if isinstance(outputs, tuple | list) else outputs, dtype=np.float64)
    if logits.ndim != 2 or len(logits) != len(predictions.examples):
        wanted = (len(predictions.examples), "choices")
        raise TrainingFailed(f"expected outputs of the shape {wanted}, got {logits.shape}.")
    if not np.isfinite(logits).all():
        raise TrainingFailed("the model's outputs are not finite: the training has diverged. Lower learning_rate.")
    return logits
