"""Logits of options → probabilities → scores."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy.special import softmax
from transformers.decision import Question

from finetune.errors import BadData, TrainingFailed
from finetune.interfaces import Evaluator, Predictions, Record, Row, Tallies
from finetune.kit import check_primary, require_key
from finetune_decision import scores, temperature
from finetune_decision.questions import TYPES, identity_of

MOST_QUESTIONS = 20
"""With more questions than this, there is no slice for each."""


@dataclass(frozen=True, kw_only=True)
class DecisionEvaluator(Evaluator):
    """How good, and how honest, the probabilities of the options are.

    Temperatures are fitted on validation; they change no answer. `finetune predict`, `finetune serve` and the
    `decision.json` of the run use them.
    """

    primary: str = "log_loss"
    """The score that models are chosen by: `log_loss`, which counts wrong and overconfident answers of all types, or
    `accuracy`, `f1_macro`, `mae`, `brier`, `ece`."""
    temperatures: Mapping[str, float] | None = None
    """Temperature per question type. None fits those of types with at least 20 validation questions."""

    def __post_init__(self) -> None:
        check_primary(self.primary, scores.NAMES)
        for kind, value in (self.temperatures or {}).items():
            if kind not in TYPES:
                raise ValueError(f"temperatures: {kind!r} is no question type; the types are {', '.join(TYPES)}")
            if value <= 0:
                raise ValueError(f"temperatures: {value} of {kind!r} must be greater than 0")

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is better."""
        return self.primary in ("accuracy", "f1_macro")

    def fit(self, records: Sequence[Record]) -> Self:
        """Return a copy with the temperatures that fit the validation records best."""
        if self.temperatures is not None:
            return self
        return replace(self, temperatures=temperature.fit(records))

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        found = {"log_loss": "nats", "accuracy": "0 to 1", "f1_macro": "0 to 1", "mae": "levels", "brier": "0 to 1"}
        found["ece"] = "0 to 1"
        for name in ("log_loss", "brier", "ece"):
            found[f"{name}{scores.UNCALIBRATED}"] = found[name]
        return found

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the probability of each option, and the answer as `pipeline("decision")` would take it from them.

        ``{'prediction': 'Salt Quay', 'probabilities': {'Salt Quay': 0.8, 'Rope Quay': 0.2}, 'confidence': 0.6,
        'logits': [2.1, 0.7], 'type': 'choice', 'question': 'Which quay?', 'reference': 'Salt Quay', 'right': 0}``

        The prediction of a score is its expected level, counted from 0. ``logits`` are those at temperature 1.
        """
        records = []
        for known, row in zip(_questions(predictions), _logits(predictions), strict=True):
            logits = row[: len(known["question"].options)]
            records.append(self._record(known, logits.tolist()))
        return records

    def _record(self, known: Row, logits: Sequence[float]) -> Record:
        question: Question = known["question"]
        if not np.isfinite(logits).all():
            raise TrainingFailed("the model's outputs are not finite: the training has diverged. Lower learning_rate.")
        warmth = (self.temperatures or {}).get(question.type, 1.0)
        probabilities = softmax(np.array(logits) / warmth).tolist()
        answer = question.answer(probabilities)
        by_option = dict(zip(question.options, probabilities, strict=True))
        record: Record = {
            "prediction": answer["score"] if question.type == "score" else max(by_option, key=lambda o: by_option[o]),
            "probabilities": by_option,
        }
        if "confidence" in answer:
            record["confidence"] = answer["confidence"]
        record |= {"logits": list(logits), "type": question.type}
        record["question"] = scores.question_name(question.instructions, question.options)
        right = known["label"]
        if right is not None:
            record |= {"reference": right if question.type == "score" else question.options[right], "right": right}
        return record

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the scores; see `finetune_decision.scores.tallies_of`.

        Raises:
            BadData: No record has a reference.
        """
        tallies = self.tallies(records)
        found = tallies.scores(tallies.values.sum(axis=0))
        return {name: float(value) for name, value in found.items() if np.isfinite(value)}

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return the tallies of all scores.

        Raises:
            BadData: No record has a reference.
        """
        if not records or any("right" not in record for record in records):
            raise BadData(
                "no question has a right answer, so nothing can be scored. Add the answers, or use `finetune predict`."
            )
        return scores.tallies_of(records)

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return how often each option of a question is right in train, for every state; all alike if it is new."""
        counts: dict[str, Counter[int]] = {}
        for known in _questions(train):
            counts.setdefault(identity_of(known["question"]), Counter())[known["label"]] += 1
        uncalibrated = replace(self, temperatures=None)
        records = []
        for known in _questions(predictions):
            question: Question = known["question"]
            seen = counts.get(identity_of(question), Counter())
            # one more than counted, so that an option that was never right is not impossible (Laplace)
            shares = [math.log(seen[place] + 1) for place in range(len(question.options))]
            records.append(uncalibrated._record(known, shares))
        return {"majority per question": records}

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return the negative log-likelihood of the right option."""
        return [-math.log(max(list(r["probabilities"].values())[r["right"]], 1e-300)) + 0.0 for r in records]

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
        """Return the type of each question, the number of its options, and the question if there are few."""
        found = {
            "type": [record["type"] for record in records],
            "options": [str(len(record["probabilities"])) for record in records],
        }
        questions = [record["question"] for record in records]
        if len(set(questions)) <= MOST_QUESTIONS:
            found["question"] = questions
        return found

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return the temperatures, and how often predictions of a probability are right."""
        return {"temperatures": dict(self.temperatures or {}), "calibration": scores.calibration(records)}


def _questions(predictions: Predictions) -> list[Mapping[str, Any]]:
    """Return the question of each example, and the position of its right option.

    Raises:
        BadOptions: The preprocessor does not give them.
    """
    preprocessor = predictions.preprocessor
    remedy = "Return {'question': transformers.decision.Question, 'label': position or None}."
    found = []
    for example in predictions.examples:
        known = preprocessor.canonical(example)
        for key in ("question", "label"):
            require_key(known, key, preprocessor, method="canonical()", remedy=remedy)
        found.append(known)
    return found


def _logits(predictions: Predictions) -> Any:
    """Return the logits as an array (N, C).

    Raises:
        TrainingFailed: They have another shape.
    """
    outputs = predictions.outputs
    logits = np.asarray(outputs[0] if isinstance(outputs, tuple | list) else outputs, dtype=np.float64)
    if logits.ndim != 2 or len(logits) != len(predictions.examples):
        wanted = (len(predictions.examples), "options")
        raise TrainingFailed(f"expected outputs of the shape {wanted}, got {logits.shape}.")
    return logits
