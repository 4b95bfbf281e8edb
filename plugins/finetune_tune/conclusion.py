"""The end of a study: the winner and the recipe as it is written, trained with new seeds and scored once on test."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune.errors import BadData, OutputExists, TrainingFailed
from finetune.kit import (
    RESULT,
    Reporter,
    Result,
    choose_rate,
    compare_runs,
    dump_yaml,
    load_result,
    make_plan,
    optimism,
    recipe_from_mapping,
    recipe_to_mapping,
    run,
    run_seeds,
    seed_folder,
    seeds_of,
    write_atomically,
)
from finetune_tune import sampling
from finetune_tune.space import searched
from finetune_tune.study import AS_WRITTEN, BEST, WINNER, Study, ended_well
from finetune_tune.trial import Settings, Trial
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
    """The ends of the 95% interval of the difference: for other rows, and with several seeds for other seeds."""
    verdict: str
    """``better``, ``worse`` or ``inconclusive``."""
    folders: Sequence[str]
    """The folders of the winner and of the recipe as it is written. `finetune compare` says the same of them."""


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
    repeated: int
    """How many of them were made again, by trials that had ended before the study got more trials or hours."""
    full_steps: int
    """Steps that the same trials would have made without pauses."""
    earlier: Sequence[int]
    """Trials that won before the study got more trials, and were scored on test, too."""
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
        written = recipe_to_mapping(study.plan.recipe)
        written.pop("search", None)
        name = f"{WINNER}-{winner.name}"
        _train_again(study, {name: best, AS_WRITTEN: written}, reporter=reporter)
        claim = claimed(study, name)
    return _described(study, trials, winner, claim)


def best_recipe(study: Study, winner: Trial) -> dict[str, Any]:
    """Return the recipe of the winner as plain mappings; a learning rate that finetune chose is written out."""
    content = searched(study.plan.recipe, study.space, winner.chosen)
    content["output"] = str(study.output / Path(BEST).stem)
    plan = make_plan(recipe_from_mapping(content, name=BEST), study.plan.plugins)
    if chosen := choose_rate(plan.recipe, plan.task, plan.strategy, folder=plan.model.path):
        content["training"] |= chosen.training
    return {key: value for key, value in content.items() if value is not None}


def seeds_at_end(settings: Settings) -> list[int]:
    """Return the seeds of the runs at the end: none of them is that of the trials."""
    return [settings.seed + 1 + number for number in range(settings.seeds)]


def folder_of(study: Study, name: str) -> Path:
    """Return the folder of the runs at the end: one of several seeds, or an ordinary run folder for one seed."""
    seeds = seeds_at_end(study.settings)
    return study.output / (name if len(seeds) > 1 else f"{name}-{seed_folder(seeds[0])}")


def require_enough_seeds(study: Study) -> None:
    """Check that the runs at the end of an earlier call have no more seeds than this call wants.

    Raises:
        OutputExists: They have.
    """
    known, wanted = len(seeds_of(study.output / AS_WRITTEN)), study.settings.seeds
    if 1 < wanted < known:
        raise OutputExists(
            f"--seeds: the study in {str(study.output)!r} has trained with {known} seeds at its end, and --seeds is "
            f"{wanted}. Leaving out some of them would choose seeds by their scores. Use --seeds {known} or more."
        )


def _train_again(study: Study, recipes: Mapping[str, Mapping[str, Any]], *, reporter: Reporter) -> None:
    """Train recipes with the new seeds; several workers share them.

    Args:
        study: The study.
        recipes: Name of the folder → recipe.
        reporter: Shows the progress.
    """
    left = list(recipes)
    while left:
        name = left.pop(0)
        with study.claim(name) as is_mine:
            if not is_mine:
                left.append(name)
                time.sleep(POLL)
                continue
            seeds = seeds_at_end(study.settings)
            reporter.note(f"{name}: {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}")
            train(study, recipes[name], folder_of(study, name), seeds)


def train(study: Study, content: Mapping[str, Any], output: Path, seeds: Sequence[int]) -> None:
    """Train a recipe with each seed on the rows of the trials, or continue what an earlier call has begun."""
    recipe = recipe_from_mapping(content, name=output.name)
    if len(seeds) == 1:
        alone = replace(recipe.with_seed(seeds[0]), output=str(output))
        run(make_plan(alone, study.plan.plugins), auto_resume=True, reporter=Reporter())
        return
    dataset = replace(recipe.dataset, seed=recipe.data_seed)
    several = replace(recipe, dataset=dataset, seeds=tuple(seeds), output=str(output))
    run_seeds(make_plan(several, study.plan.plugins), auto_resume=True, reporter=Reporter())


def claimed(study: Study, winner: str) -> Claim:
    """Compare the runs at the end on the test split, as `finetune compare` does.

    Args:
        study: The study.
        winner: Name of the folder of the winner.

    Raises:
        BadData: They were scored on different rows, or the score is not defined.
    """
    folders = [folder_of(study, name) for name in (AS_WRITTEN, winner)]
    comparison = compare_runs(folders, split=TEST)
    written, found = comparison.runs
    if found.difference is None:
        raise BadData(f"test: {study.settings.primary} is not defined on its rows, so nothing can be compared.")
    return Claim(
        rows=comparison.size,
        seeds=seeds_at_end(study.settings),
        winner=_scores(folders[1], study.settings),
        as_written=_scores(folders[0], study.settings),
        difference=found.difference["value"],
        low=found.difference["low"],
        high=found.difference["high"],
        verdict=found.verdict,
        folders=[found.run, written.run],
    )


def _scores(folder: Path, settings: Settings) -> list[float]:
    """Return the primary score of test of each seed."""
    result = load_result(folder)
    if isinstance(result, Result):
        return [result.scores[TEST][settings.primary]]
    return list(result.seed_scores[TEST][settings.primary])


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
    steps = sum(trial.rungs[-1].step + trial.repeated for trial in trials if trial.rungs)
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
        repeated=sum(trial.repeated for trial in trials),
        full_steps=sum(full),
        earlier=_earlier(study, winner) if claim else (),
        claim=claim,
    )


def _earlier(study: Study, winner: Trial) -> list[int]:
    """Return the trials that were scored on test as winners, when the study had fewer trials."""
    found = set()
    for path in study.output.glob(f"{WINNER}-*/{RESULT}"):
        found.add(int(path.parent.name.split("-")[1]))
    return sorted(found - {winner.number})
