"""From the run folders of several seeds to one result: means, and their variance between seeds and between rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from finetune.evaluation import comparison, crossed, sides, verdicts
from finetune.evaluation.crossed import Crossed, Sampled
from finetune.evaluation.scoring import Scored
from finetune.interfaces import Evaluator, Record
from finetune.recipe import seed_folder
from finetune.result import BASE_MODEL, NON_FINITE, Result, find_non_finite, to_json
from finetune.result import write_atomically as write
from finetune.seed_folders import BASELINES
from finetune.seeds_result import SeedsResult

_SEED = 0
"""Seed of the resamples; the recipe has no single seed."""


@dataclass(kw_only=True)
class _Numbers:
    """The fields of `SeedsResult` that hold scores, while they are computed."""

    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    seed_scores: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    deviations: dict[str, dict[str, float]] = field(default_factory=dict)
    intervals: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    row_intervals: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    seed_intervals: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    variances: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    base_model_scores: dict[str, dict[str, float]] = field(default_factory=dict)
    baselines: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    differences: dict[str, dict[str, dict[str, dict[str, float]]]] = field(default_factory=dict)


def collect(recipe: Mapping[str, Any], directory: Path) -> SeedsResult:
    """Return the result of several seeds, whose runs have all finished.

    Args:
        recipe: The recipe with its ``seeds``, as plain mappings.
        directory: The folder that holds their runs.

    Raises:
        BadRecipe: A run has not finished, or its folder is damaged.
        BadData: The runs were scored on different rows.
    """
    seeds = [int(seed) for seed in recipe["seeds"]]
    runs = [Result.load(directory / seed_folder(seed)) for seed in seeds]
    first, last = runs[0], runs[-1]
    numbers = _Numbers()
    for split in first.scores:
        _add_means(numbers, runs, split)
        if split != "train":
            comparison.require_same_rows(runs, split)
            _add_intervals(numbers, runs, split)
    return SeedsResult(
        recipe=recipe,
        seeds=seeds,
        runs=[seed_folder(seed) for seed in seeds],
        **vars(numbers),
        primary=first.primary,
        greater_is_better=first.greater_is_better,
        selection_split=first.selection_split,
        units=first.units,
        data_report=first.data_report,
        fingerprints=first.fingerprints,
        leakage=first.leakage,
        trainable_parameters=first.trainable_parameters,
        total_parameters=first.total_parameters,
        steps=[run.steps for run in runs],
        training_seconds=[run.training_seconds for run in runs],
        peak_memory_mb=max(run.peak_memory_mb for run in runs),
        environment=last.environment,
        scales=first.scales,
        notes=list(_notes(seeds, runs)),
        started=min(run.started for run in runs),
        directory=str(directory),
    )


def _add_means(numbers: _Numbers, runs: Sequence[Result], split: str) -> None:
    """Add the mean and the standard deviation of each score that every run has."""
    values = _shared([run.scores[split] for run in runs])
    numbers.seed_scores[split] = values
    numbers.scores[split] = {name: mean(each) for name, each in values.items()}
    numbers.deviations[split] = {name: stdev(each) for name, each in values.items()}
    base = _shared([run.base_model_scores.get(split, {}) for run in runs])
    if base:
        numbers.base_model_scores[split] = {name: mean(each) for name, each in base.items()}
    if split != "train":
        numbers.baselines[split] = {}
        for other in runs[0].baselines.get(split, {}):
            shared = _shared([run.baselines.get(split, {}).get(other, {}) for run in runs])
            numbers.baselines[split][other] = {name: mean(each) for name, each in shared.items()}


def _shared(scores: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return the values of each score that all runs have, and that is a number in all of them.

    >>> _shared([{"f1": 0.5, "loss": 1.0}, {"f1": 0.25, "loss": float("nan")}])
    {'f1': [0.5, 0.25]}
    """
    found = {}
    for name in scores[0]:
        values = [each.get(name, math.nan) for each in scores]
        if all(map(math.isfinite, values)):
            found[name] = values
    return found


