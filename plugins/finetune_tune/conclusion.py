"""The end of a study: the winner and the recipe as it is written, trained with new seeds and scored once on test."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune.errors import BadData, TrainingFailed
from finetune.kit import (
    Reporter,
    Result,
    choose_rate,
    dump_yaml,
    evaluator_of,
    make_plan,
    optimism,
    paired_difference,
    recipe_from_mapping,
    recipe_to_mapping,
    records_of,
    run,
    units_of,
    write_atomically,
)
from finetune_tune import sampling
from finetune_tune.space import searched
from finetune_tune.study import AS_WRITTEN, BEST, WINNER, Study, ended_well
from finetune_tune.trial import Trial
from finetune_tune.worker import POLL

TEST = "test"
LEVEL = 0.05
"""Level of the test of one trial against the winner; it decides nothing."""


class NoWinner(TrainingFailed):
    """No trial of a study made all its steps."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The winner and the recipe as it is written, on the test split, which no trial has read."""

    rows: int
    seeds: Sequence[int]
    winner: Sequence[float]
    """The primary score of the winner for each seed."""
    as_written: Sequence[float]
    """The same of the recipe as it is written."""
    difference: float
    """Winner − recipe as it is written, the mean over the seeds."""
    low: float
    high: float
    """The end of the 95% interval of the difference, for other rows and other seeds."""
    rows_error: float
    """Standard error from the rows."""
    seeds_error: float
    """Standard error from the seeds; 0 if there is one."""
    verdict: str
    """``better``, ``worse`` or ``inconclusive``."""


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What a study found."""

    winner: int
    """Number of the trial with the best score on validation."""
    score: float
    """That score."""
    rows: int
    """Rows of validation."""
    optimism: float | None
    """By how much that score is expected to be too good, because it is the best of many."""
    optimism_if_equal: float | None
    """The same if all trials were equally good."""
    not_worse: Sequence[int]
    """Complete trials that validation does not distinguish from the winner."""
    not_continued: Sequence[int]
    """Trials that were not continued, and that validation did not distinguish from the winner at their last rung."""
    importance: Mapping[str, float]
    """Searched key → its share of what the scores at the first rung depend on."""
    steps: int
    """Steps that the trials made."""
    full_steps: int
    """Steps that the same trials would have made without pauses."""
    claim: Claim | None
    """None if there is no test split, or no seed to train again with."""


def conclude(study: Study, *, has_test: bool, reporter: Reporter) -> Conclusion:
    """Write `best.yaml`, train the runs at the end, and return what was found.

    Args:
        study: Its search is over.
        has_test: Whether the data have a test split.
        reporter: Shows the progress.

    Raises:
        NoWinner: No trial is complete.
    """
    trials = study.trials.all()
    complete = ended_well(trials, study.settings)
    if not complete:
        reasons = dict.fromkeys(trial.reason for trial in trials if trial.reason)
        raise NoWinner("no trial made all its steps. What they said:\n  " + "\n  ".join(list(reasons)[:5]))
    winner = complete[0]
    best = best_recipe(study, winner)
    write_atomically(study.output / BEST, dump_yaml(best))
    claim = None
    if study.settings.seeds and has_test:
        _train_again(study, best, reporter=reporter)
        claim = claimed(study)
    return _described(study, trials, winner, claim)


def best_recipe(study: Study, winner: Trial) -> dict[str, Any]:
    """Return the recipe of the winner as plain mappings; a learning rate that finetune chose is written out."""
    content = searched(study.plan.recipe, study.space, winner.chosen)
    content["output"] = str(study.output / WINNER / "run")
    plan = make_plan(recipe_from_mapping(content, name=BEST), study.plan.plugins)
    if chosen := choose_rate(plan.recipe, plan.task, plan.strategy, folder=plan.model.path):
        content["training"] |= chosen.training
    return {key: value for key, value in content.items() if value is not None}


def seeds_of(study: Study) -> list[int]:
    """Return the seeds of the runs at the end: none of them is that of the trials."""
    return [study.settings.seed + 1 + number for number in range(study.settings.seeds)]


def folder_of(study: Study, name: str, seed: int) -> Path:
    """Return the folder of a run at the end."""
    return study.output / name / f"seed-{seed}"


def _train_again(study: Study, best: Mapping[str, Any], *, reporter: Reporter) -> None:
    """Train the winner and the recipe as it is written with each seed; several workers share the runs."""
    written = recipe_to_mapping(study.plan.recipe)
    written.pop("search", None)
    left = [(name, seed) for seed in seeds_of(study) for name in (WINNER, AS_WRITTEN)]
    while left:
        name, seed = left.pop(0)
        output = folder_of(study, name, seed)
        with study.claim(f"{name}-{seed}") as is_mine:
            if not is_mine:
                left.append((name, seed))
                time.sleep(POLL)
                continue
            recipe = recipe_from_mapping(best if name == WINNER else written, name=name)
            recipe = replace(recipe.with_seed(seed), output=str(output))  # with the rows of the trials
            reporter.note(f"{name.replace('-', ' ')}, seed {seed}")
            run(make_plan(recipe, study.plan.plugins), auto_resume=True, reporter=Reporter())


def claimed(study: Study) -> Claim:
    """Compare the runs at the end on the test split, row by row.

    Raises:
        BadData: They were scored on different rows.
    """
    seeds = seeds_of(study)
    results = {name: [Result.load(folder_of(study, name, seed)) for seed in seeds] for name in (WINNER, AS_WRITTEN)}
    first = results[WINNER][0]
    for result in [*results[WINNER], *results[AS_WRITTEN]]:
        if result.fingerprints.get(TEST) != first.fingerprints.get(TEST):
            raise BadData(
                f"{first.directory} and {result.directory} have different rows of test. Give the test split a file of "
                "its own, and no limit."
            )
    records = {name: [records_of(each.directory, TEST) for each in found] for name, found in results.items()}
    found = paired_difference(
        evaluator_of(first), records[WINNER], records[AS_WRITTEN], units=units_of(first, TEST), seed=study.settings.seed
    )
    if found is None:
        raise BadData(f"test: {study.settings.primary} is not defined on its rows, so nothing can be compared.")
    low, high = found.interval()
    sign = study.settings.sign
    verdict = "inconclusive"
    if low > 0 or high < 0:
        verdict = "better" if sign * found.value > 0 else "worse"
    scores = {name: [each.scores[TEST][study.settings.primary] for each in runs] for name, runs in results.items()}
    return Claim(
        rows=len(records[WINNER][0]),
        seeds=seeds,
        winner=scores[WINNER],
        as_written=scores[AS_WRITTEN],
        difference=found.value,
        low=low,
        high=high,
        rows_error=found.rows_error,
        seeds_error=found.seeds_error,
        verdict=verdict,
    )


def _described(study: Study, trials: Sequence[Trial], winner: Trial, claim: Claim | None) -> Conclusion:
    settings, races, evaluator = study.settings, study.races, study.plan.evaluator
    last = {trial.number: races.best(trial, len(trial.rungs) - 1) for trial in trials if trial.rungs}
    scored = [each for each in last.values() if each is not None and each.records is not None]
    units = scored[0].units
    found = optimism(evaluator, [each.records or [] for each in scored], units=units, seed=settings.seed)
    alike: dict[str, list[int]] = {"complete": [], "stopped": []}
    for trial in trials:
        if trial.state in alike and trial.number != winner.number:
            probability = races.compare(trial, winner, len(trial.rungs) - 1)
            if probability is not None and probability >= LEVEL:
                alike[trial.state].append(trial.number)
    steps = sum(trial.rungs[-1].step for trial in trials if trial.rungs)
    full = [each.steps for each in last.values() if each is not None]
    return Conclusion(
        winner=winner.number,
        score=winner.rungs[-1].score,
        rows=len(scored[0].records or []),
        optimism=found.expected if found else None,
        optimism_if_equal=found.if_equal if found else None,
        not_worse=alike["complete"],
        not_continued=alike["stopped"],
        importance=sampling.importances(study.space.parameters, trials, settings),
        steps=steps,
        full_steps=sum(full),
        claim=claim,
    )
