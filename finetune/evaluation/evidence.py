"""How far the scores of a run may be trusted: intervals, trivial baselines, and what training changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from finetune.data.preparation import Prepared
from finetune.evaluation import bootstrap
from finetune.evaluation.bootstrap import Interval
from finetune.evaluation.scoring import Scored, by_data_set
from finetune.interfaces import Evaluator, Record

BASE_MODEL = "base_model"
"""The model before the first step, among those that the trained one is compared with."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What stands beside the scores of the splits that nothing was learned from."""

    units: Mapping[str, Mapping[str, Any]]
    """Split → how many independent units it has, and the column whose equal values make one (None: each row)."""
    intervals: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Split → score → ``low`` and ``high`` of the 95 % interval."""
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Split → baseline → score → number."""
    differences: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
    """Split → what the trained model is compared with → score → ``value``, ``low`` and ``high`` of trained − other."""


def compute_evidence(prepared: Prepared, scored: Scored, base_model: Scored | None) -> Evidence:
    """Compare the trained model with chance of the draw, with the base model and with trivial baselines."""
    seed, evaluator = prepared.plan.recipe.seed, scored.evaluator
    units, intervals, baselines, differences = {}, {}, {}, {}
    for split in scored.records:
        if split == "train":
            continue
        records, own = scored.records[split], unit_ids(prepared, split)
        others = dict(scored.baselines.get(split, {}))
        baselines[split] = {name: _scores(prepared, evaluator, each, split) for name, each in others.items()}
        if base_model is not None:
            others = {BASE_MODEL: base_model.records[split], **others}
        units[split] = {
            "column": prepared.plan.preprocessor.needs().group if own is not None else None,
            "size": len(set(own.tolist())) if own is not None else len(records),
        }
        intervals[split] = {
            name: asdict(each) for name, each in intervals_of(evaluator, records, own, seed=seed).items()
        }
        compared = {
            name: compare(evaluator, records, each, units=own, seed=seed)
            for name, each in others.items()
            if len(each) == len(records)
        }
        differences[split] = {name: found for name, found in compared.items() if found}
    return Evidence(units=units, intervals=intervals, baselines=baselines, differences=differences)


def _scores(prepared: Prepared, evaluator: Evaluator, records: Sequence[Record], split: str) -> dict[str, float]:
    """Return a baseline's scores and, where it has a record of each example, those of each data set of a mixture."""
    examples, scores = prepared.features[split].examples, evaluator.scores(records)
    if len(records) != len(examples):
        return scores
    return {**scores, **by_data_set(evaluator, prepared.plan, records, examples=examples)}


def intervals_of(
    evaluator: Evaluator, records: Sequence[Record], units: Any = None, *, seed: int = 0
) -> dict[str, Interval]:
    """Return the 95 % interval of every score that is made of sums, and of the primary score whatever it is made of."""
    tallies = evaluator.tallies(records)
    found = {} if tallies is None else bootstrap.intervals(tallies, units, seed=seed)
    if evaluator.primary in found:
        return found

    def primary(places: Sequence[int]) -> dict[str, float]:
        scores = evaluator.scores([records[place] for place in places])
        return {name: scores[name] for name in (evaluator.primary,) if name in scores}

    return {**bootstrap.by_recomputing(primary, len(records), units, seed=seed), **found}


def compare(
    evaluator: Evaluator, first: Sequence[Record], second: Sequence[Record], *, units: Any = None, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Return by how much the first scores are greater, on the same examples, with 95 % intervals.

    Of scores that are no sums, only the primary one is compared.
    """
    one, other = evaluator.tallies(first), evaluator.tallies(second)
    found = {}
    if one is not None and other is not None:
        found = {name: asdict(each) for name, each in bootstrap.differences(one, other, units, seed=seed).items()}
    if evaluator.primary in found:
        return found
    whole = _primary(evaluator, first, second, range(len(first)))
    drawn = bootstrap.by_recomputing(
        lambda places: _primary(evaluator, first, second, places), len(first), units, seed=seed
    )
    return {
        **{name: {"value": value, **asdict(drawn[name])} for name, value in whole.items() if name in drawn},
        **found,
    }


def _primary(
    evaluator: Evaluator, first: Sequence[Record], second: Sequence[Record], places: Sequence[int]
) -> dict[str, float]:
    """Return the difference of the primary scores of some examples, where both have one."""
    one, other = (evaluator.scores([records[place] for place in places]) for records in (first, second))
    return {name: one[name] - other[name] for name in (evaluator.primary,) if name in one and name in other}


def unit_ids(prepared: Prepared, split: str) -> Any:
    """Return which independent unit each example belongs to; None where each is its own."""
    examples, column = prepared.features[split].examples, prepared.plan.preprocessor.needs().group
    return bootstrap.as_unit_ids(examples[column]) if column in examples.column_names else None
