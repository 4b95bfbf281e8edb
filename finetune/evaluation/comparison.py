"""Compare runs on the same rows: scores, paired differences, cost, and the differences between their recipes.

A side of a comparison can be the runs of several seeds. The difference of their means then counts what other rows and
what other seeds would change; see `finetune.evaluation.crossed`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from finetune.errors import BadData
from finetune.evaluation import bootstrap, crossed, evidence, sides, verdicts
from finetune.evaluation.sides import Side
from finetune.interfaces import Evaluator, Record
from finetune.recipe import as_trained, options
from finetune.result import NON_FINITE, PREDICTIONS, Result, restore_non_finite

_OURS = {"split", "index", "place", "example", "evaluation"}
"""Keys in a line of `predictions.jsonl` that are not part of the record."""
_EXPECTED = {"output"}
"""Sections of a recipe that always differ."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One run, or the runs of several seeds, compared with the first."""

    run: str
    score: float
    """With several seeds, the mean over them."""
    interval: Mapping[str, float] | None
    difference: Mapping[str, float] | None
    """``value``, ``low`` and ``high`` of this run − first run; None for the first run."""
    verdict: str
    """``better``, ``worse`` or ``inconclusive``; ``first`` for the first run."""
    trainable_parameters: int
    total_parameters: int
    training_seconds: float
    """With several seeds, the mean over their runs."""
    peak_memory_mb: float
    saved_bytes: int
    """Size of the weights that the run saved."""
    steps: int
    seeds: Sequence[int] = ()
    """The seed of each run."""
    deviation: float | None = None
    """Standard deviation of the score between the seeds; None for one run."""
    basis: str = ""
    """What the interval of the difference counts, in words, if one of the two has several seeds."""


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
        directories: The run folders; also folders of several seeds.
        split: The split to compare on; None for `test` if it exists, else `validation`.

    Raises:
        BadRecipe: A folder holds no finished run.
        BadData: The runs were scored on different rows, or by different scores.
    """
    compared = [sides.load(directory) for directory in directories]
    first = compared[0].first
    chosen = split or verdicts.report_split(first)
    if chosen is None or chosen not in first.scores:
        raise BadData(f"{first.directory} has no split {split or 'test'!r}. It has: {', '.join(first.scores)}.")
    runs = [result for side in compared for result in side.results]
    require_same_rows(runs, chosen)
    records = {result.directory: records_of(result.directory, chosen) for result in runs}
    require_complete(runs, [records[result.directory] for result in runs], chosen)
    rows = _Rows(split=chosen, records=records, units=units_of(first, chosen))
    return Comparison(
        split=chosen,
        primary=first.primary,
        greater_is_better=first.greater_is_better,
        size=len(records[first.directory]),
        runs=[_compare_with_first(compared[0], side, rows) for side in compared],
        recipes=_differing([side.whole.recipe if side.whole else side.first.recipe for side in compared]),
    )


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The rows on which runs are compared."""

    split: str
    records: Mapping[str, Sequence[Record]]
    """Run folder → its records."""
    units: Any
    """See `units_of`."""


def _compare_with_first(first: Side, side: Side, rows: _Rows) -> Compared:
    run, whole = side.first, side.whole
    difference, basis = (None, "") if side is first else _difference(first, side, rows)
    verdict = "first" if side is first else "inconclusive"
    if difference is not None:
        verdict = verdicts.verdict(difference, greater_is_better=run.greater_is_better)
    shown = whole or run
    return Compared(
        run=side.directory,
        score=shown.scores[rows.split].get(run.primary, math.nan),
        interval=shown.intervals.get(rows.split, {}).get(run.primary),
        difference=difference,
        verdict=verdict,
        trainable_parameters=run.trainable_parameters,
        total_parameters=run.total_parameters,
        training_seconds=mean(each.training_seconds for each in side.results),
        peak_memory_mb=max(each.peak_memory_mb for each in side.results),
        saved_bytes=max(each.saved_bytes for each in side.results),
        steps=run.steps,
        seeds=side.seeds,
        deviation=whole.deviations[rows.split].get(run.primary) if whole else None,
        basis=basis,
    )


