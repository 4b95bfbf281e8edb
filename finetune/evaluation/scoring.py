"""Predictions → records → scores, for every split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune import folder, result
from finetune.data import NAME, features
from finetune.data.features import Features
from finetune.data.preparation import Prepared
from finetune.errors import BadOptions
from finetune.interfaces import Evaluator, Job, Predictions, Record
from finetune.plan import Plan
from finetune.training import trainer as training

SAMPLE = 500
"""Training examples that are scored, beside the held-out ones: enough to see a gap."""
TRIED = 8
"""Examples whose records are shown to further metrics before the first step, where no other are."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Records and scores of every split, and the evaluator that made them."""

    evaluator: Evaluator
    records: Mapping[str, list[Record]]
    scores: Mapping[str, dict[str, float]]
    baselines: Mapping[str, Mapping[str, list[Record]]]
    """Split → trivial predictor → its records."""


def score(prepared: Prepared, job: Job, trainer: Any, *, held_out_only: bool = False) -> Scored:
    """Predict and score every split; thresholds are chosen on validation alone.

    Args:
        prepared: Data and features.
        job: What was trained.
        trainer: What predicts.
        held_out_only: Whether to leave out the training examples.
    """
    seed, evaluator = prepared.plan.recipe.seed, job.evaluator
    parts = {split: part for split, part in prepared.features.items() if split != "train"}
    if not held_out_only:
        parts["train"] = _sample(prepared, SAMPLE, seed=seed)
    predictions = {
        split: training.predict(trainer, examples=part.examples, features=part.features, job=job)
        for split, part in parts.items()
    }
    if "validation" in predictions:
        evaluator = evaluator.fit(evaluator.records(predictions["validation"]))
    records = {split: evaluator.records(predicted) for split, predicted in predictions.items()}
    scores = {
        split: all_scores(evaluator, prepared.plan, part, examples=predictions[split].examples)
        for split, part in records.items()
    }
    baselines = {
        split: evaluator.baselines(predicted, train=_known(prepared, job))
        for split, predicted in predictions.items()
        if split != "train" and not held_out_only
    }
    return Scored(evaluator=evaluator, records=records, scores=scores, baselines=baselines)


def _known(prepared: Prepared, job: Job) -> Predictions:
    """Return what a trivial predictor may learn from: the training examples."""
    train = prepared.features["train"]
    return Predictions(
        examples=train.examples,
        features=train.features,
        outputs=None,
        tokenizer=job.tokenizer,
        preprocessor=job.preprocessor,
    )


def try_metrics(prepared: Prepared, job: Job, trainer: Any) -> None:
    """Show some records to the further metrics that can say whether records are of their form.

    Where the base model is scored, that says it; where it is not, nobody should learn it after the training.

    Raises:
        BadOptions: One of them wants records of another form.
    """
    checks = [metric.check for metric in prepared.plan.metrics.values() if hasattr(metric, "check")]
    if not checks:
        return
    part = _sample(prepared, TRIED, seed=prepared.plan.recipe.seed)
    records = job.evaluator.records(training.predict(trainer, examples=part.examples, features=part.features, job=job))
    for check in checks:
        check(records)


def _sample(prepared: Prepared, size: int, *, seed: int) -> Features:
    """Return some training examples to score; where one feature holds several, those are packed anew."""
    plan, whole = prepared.plan, prepared.features["train"]
    part = whole.sample(size, seed=seed)
    if part is whole or not plan.preprocessor.is_packed:
        return part
    return features.make(
        part.examples, preprocessor=plan.preprocessor, tokenizer=prepared.tokenizer, task=plan.task, split="train"
    )


def all_scores(evaluator: Evaluator, plan: Plan, records: list[Record], *, examples: Any) -> dict[str, float]:
    """Return the evaluator's scores, those of the recipe's further metrics, and each data set's of a mixture.

    A data set's scores stand under ``score@name``.

    Raises:
        BadOptions: A metric brings a score of a name that is taken.
    """
    scores = evaluator.scores(records)
    for name, metric in plan.metrics.items():
        more = metric(records)
        if taken := set(more) & set(scores):
            raise BadOptions(f"metrics: {name!r} brings {', '.join(sorted(taken))}, which the evaluator brings.")
        scores = {**scores, **more}
    return {**scores, **by_data_set(evaluator, plan, records, examples=examples)}


def by_data_set(evaluator: Evaluator, plan: Plan, records: Sequence[Record], *, examples: Any) -> dict[str, float]:
    """Return the scores of each data set of a mixture, under ``score@name``; nothing where there is no mixture."""
    if not plan.recipe.dataset.mixture or NAME not in examples.column_names:
        return {}
    parts: dict[str, list[Record]] = {}
    for record, name in zip(records, examples[NAME], strict=True):
        parts.setdefault(name, []).append(record)
    scored = {name: evaluator.scores(part) for name, part in sorted(parts.items())}
    return {f"{score}@{name}": value for name, scores in scored.items() for score, value in scores.items()}


def write_predictions(
    output: Path, prepared: Prepared, scored: Scored, judged: Mapping[str, Iterable[Mapping[str, Any]]]
) -> None:
    """Write the records of the held-out splits with how each is judged, and the files that a benchmark wants."""
    held_out_only = {split: records for split, records in scored.records.items() if split != "train"}
    lines = (
        line
        for split, records in held_out_only.items()
        for line in folder.lines_of(split, prepared.features[split].examples, records, judged[split])
    )
    folder.write_lines(output / result.PREDICTIONS, lines)
    for split, records in held_out_only.items():
        folder.write_files(output / split, scored.evaluator.files(records))
