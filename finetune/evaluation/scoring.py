"""Predictions → records → scores, for every split."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from finetune import folder, result
from finetune.data import NAME, features
from finetune.data.features import Features
from finetune.data.preparation import Prepared
from finetune.errors import BadOptions, did_you_mean
from finetune.evaluation import calibration
from finetune.evaluation.calibration import Calibration
from finetune.evaluation.units import unit_ids
from finetune.evaluation.verdicts import TRAIN_SAMPLE
from finetune.interfaces import Evaluator, Job, Predictions, Record
from finetune.plan import Plan
from finetune.result import as_plain, json_problem
from finetune.training import trainer as training
from finetune.user_code import calling

TRIED = 8
"""Examples on which further metrics are tried before the first step."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Records and scores of every split, and the evaluator that made them."""

    evaluator: Evaluator
    """Fitted on validation, if there is one."""
    records: Mapping[str, list[Record]]
    """Split → one record for each example."""
    scores: Mapping[str, dict[str, float]]
    """Split → score → number."""
    baselines: Mapping[str, Mapping[str, list[Record]]]
    """Split → baseline → its records."""
    details: Mapping[str, dict[str, Any]]
    """Split → what is not a single number."""
    calibration: Calibration | None = None
    """What is known of the probabilities; None if the task gives none, or if they were not measured."""


def score(prepared: Prepared, job: Job, trainer: Any, *, held_out_only: bool = False) -> Scored:
    """Predict and score every split. The evaluator is fitted on validation alone.

    Args:
        prepared: Data and features.
        job: Holds the model and the evaluator.
        trainer: Makes the predictions.
        held_out_only: Whether to leave out the training examples, the baselines and the temperature.
    """
    evaluator = job.evaluator
    parts = {split: part for split, part in prepared.features.items() if split != "train"}
    if not held_out_only:
        parts["train"] = sample(prepared, TRAIN_SAMPLE, seed=prepared.plan.recipe.data_seed)
    predictions = {
        split: training.predict(trainer, examples=part.examples, features=part.features, job=job)
        for split, part in parts.items()
    }
    if "validation" in predictions:
        evaluator = evaluator.fit(training.records_of(evaluator, predictions["validation"]))
    calibrated = None
    if not held_out_only:
        held_out = {split: predicted for split, predicted in predictions.items() if split != "train"}
        units = {split: unit_ids(prepared, split) for split in held_out}
        seed = prepared.plan.recipe.seed
        evaluator, calibrated = calibration.calibrate(evaluator, held_out, units=units, seed=seed)
    records = {split: training.records_of(evaluator, predicted) for split, predicted in predictions.items()}
    scores = {
        split: all_scores(evaluator, prepared.plan, part, examples=predictions[split].examples)
        for split, part in records.items()
    }
    for split, predicted in predictions.items():
        scores[split] = training.with_scores_of_user(scores[split], predicted.outputs, predicted.label_ids, job)
    details = {split: details_of(evaluator, part) for split, part in records.items()}
    baselines = {}
    if not held_out_only:
        train = _training_examples(prepared, job)
        for split, predicted in predictions.items():
            if split != "train":
                baselines[split] = evaluator.baselines(predicted, train=train)
    return Scored(
        evaluator=evaluator,
        records=records,
        scores=scores,
        baselines=baselines,
        details=details,
        calibration=calibrated,
    )


def _training_examples(prepared: Prepared, job: Job) -> Predictions:
    """Return the training examples, from which baselines may learn, without outputs."""
    train = prepared.features["train"]
    return Predictions(
        examples=train.examples,
        features=train.features,
        outputs=None,
        tokenizer=job.tokenizer,
        preprocessor=job.preprocessor,
    )


def details_of(evaluator: Evaluator, records: Sequence[Record]) -> dict[str, Any]:
    """Return the details of records.

    Raises:
        BadOptions: JSON cannot hold them.
    """
    details = evaluator.details(records)
    if problem := json_problem(details):
        raise BadOptions(
            f"evaluator: {type(evaluator).__name__}.details() gives what JSON cannot hold: {problem}. Return text, "
            "numbers, lists and mappings of text."
        )
    return details


def without_primary(scored: Scored) -> list[str]:
    """Return a note for each held-out split without the primary score, so that it is not missed silently."""
    name, notes = scored.evaluator.primary, []
    for split, scores in scored.scores.items():
        if split != "train" and name not in scores:
            evaluator, given = type(scored.evaluator).__name__, ", ".join(scores) or "none"
            notes.append(f"{evaluator} gives no {name!r}, the primary score, on {split}; its scores are: {given}")
    return notes


def try_metrics(prepared: Prepared, job: Job, trainer: Any) -> None:
    """Let the recipe's metrics check some records, so that a metric that cannot read them fails before training.

    A run that scores the base model does not need this: the metrics read its records.

    Raises:
        BadOptions: A metric cannot read records of this form.
    """
    checks = [metric.check for metric in prepared.plan.metrics.values() if hasattr(metric, "check")]
    if not checks:
        return
    part = sample(prepared, TRIED, seed=prepared.plan.recipe.seed)
    predictions = training.predict(trainer, examples=part.examples, features=part.features, job=job)
    records = training.records_of(job.evaluator, predictions)
    for check in checks:
        check(records)


