"""Compare runs on the same rows: scores, paired differences, cost, and the differences between their recipes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.errors import BadData
from finetune.evaluation import bootstrap, evidence, verdicts
from finetune.interfaces import Evaluator, Record
from finetune.recipe import options
from finetune.result import NON_FINITE, PREDICTIONS, Result, restore_non_finite

_OURS = {"split", "index", "place", "example", "evaluation"}
"""Keys in a line of `predictions.jsonl` that are not part of the record."""
_EXPECTED = {"output"}
"""Sections of a recipe that always differ."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One run, compared with the first."""

    run: str
    score: float
    interval: Mapping[str, float] | None
    difference: Mapping[str, float] | None
    """``value``, ``low`` and ``high`` of this run − first run; None for the first run."""
    verdict: str
    """``better``, ``worse`` or ``inconclusive``; ``first`` for the first run."""
    trainable_parameters: int
    total_parameters: int
    training_seconds: float
    peak_memory_mb: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several runs, scored on the same rows."""

    split: str
    primary: str
    greater_is_better: bool
    size: int
    runs: Sequence[Compared]
    recipes: Mapping[str, Sequence[Any]]
    """Recipe key whose value differs → its value in each run."""


def compare(directories: Sequence[str | Path], *, split: str | None = None) -> Comparison:
    """Compare finished runs with the first of them, row by row.

    Args:
        directories: The run folders.
        split: The split to compare on; None for `test` if it exists, else `validation`.

    Raises:
        BadRecipe: A folder holds no finished run.
        BadData: The runs were scored on different rows, or by different scores.
    """
    results = [Result.load(directory) for directory in directories]
    first = results[0]
    chosen = split or verdicts.report_split(first)
    if chosen is None or chosen not in first.scores:
        raise BadData(f"{first.directory} has no split {split or 'test'!r}. It has: {', '.join(first.scores)}.")
    _require_same_rows(results, chosen)
    records = [records_of(result.directory, chosen) for result in results]
    _require_complete(results, records, chosen)
    evaluator, units = evaluator_of(first), units_of(first, chosen)
    return Comparison(
        split=chosen,
        primary=first.primary,
        greater_is_better=first.greater_is_better,
        size=len(records[0]),
        runs=[
            _compare_with_first(evaluator, first, result, records[0], own, split=chosen, units=units)
            for result, own in zip(results, records, strict=True)
        ],
        recipes=_differing([result.recipe for result in results]),
    )


def _compare_with_first(
    evaluator: Evaluator,
    first: Result,
    result: Result,
    theirs: Sequence[Record],
    own: Sequence[Record],
    *,
    split: str,
    units: Any,
) -> Compared:
    difference = None
    if result is not first:
        found = evidence.compare(evaluator, own, theirs, units=units, seed=first.recipe["seed"])
        difference = found.get(first.primary)
    verdict = "first" if result is first else "inconclusive"
    if difference is not None:
        verdict = verdicts.verdict(difference, greater_is_better=first.greater_is_better)
    return Compared(
        run=result.directory,
        score=result.scores[split][first.primary],
        interval=result.intervals.get(split, {}).get(first.primary),
        difference=difference,
        verdict=verdict,
        trainable_parameters=result.trainable_parameters,
        total_parameters=result.total_parameters,
        training_seconds=sum(phase.seconds for phase in result.phases if phase.name == "train"),
        peak_memory_mb=max(phase.peak_memory_mb for phase in result.phases),
        steps=result.steps,
    )


def records_of(directory: str | Path, split: str) -> list[Record]:
    """Return the records of one split, as the run wrote them.

    Raises:
        BadData: The file does not exist, or is damaged.
    """
    records = []
    for line in lines_of(directory, split):
        records.append({key: value for key, value in line.items() if key not in _OURS})
    return records


def lines_of(directory: str | Path, split: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of `predictions.jsonl` that belong to one split."""
    path, number = Path(directory) / PREDICTIONS, 0
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                number += 1
                content = json.loads(line)
                restore_non_finite(content, content.pop(NON_FINITE, ()))
                if content["split"] == split:
                    yield content
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error}. A run writes it at its end.") from error
    except (ValueError, LookupError, TypeError) as error:
        raise BadData(
            f"{path}:{number}: the line is damaged: {error}. Restore the file as the run wrote it."
        ) from error


def evaluator_of(result: Result) -> Evaluator:
    """Return the fitted evaluator of a run."""
    built: Evaluator = options.rebuild(result.evaluator, where="evaluator")
    return built


def units_of(result: Result, split: str) -> Any:
    """Return the independent unit of each row of a split, numbered from 0; None if each row is independent."""
    column = result.units.get(split, {}).get("column")
    if column is None:
        return None
    return bootstrap.as_unit_ids([line["example"][column] for line in lines_of(result.directory, split)])


def _require_same_rows(results: Sequence[Result], split: str) -> None:
    first = results[0]
    for result in results[1:]:
        if split not in result.scores:
            raise BadData(f"{result.directory} has no split {split!r}. It has: {', '.join(result.scores)}.")
        if result.fingerprints[split] != first.fingerprints[split]:
            raise BadData(
                f"{first.directory} and {result.directory} were scored on different rows: the fingerprints of their "
                f"{split} are {first.fingerprints[split][:12]} and {result.fingerprints[split][:12]}. "
                "Score both on the same file."
            )
        if result.primary != first.primary or result.evaluator["class"] != first.evaluator["class"]:
            raise BadData(
                f"The primary score of {first.directory} is {first.primary!r} of {first.evaluator['class']}, that of "
                f"{result.directory} is {result.primary!r} of {result.evaluator['class']}. Give both runs the same "
                "evaluator."
            )
    for result in results:
        if result.primary not in result.scores[split]:
            why = result.details.get(split, {}).get("undefined", {}).get(result.primary)
            raise BadData(
                f"{result.directory} has no {result.primary} on {split}{f': {why}' if why else ''}. Choose a score "
                "that can always be computed (evaluator.primary), or another split."
            )


def _require_complete(results: Sequence[Result], records: Sequence[Sequence[Record]], split: str) -> None:
    for result, own in zip(results, records, strict=True):
        wanted = result.data_report.get(split, {}).get("kept", len(own))
        if not own or len(own) != wanted:
            raise BadData(
                f"{Path(result.directory) / PREDICTIONS} holds {len(own):,} of {wanted:,} rows of {split}."
                + (" A run does not keep rows of train: compare on another split." if split == "train" else "")
            )


def _differing(recipes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    flat = [dict(_flat(recipe)) for recipe in recipes]
    found = {}
    for recipe in flat:
        for key in recipe:
            values = [each.get(key) for each in flat]
            differs = any(value != values[0] for value in values)
            if differs and key.split(".")[0] not in _EXPECTED:
                found[key] = values
    return found


def _flat(content: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a recipe with their full keys: ``training.learning_rate``."""
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _flat(value, f"{at}.{key}" if at else str(key))
    else:
        yield at, content
