"""What is compared: a run, or the runs of several seeds; each run with its own records and its own evaluator."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune.evaluation import crossed
from finetune.evaluation.crossed import Crossed, Sampled
from finetune.interfaces import Evaluator, Record
from finetune.recipe import seed_folder
from finetune.result import Result
from finetune.seed_folders import seeds_of
from finetune.seeds_result import SeedsResult


@dataclass(frozen=True, kw_only=True)
class Side:
    """A run, or the runs of several seeds."""

    directory: str
    """Path of the run folder, or of the folder of several seeds."""
    results: Sequence[Result]
    """The result of each run."""
    whole: SeedsResult | None
    """The result of several seeds; None for a run."""

    @property
    def first(self) -> Result:
        """The first run."""
        return self.results[0]

    @property
    def seeds(self) -> list[int]:
        """The seed of each run."""
        return [int(result.recipe["seed"]) for result in self.results]

    def ordered_like(self, other: Side) -> Side | None:
        """Return the same side with its runs in the order of the seeds of another; None if it has other seeds."""
        if len(self.results) < 2 or sorted(self.seeds) != sorted(other.seeds):
            return None
        by_seed = dict(zip(self.seeds, self.results, strict=True))
        return Side(directory=self.directory, results=[by_seed[seed] for seed in other.seeds], whole=self.whole)


def load(directory: str | Path) -> Side:
    """Read a run folder, or a folder of several seeds.

    Raises:
        BadRecipe: It is neither, or not finished.
    """
    if not seeds_of(Path(directory)):
        result = Result.load(directory)
        return Side(directory=result.directory, results=[result], whole=None)
    whole = SeedsResult.load(directory)
    runs = [Result.load(Path(directory) / seed_folder(seed)) for seed in whole.seeds]
    return Side(directory=str(directory), results=runs, whole=whole)


def sampled(
    evaluators: Sequence[Evaluator],
    records: Sequence[Sequence[Record]],
    units: Any,
    *,
    seed: int,
    names: Collection[str] | None = None,
) -> dict[str, Sampled]:
    """Score the records of several models on the same resamples of their rows.

    Args:
        evaluators: The fitted evaluator of each model.
        records: The records of each model, on the same rows in the same order.
        units: The independent unit of each row, numbered from 0; None if each row is independent.
        seed: Seed of the resamples.
        names: The scores that are wanted; None for the primary score alone.

    Returns:
        Each score that its tallies give, and the primary score in any case, if all models have it.
    """
    found = _sampled(evaluators, records, units, seed=seed, names=names)
    scales = evaluators[0].scales()
    for name, each in found.items():
        limits = each.limits or limits_of(scales.get(name, ""))
        found[name] = replace(each, limits=limits)
    return found


def difference(
    evaluator: Evaluator,
    first: Sequence[Sequence[Record]],
    second: Sequence[Sequence[Record]],
    *,
    units: Any = None,
    seed: int = 0,
) -> Crossed | None:
    """Return first − second of the primary score, paired over rows and seeds; None if it cannot be computed.

    Args:
        evaluator: Scores the records.
        first: For each seed, one record for each example.
        second: For the same seeds, records of the same examples in the same order.
        units: The independent unit of each example, numbered from 0; None if each example is independent.
        seed: Seed of the resamples.
    """
    found = []
    for models in (first, second):
        scores = sampled([evaluator] * len(models), models, units, seed=seed)
        if evaluator.primary not in scores:
            return None
        found.append(scores[evaluator.primary])
    left, right = found
    if len(left.drawn) != len(right.drawn):  # one of them has no tallies
        return None
    return crossed.combine(left.minus(right))


def limits_of(scale: str) -> tuple[float, float] | None:
    """Return the least and greatest value of a scale in words; None if they are not known.

    >>> limits_of("0 to 100"), limits_of("−1 to 1"), limits_of("nats per token")
    ((0.0, 100.0), (-1.0, 1.0), None)
    """
    found = _SCALE.fullmatch(scale.replace("−", "-"))
    return (float(found[1]), float(found[2])) if found else None


_SCALE = re.compile(r"(-?[\d.]+) to (-?[\d.]+)")


def _sampled(
    evaluators: Sequence[Evaluator],
    records: Sequence[Sequence[Record]],
    units: Any,
    *,
    seed: int,
    names: Collection[str] | None,
) -> dict[str, Sampled]:
    primary = evaluators[0].primary
    wanted = {primary, *(names or ())}
    tallies = [evaluator.tallies(own) for evaluator, own in zip(evaluators, records, strict=True)]
    known = [each for each in tallies if each is not None]
    found: dict[str, Sampled] = {}
    if len(known) == len(tallies):
        found = crossed.sampled(known, units, seed=seed, names=wanted)
    if primary in found:
        return found

    def primaries(places: Sequence[int]) -> list[float]:
        values = []
        for evaluator, own in zip(evaluators, records, strict=True):
            values.append(evaluator.scores([own[place] for place in places]).get(primary, math.nan))
        return values

    again = crossed.recomputed(primaries, len(records[0]), units, seed=seed)
    return found if again is None else {primary: again, **found}