def _add_intervals(numbers: _Numbers, runs: Sequence[Result], split: str) -> None:
    """Add the intervals of the scores of a held-out split, and of the differences from base model and baselines.

    The scores of single classes have none: there can be hundreds.
    """
    directories = [run.directory for run in runs]
    records = [comparison.records_of(directory, split) for directory in directories]
    comparison.require_complete(runs, records, split)
    evaluators = [comparison.evaluator_of(run) for run in runs]
    units = comparison.units_of(runs[0], split)
    shown = verdicts.shown(numbers.scores[split], primary=runs[0].primary)
    names = {name for name in shown if "/" not in name}
    own = sides.sampled(evaluators, records, units, seed=_SEED, names=names)
    fields = (numbers.intervals, numbers.row_intervals, numbers.seed_intervals, numbers.variances)
    for each in fields:
        each[split] = {}
    for name, found in own.items():
        combined = crossed.combine(found)
        if combined is not None and name in numbers.scores[split]:
            _add(numbers, split, name, combined)
    others = [dict(_others_of(directory, split)) for directory in directories]
    numbers.differences[split] = {}
    for other in others[0]:
        if all(other in each and len(each[other]) == len(records[0]) for each in others):
            theirs = [each[other] for each in others]
            numbers.differences[split][other] = _differences(own, evaluators, theirs, units)


def _add(numbers: _Numbers, split: str, name: str, combined: Crossed) -> None:
    numbers.intervals[split][name] = asdict(combined.both)
    numbers.row_intervals[split][name] = asdict(combined.rows)
    if combined.seeds is not None:
        numbers.seed_intervals[split][name] = asdict(combined.seeds)
    numbers.variances[split][name] = {"rows": combined.variance_of_rows, "seeds": combined.variance_of_seeds}


def _differences(
    own: Mapping[str, Sampled], evaluators: Sequence[Evaluator], theirs: Sequence[Sequence[Record]], units: Any
) -> dict[str, dict[str, float]]:
    """Return the difference of each score from that of another predictor, paired over rows and seeds."""
    found = {}
    for name, other in sides.sampled(evaluators, theirs, units, seed=_SEED, names=own).items():
        if name not in own or own[name].drawn.shape != other.drawn.shape:  # one of them has no tallies
            continue
        combined = crossed.combine(own[name].minus(other))
        if combined is not None:
            found[name] = {"value": combined.value, **asdict(combined.both)}
    return found


def _notes(seeds: Sequence[int], runs: Sequence[Result]) -> Iterator[str]:
    """Yield the notes of all runs once, and those of some with their seeds."""
    for note in dict.fromkeys(note for run in runs for note in run.notes):
        having = [str(seed) for seed, run in zip(seeds, runs, strict=True) if note in run.notes]
        yield note if len(having) == len(runs) else f"seed {', '.join(having)}: {note}"
    for split in runs[0].scores:
        for seed, run in zip(seeds, runs, strict=True):
            if split != "train" and run.primary not in run.scores[split]:
                yield f"seed {seed} has no {run.primary} on {split}, so there is no mean of it"


def keep_others(output: Path, scored: Scored, base: Scored | None) -> None:
    """Write what the base model and the baselines predicted, of which the mean difference of several seeds is computed.

    Args:
        output: The run folder of one of the seeds.
        scored: The records of the fine-tuned model and of the baselines.
        base: The records of the base model; None if it was not scored.
    """
    write(output / BASELINES, (to_json(line, default=str) + "\n" for line in _lines(scored, base)))


def _lines(scored: Scored, base: Scored | None) -> Iterator[dict[str, Any]]:
    for split, own in scored.records.items():
        if split == "train":
            continue
        others: dict[str, Sequence[Record]] = dict(scored.baselines.get(split, {}))
        if base is not None:
            others = {BASE_MODEL: base.records[split], **others}
        for name, records in others.items():
            for index, record in enumerate(records if len(records) == len(own) else ()):
                line = {"split": split, "predictor": name, "index": index, "record": record}
                if found := find_non_finite(line):
                    line[NON_FINITE] = found
                yield line


def _others_of(directory: str, split: str) -> Iterable[tuple[str, list[Record]]]:
    """Return the records of the base model and of each baseline on a split: (name, records)."""
    path = Path(directory) / BASELINES
    found: dict[str, list[Record]] = {}
    for line in comparison.read_lines(path, split, written_by="The run of a seed"):
        found.setdefault(line["predictor"], []).append(line["record"])
    return found.items()
