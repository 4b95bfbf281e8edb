"""How far the scores of a run can be trusted: intervals, baselines, and differences from the base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from finetune.data.preparation import Prepared
from finetune.evaluation import bootstrap
from finetune.evaluation.bootstrap import Interval
from finetune.evaluation.scoring import Scored, by_data_set
from finetune.evaluation.units import unit_ids
from finetune.interfaces import Evaluator, Record, Tallies
from finetune.result import BASE_MODEL


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Intervals, baselines and differences of the held-out splits; the fields of `Result` with the same names."""

    units: Mapping[str, Mapping[str, Any]]
    """Split → ``size``, its number of independent units, and the ``column`` whose equal values form
    one (None: rows)."""
    intervals: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Split → score → ``low`` and ``high`` of the 95% interval."""
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Split → baseline → score → number."""
    differences: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
    """Split → base model or baseline → score → ``value``, ``low`` and ``high`` of fine-tuned −
    other."""


def compute_evidence(prepared: Prepared, scored: Scored, base_model: Scored | None) -> Evidence:
    """Compute the intervals of the scores, and compare the fine-tuned model with the base model and baselines."""
    seed, evaluator = prepared.plan.recipe.seed, scored.evaluator
    units: dict[str, dict[str, Any]] = {}
    intervals: dict[str, dict[str, dict[str, float]]] = {}
    baselines: dict[str, dict[str, dict[str, float]]] = {}
    differences: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for split, records in scored.records.items():
        if split == "train":
            continue
        own = unit_ids(prepared, split)
        units[split] = _describe_units(prepared, own, size=len(records))
        bounds = intervals_of(evaluator, records, own, seed=seed)
        intervals[split] = {name: asdict(each) for name, each in bounds.items()}
        others = dict(scored.baselines.get(split, {}))
        baselines[split] = {name: _scores(prepared, evaluator, each, split) for name, each in others.items()}
        if base_model is not None:
            others = {BASE_MODEL: base_model.records[split], **others}
        differences[split] = {}
        for name, theirs in others.items():
            is_paired = len(theirs) == len(records)
            found = compare(evaluator, records, theirs, units=own, seed=seed) if is_paired else {}
            if found:
                differences[split][name] = found
    return Evidence(units=units, intervals=intervals, baselines=baselines, differences=differences)


def _describe_units(prepared: Prepared, units: Any, *, size: int) -> dict[str, Any]:
    if units is None:
        return {"column": None, "size": size}
    return {"column": prepared.plan.preprocessor.needs().group, "size": len(set(units.tolist()))}


def _scores(prepared: Prepared, evaluator: Evaluator, records: Sequence[Record], split: str) -> dict[str, float]:
    """Return a baseline's scores and, if it has a record of each example, its scores on each data set of a mixture."""
    examples, scores = prepared.features[split].examples, evaluator.scores(records)
    if len(records) != len(examples):
        return scores
    return {**scores, **by_data_set(evaluator, prepared.plan, records, examples=examples)}


def intervals_of(
    evaluator: Evaluator, records: Sequence[Record], units: Any = None, *, seed: int = 0
) -> dict[str, Interval]:
    """Return the 95% interval of the primary score and of every score that the evaluator's tallies give."""
    tallies = evaluator.tallies(records)
    found = {} if tallies is None else bootstrap.intervals(tallies, units, seed=seed)
    if evaluator.primary in found or _has_sums(tallies, evaluator.primary):
        return found

    def primary(places: Sequence[int]) -> dict[str, float]:
        scores = evaluator.scores([records[place] for place in places])
        return {name: scores[name] for name in (evaluator.primary,) if name in scores}

    return {**bootstrap.by_recomputing(primary, len(records), units, seed=seed), **found}


def compare(
    evaluator: Evaluator, first: Sequence[Record], second: Sequence[Record], *, units: Any = None, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Return, for each score, first − second on the same examples: ``value``, and ``low`` and ``high`` at 95%.

    Scores without tallies are left out, except the primary score.

    Args:
        evaluator: Scores the records.
        first: One record for each example.
        second: Records of the same examples in the same order.
        units: The independent unit of each example, numbered from 0; None if each example is
            independent.
        seed: Seed of the bootstrap.
    """
    one, other = evaluator.tallies(first), evaluator.tallies(second)
    found = {}
    if one is not None and other is not None:
        for name, difference in bootstrap.differences(one, other, units, seed=seed).items():
            found[name] = asdict(difference)
    if evaluator.primary in found or (_has_sums(one, evaluator.primary) and _has_sums(other, evaluator.primary)):
        return found
    whole = _primary(evaluator, first, second, range(len(first)))
    drawn = bootstrap.by_recomputing(
        lambda places: _primary(evaluator, first, second, places), len(first), units, seed=seed
    )
    for name, value in whole.items():
        if name in drawn:
            found[name] = {"value": value, **asdict(drawn[name])}
    return found


def _has_sums(tallies: Tallies | None, score: str) -> bool:
    """Return whether tallies give a score; if they give no interval of it, computing it again gives none either."""
    return tallies is not None and score in tallies.scores(bootstrap.by_unit(tallies.values, None).sum(axis=0))


def _primary(
    evaluator: Evaluator, first: Sequence[Record], second: Sequence[Record], places: Sequence[int]
) -> dict[str, float]:
    """Return the difference of the primary scores of some examples; empty if either score cannot be computed."""
    one, other = (evaluator.scores([records[place] for place in places]) for records in (first, second))
    return {name: one[name] - other[name] for name in (evaluator.primary,) if name in one and name in other}
