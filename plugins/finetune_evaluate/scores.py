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

evaluate uses the first form that fits. A mapping would fit as the list of its keys, so SQuAD's form
comes first."""
HIDDEN = ("roc_auc", "best_", "length", "at_limit")
"""Prefixes of the names of scores that need more than predictions: probabilities, or tokens."""


class ScoresOf(evaluate.Metric):  # type: ignore[misc]  # evaluate ships no types
    """The scores of a task, from predictions and references alone.

    >>> ScoresOf("question-answering").compute(predictions=["the quay"], references=[["quay"]])["exact"]
    100.0

    Scores that need more than predictions, such as the area under a curve, which needs
    probabilities, are left out. Works with `evaluate.combine`, ``add`` and ``add_batch``.
    """

    def __init__(self, task: str, *, plugins: Plugins | None = None, **options: Any) -> None:
        """Create the metric with the evaluator of a task.

        Args:
            task: The name of the task, as in `finetune list`.
            plugins: Where to look it up; by default the installed plugins.
            **options: Options of the evaluator, as in a recipe's ``evaluator`` section.
        """
        cls = resolve((plugins or discover()).find("tasks", task).evaluator)
        self.evaluator: Evaluator = build_options(cls, options, where="evaluator")
        self.task = task
        with TemporaryDirectory() as folder:  # evaluate makes it and never uses it
            evaluate.Metric.__init__(self, keep_in_memory=True, cache_dir=folder)
        self.info.module_name = task  # `evaluate.combine` puts it before scores with the same name

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=f"The scores of the task {self.task!r}, as `finetune` computes them.",
            citation="",
            inputs_description="predictions and references: texts, labels, numbers, lists of them, or SQuAD's form.",
            features=[Features(form) for form in FORMS],
        )

    def _compute(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        records = _records(predictions, references)
        if not records:
            raise BadOptions(f"{self.task}: there is no prediction to score.")
        try:
            scores = self.evaluator.scores(records)
        except KeyError as missing:
            raise Incompatible(
                f"the scores of {self.task!r} need more than predictions and references: they read {missing}. Use the "
                "task's evaluator, which sees the model's outputs for each example."
            ) from missing
        shown = {}
        for name, value in scores.items():
            if not name.startswith(HIDDEN) and math.isfinite(value):
                shown[name] = value
        return shown


def _records(predictions: Sequence[Any], references: Sequence[Any]) -> list[dict[str, Any]]:
    """Return records that hold predictions and references, and know the labels of all of them."""
    pairs = list(zip(map(_plain, predictions), map(_plain, references), strict=True))
    labels: set[Any] = set()
    for prediction, reference in pairs:
        labels.update(_as_list(prediction), _as_list(reference))
    ordered = sorted(labels)
    return [_Record(prediction, reference, ordered) for prediction, reference in pairs]


class _Record(dict[str, Any]):
    """A record of which only prediction and reference are known; other fields are derived, or raise `KeyError`."""

    def __init__(self, prediction: Any, reference: Any, labels: Sequence[Any]) -> None:
        dict.__init__(self, prediction=prediction, reference=reference)
        self.labels = labels
        if isinstance(prediction, list) and isinstance(reference, list) and _are_tags([*prediction, *reference]):
            self["tags"], self["reference_tags"] = prediction, reference
            self["prediction"], self["reference"] = entities(prediction), entities(reference)

    def __missing__(self, key: str) -> Any:
        if key == "probabilities":  # evaluators read the labels from it; scores of the values are hidden
            predicted = _as_list(self["prediction"])
            return {label: float(label in predicted) for label in self.labels}
        if key == "null_odds":
            return float(not self["prediction"])
        if key in {"tokens", "at_limit"}:
            return math.nan
        raise KeyError(key)


def entities(tags: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return the entities that BIO tags mark; an I that continues no entity begins one, as in conlleval.

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


def _are_tags(tags: Sequence[str]) -> bool:
    return bool(tags) and all(tag == "O" or tag[:2] in {"B-", "I-"} for tag in tags)


def _plain(value: Any) -> Any:
    """Return the text, or the texts, of SQuAD's form, and a whole number, which may be a class, as an integer."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, Mapping):
        return value
    return value["prediction_text"] if "prediction_text" in value else value["answers"]["text"]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
