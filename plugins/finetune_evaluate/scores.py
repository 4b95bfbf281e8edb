"""The scores of any task as a metric of evaluate: no script, no network, no file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import evaluate
from datasets import Features, List, Value

from finetune.errors import BadOptions, Incompatible
from finetune.interfaces import Evaluator
from finetune.kit import Plugins, build_options, discover, resolve

_TEXT, _TEXTS, _NUMBER = Value("string"), List(Value("string")), Value("float64")
FORMS = [
    {
        "predictions": {"id": _TEXT, "prediction_text": _TEXT},
        "references": {"id": _TEXT, "answers": {"text": _TEXTS, "answer_start": List(Value("int32"))}},
    },
    {"predictions": _TEXT, "references": _TEXTS},
    {"predictions": _TEXT, "references": _TEXT},
    {"predictions": _TEXTS, "references": _TEXTS},
    {"predictions": _NUMBER, "references": _NUMBER},
]
"""SQuAD's own form; texts with several references, or one, or labels; lists of labels, or tags; numbers.

The first that fits is taken, and a mapping would pass for the list of its keys: so SQuAD's form comes first."""
HIDDEN = ("roc_auc", "best_", "length", "at_limit")
"""Beginnings of the names of scores that are made of more than what was predicted: of probabilities, of tokens."""


class ScoresOf(evaluate.Metric):
    """The scores of a task, from predictions and references alone.

    >>> ScoresOf("question-answering").compute(predictions=["the quay"], references=[["quay"]])["exact"]
    100.0

    Scores that need more than what was predicted, such as the area under a curve, which needs probabilities, are left
    out. Combines with other metrics by `evaluate.combine`, and adds up by ``add`` and ``add_batch``.
    """

    def __init__(self, task: str, *, plugins: Plugins | None = None, **options: Any) -> None:
        """Take the evaluator of a task.

        Args:
            task: Its name, as `finetune list` has it.
            plugins: Where to look it up; those that are installed.
            options: The evaluator's, as in a recipe's ``evaluator`` section.
        """
        cls = resolve((plugins or discover()).find("tasks", task).evaluator)
        self.evaluator: Evaluator = build_options(cls, options, where="evaluator")
        self.task = task
        with TemporaryDirectory() as folder:  # made by evaluate, and never used
            evaluate.Metric.__init__(self, keep_in_memory=True, cache_dir=folder)
        self.info.module_name = task  # by which `evaluate.combine` tells scores of one name apart

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=f"The scores of the task {self.task!r}, as `finetune` computes them.",
            citation="",
            inputs_description="predictions and references: texts, labels, numbers, lists of them, or SQuAD's form.",
            features=[Features(form) for form in FORMS],
        )

    def _compute(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        guesses, truths = [_bare(each) for each in predictions], [_bare(each) for each in references]
        if not guesses:
            raise BadOptions(f"{self.task}: there is no prediction to score.")
        labels = tuple(sorted({label for side in (guesses, truths) for each in side for label in _several(each)}))
        records = [_Predicted(guess, truth, labels) for guess, truth in zip(guesses, truths, strict=True)]
        try:
            found = self.evaluator.scores(records)
        except KeyError as missing:
            raise Incompatible(
                f"the scores of {self.task!r} are made of more than predictions and references: they ask for "
                f"{missing}. Use the task's evaluator, which sees what the model makes of each example."
            ) from missing
        return {name: value for name, value in found.items() if not name.startswith(HIDDEN) and math.isfinite(value)}


class _Predicted(dict[str, Any]):
    """A record of which only prediction and reference are known; what more is asked for is worked out, or refused."""

    def __init__(self, prediction: Any, reference: Any, labels: Sequence[Any]) -> None:
        dict.__init__(self, prediction=prediction, reference=reference)
        self.labels = labels
        if isinstance(prediction, list) and isinstance(reference, list) and _tagged([*prediction, *reference]):
            self["tags"], self["reference_tags"] = prediction, reference
            self["prediction"], self["reference"] = entities(prediction), entities(reference)

    def __missing__(self, key: str) -> Any:
        if key == "probabilities":  # read for the labels; the scores made of the values are hidden
            chosen = _several(self["prediction"])
            return {label: float(label in chosen) for label in self.labels}
        if key == "null_odds":
            return float(not self["prediction"])
        if key in {"tokens", "at_limit"}:
            return math.nan
        raise KeyError(key)


def entities(tags: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return the entities that BIO tags mark; an I that continues nothing begins an entity, as in conlleval.

    >>> [tuple(each.values()) for each in entities(["I-SHIP", "I-SHIP", "O", "B-BAY"])]
    [('SHIP', 0, 1), ('BAY', 3, 3)]
    """
    found: list[dict[str, Any]] = []
    for word, tag in enumerate(tags):
        letter, _, kind = tag.partition("-")
        if letter == "O":
            continue
        last = found[-1] if found else None
        if letter == "I" and last and last["entity"] == kind and last["last_word"] == word - 1:
            last["last_word"] = word
        else:
            found.append({"entity": kind, "first_word": word, "last_word": word})
    return list(found)


def _tagged(tags: Sequence[str]) -> bool:
    return bool(tags) and all(tag == "O" or tag[:2] in {"B-", "I-"} for tag in tags)


def _bare(value: Any) -> Any:
    """Return the text, or the texts, of SQuAD's form; whole numbers, which may be classes, as such."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, Mapping):
        return value
    return value["prediction_text"] if "prediction_text" in value else value["answers"]["text"]


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