def _difference(first: Side, side: Side, rows: _Rows) -> tuple[Mapping[str, float] | None, str]:
    """Return the paired difference side − first of the primary score, and what its interval counts in words."""
    primary, seed = first.first.primary, first.first.recipe["seed"]
    if first.whole is None and side.whole is None:
        own, theirs = rows.records[side.directory], rows.records[first.directory]
        found = evidence.compare(evaluator_of(first.first), own, theirs, units=rows.units, seed=seed)
        return found.get(primary), ""
    in_order = side.ordered_like(first)
    left, right = (_sampled(each, rows).get(primary) for each in (in_order or side, first))
    if left is None or right is None or len(left.drawn) != len(right.drawn):
        return None, ""
    combined = crossed.combine(left, right) if in_order is None else crossed.combine(left.minus(right))
    basis = _basis(first, side, paired=in_order is not None)
    if combined is None:
        return None, basis
    return {"value": combined.value, **asdict(combined.both)}, basis


def _sampled(side: Side, rows: _Rows) -> Mapping[str, crossed.Sampled]:
    """Return the primary score of the runs of a side on resamples of the rows, which are the same for every side."""
    evaluators = [evaluator_of(result) for result in side.results]
    records = [rows.records[result.directory] for result in side.results]
    return sides.sampled(evaluators, records, rows.units, seed=0)


def _basis(first: Side, side: Side, *, paired: bool) -> str:
    """Return what the interval of a difference counts."""
    if paired:
        return f"The difference is paired over the rows and over the seeds {listed(first.seeds)}."
    for one, other in ((first, side), (side, first)):
        if one.whole is None:
            return (
                f"The difference is paired over the rows and counts the variance between the {len(other.seeds)} seeds "
                f"of {other.directory}. {one.directory} is one run: what another seed would change there is not known."
            )
    return (
        "The difference is paired over the rows. The two have different seeds, so the variance between the seeds of "
        f"each is counted: {listed(first.seeds)}, and {listed(side.seeds)}."
    )


def listed(seeds: Sequence[int]) -> str:
    """Return seeds as text.

    >>> listed([0, 1, 2])
    '0, 1 and 2'
    """
    *before, last = map(str, seeds)
    return f"{', '.join(before)} and {last}" if before else last


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
    return read_lines(Path(directory) / PREDICTIONS, split, written_by="A run")


def read_lines(path: Path, split: str, *, written_by: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file of records that belong to one split, with the numbers that JSON has not.

    Args:
        path: The file.
        split: The split.
        written_by: What writes the file, for the message if it is not there.

    Raises:
        BadData: The file does not exist, or is damaged.
    """
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                number += 1
                content = json.loads(line)
                restore_non_finite(content, content.pop(NON_FINITE, ()))
                if content["split"] == split:
                    yield content
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error}. {written_by} writes it at its end.") from error
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


def require_same_rows(results: Sequence[Result], split: str) -> None:
    """Check that runs were scored on the same rows of a split, by the same score.

    Raises:
        BadData: They were not.
    """
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


def require_complete(results: Sequence[Result], records: Sequence[Sequence[Record]], split: str) -> None:
    """Check that the file of each run has a record of each row of a split.

    Raises:
        BadData: One has not.
    """
    for result, own in zip(results, records, strict=True):
        wanted = result.data_report.get(split, {}).get("kept", len(own))
        if not own or len(own) != wanted:
            raise BadData(
                f"{Path(result.directory) / PREDICTIONS} holds {len(own):,} of {wanted:,} rows of {split}."
                + (" A run does not keep rows of train: compare on another split." if split == "train" else "")
            )


def _differing(recipes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    flat = []
    for recipe in recipes:
        trained = as_trained(recipe)
        afterwards = ", ".join(trained.afterwards) or None
        flat.append({**dict(_flat(trained.recipe)), "afterwards": afterwards})
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