def check_best_metric(prepared: Prepared, job: Job, trainer: Any) -> None:
    """Check that the evaluator gives the score by which checkpoints are chosen.

    The names of the scores are those of a few validation examples. Scores that these do not have may need more of them.

    Raises:
        BadOptions: There is no such score; the message has the most similar one.
    """
    metric, part = trainer.args.metric_for_best_model, prepared.features.get("validation")
    if metric is None or part is None or trainer.args.eval_strategy == "no":
        return
    name, known = str(metric).removeprefix("eval_"), {job.evaluator.primary, "loss"}
    for size in (TRIED, len(part.examples)):
        if name in known:
            return
        some = part.sample(size, seed=prepared.plan.recipe.seed)
        predicted = training.predict(trainer, examples=some.examples, features=some.features, job=job)
        scores = job.evaluator.scores(job.evaluator.records(predicted))
        known |= set(training.with_scores_of_user(scores, predicted.outputs, predicted.label_ids, job))
    if name in known:
        return
    raise BadOptions(
        f"training: 'metric_for_best_model' is {name!r}, which is not a score of {type(job.evaluator).__name__}."
        f"{similar_score(name, known)} Its scores are: {', '.join(sorted(known))}."
    )


def without_best(trainer: Any) -> list[str]:
    """Return a note if a run was to keep its best model and no evaluation gave a finite score to choose it by."""
    if not trainer.args.load_best_model_at_end or trainer.state.best_model_checkpoint is not None:
        return []
    metric = str(trainer.args.metric_for_best_model).removeprefix("eval_")
    return [f"no evaluation gave a finite {metric!r}, so the model of the last step was kept, not the best one"]


def similar_score(name: str, known: Collection[str]) -> str:
    """Return a hint with the known score that begins like a name, or else with the most similar one.

    >>> similar_score("f1", ["f1/cat", "f1_macro", "f1_micro"])
    " Did you mean 'f1_macro'?"
    """
    longer = sorted(score for score in known if score.startswith(f"{name}_"))
    return f" Did you mean {longer[0]!r}?" if longer else did_you_mean(name, known)


def sample(prepared: Prepared, size: int, *, seed: int, split: str = "train") -> Features:
    """Return some examples of a split and their features; if features are packed, pack the chosen examples again."""
    plan, whole = prepared.plan, prepared.features[split]
    part = whole.sample(size, seed=seed)
    if part is whole or not plan.preprocessor.is_packed:
        return part
    return features.make(
        part.examples, preprocessor=plan.preprocessor, tokenizer=prepared.tokenizer, task=plan.task, split=split
    )


def all_scores(evaluator: Evaluator, plan: Plan, records: list[Record], *, examples: Any) -> dict[str, float]:
    """Return the scores of the evaluator, of the recipe's further metrics, and of each data set of a mixture.

    Args:
        evaluator: Fitted.
        plan: Holds the further metrics and names the data sets.
        records: Records of one split.
        examples: The examples of the records.

    Returns:
        Score → number; ``score@name`` is the score of one data set.

    Raises:
        BadOptions: Two of them give a score with the same name.
    """
    scores = evaluator.scores(records)
    plain = [as_plain(record) for record in records] if plan.metrics else []  # code of the user can need a `dict`
    for name, metric in plan.metrics.items():
        with calling(f"metrics: {name!r}"):
            more = metric(plain)
        _check_scores(name, more)
        taken = sorted(set(more) & set(scores))
        if taken:
            raise BadOptions(
                f"metrics: {name!r} gives the score {', '.join(taken)}, which the evaluator or another metric already "
                f"gives. Remove {name!r}, or rename its scores."
            )
        scores = {**scores, **more}
    return {**scores, **by_data_set(evaluator, plan, records, examples=examples)}


def _check_scores(name: str, scores: Any) -> None:
    """Check what a metric returned.

    Raises:
        BadOptions: It is not a mapping of names to numbers.
    """
    wrong = f"a value of the type {type(scores).__name__}" if not isinstance(scores, Mapping) else ""
    for key, value in scores.items() if not wrong else ():
        if isinstance(value, str) or not hasattr(value, "__float__"):
            wrong = f"{key!r}: {value!r}"
    if wrong:
        raise BadOptions(f"metrics: {name!r} returned {wrong}. It must return a mapping of names to numbers.")


def by_data_set(evaluator: Evaluator, plan: Plan, records: Sequence[Record], *, examples: Any) -> dict[str, float]:
    """Return the scores of each data set of a mixture as ``score@name``; empty if there is no mixture."""
    if not plan.recipe.dataset.mixture or NAME not in examples.column_names:
        return {}
    parts: dict[str, list[Record]] = {}
    for record, name in zip(records, examples[NAME], strict=True):
        parts.setdefault(name, []).append(record)
    found = {}
    for name, part in sorted(parts.items()):
        for score, value in evaluator.scores(part).items():
            found[f"{score}@{name}"] = value
    return found


def write_predictions(
    output: Path, prepared: Prepared, scored: Scored, evaluations: Mapping[str, Iterable[Mapping[str, Any]]]
) -> None:
    """Write `predictions.jsonl` and the evaluator's own files for the held-out splits.

    Args:
        output: The run folder.
        prepared: Holds the examples.
        scored: Holds the records.
        evaluations: Split → the evaluation of each example.
    """
    held_out = {split: records for split, records in scored.records.items() if split != "train"}
    lines = (
        folder.lines_of(
            split,
            prepared.features[split].examples,
            records,
            evaluations[split],
            places=prepared.examples.places[split],
        )
        for split, records in held_out.items()
    )
    folder.write_lines(output / result.PREDICTIONS, chain.from_iterable(lines))
    for split, records in held_out.items():
        made = scored.evaluator.files(records)
        if problem := json_problem(made):
            name = type(scored.evaluator).__name__
            raise BadOptions(f"evaluator: {name}.files() gives what JSON cannot hold: {problem}.")
        folder.write_files(output / split, made)
