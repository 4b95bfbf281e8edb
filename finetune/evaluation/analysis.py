"""Where a model errs: the scores of parts of a split, and its worst errors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from finetune.data.preparation import Prepared
from finetune.errors import BadData, BadOptions
from finetune.evaluation import bootstrap
from finetune.evaluation.evidence import intervals_of, unit_ids
from finetune.evaluation.scoring import Scored
from finetune.interfaces import Evaluator, Record

WORST = 20
"""Worst errors of each split that a result holds; `predictions.jsonl` holds all."""
MOST_VALUES = 12
"""Most frequent values of a slice that are scored each; the others are one."""
LEAST = 2
"""Examples that a part has at least."""
OTHERS = "others"
_NUMBER = re.compile(r"(?:up to |over )?(\d[\d,]*(?:\.\d+)?)")
_SHOWN, _ROUND = 2000, 400
"""Characters of a text that a result holds, and round what is marked in a longer one."""


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Where a model errs, for every held-out split."""

    slices: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
    """Split → by what → for each value its ``size``, primary ``score`` and the ``low`` and ``high`` of its interval."""
    worst: Mapping[str, Sequence[Mapping[str, Any]]]
    """Split → its worst errors: where each stands, its ``cost``, the example and its record."""


Slices = Mapping[str, Mapping[str, Sequence[str]]]
"""Held-out split → each way to tell its examples apart → the part of each."""


def split_into_slices(prepared: Prepared, scored: Scored) -> Slices:
    """Return into which parts the examples of every held-out split fall."""
    return {
        split: {
            **scored.evaluator.slices(records, prepared.features[split].examples),
            **_by_length(prepared, split),
            **_by_column(prepared, split),
        }
        for split, records in scored.records.items()
        if split != "train"
    }


def analyse(prepared: Prepared, scored: Scored, parts: Slices) -> Analysis:
    """Score the parts of every held-out split, and find the worst errors."""
    slices, worst = {}, {}
    for split, by in parts.items():
        records, units, seed = scored.records[split], unit_ids(prepared, split), prepared.plan.recipe.seed
        slices[split] = {
            name: found
            for name, values in by.items()
            if len(found := score_slices(scored.evaluator, records, values, units=units, seed=seed)) > 1
        }
        worst[split] = _worst(scored.evaluator, records, prepared.features[split].examples)
    return Analysis(slices=slices, worst=worst)


def score_examples(scored: Scored, parts: Slices) -> dict[str, list[dict[str, Any]]]:
    """Return how every held-out example is judged, for whoever reads `predictions.jsonl`.

    ``score`` is the primary score of that example alone (None where one example has none, as of a correlation),
    ``cost`` how wrong its record is, and ``parts`` the part that it belongs to, of each way to tell parts apart.
    """
    return {split: _example_scores(scored.evaluator, scored.records[split], by) for split, by in parts.items()}


def _example_scores(
    evaluator: Evaluator, records: Sequence[Record], parts: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    tallies = evaluator.tallies(records)
    alone = {} if tallies is None else tallies.scores(np.asarray(tallies.values, dtype=np.float64))
    nothing = np.full(len(records), np.nan)
    numbers = zip(alone.get(evaluator.primary, nothing).tolist(), map(float, evaluator.losses(records)), strict=True)
    return [
        {
            "score": score if np.isfinite(score) else None,
            "cost": cost if np.isfinite(cost) else None,
            "parts": {name: values[place] for name, values in parts.items()},
        }
        for place, (score, cost) in enumerate(numbers)
    ]


def score_slices(
    evaluator: Evaluator, records: Sequence[Record], values: Sequence[str], *, units: Any = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Return size, primary score and its 95 % interval for every value: numbers in order, others by frequency."""
    known, counts = np.unique(np.asarray(values, dtype=object), return_counts=True)
    often = known[np.argsort(-counts, kind="stable")].tolist()
    names = often if len(often) <= MOST_VALUES else often[: MOST_VALUES - 1]
    told = np.array([value if value in names else OTHERS for value in values], dtype=object)
    names = sorted(names, key=in_order) if sum(_NUMBER.match(name) is not None for name in names) > 1 else names
    found = []
    for value in [*names, *([OTHERS] if len(often) > len(names) else [])]:
        places = np.flatnonzero(told == value)
        part = [records[place] for place in places.tolist()]
        score = _score(evaluator, part) if len(part) >= LEAST else None
        if score is None:
            continue
        own = None if units is None else bootstrap.as_unit_ids(np.asarray(units)[places].tolist())
        bounds = intervals_of(evaluator, part, own, seed=seed).get(evaluator.primary)
        found.append({"value": value, "size": len(part), "score": score, **(asdict(bounds) if bounds else {})})
    return found


def in_order(value: str) -> tuple[bool, float, bool]:
    """Return by what a range of numbers is put in its place; what holds no number comes last.

    >>> sorted(["over 1,390", "69 to 1,390", "no answer", "up to 68"], key=in_order)
    ['up to 68', '69 to 1,390', 'over 1,390', 'no answer']
    """
    found = _NUMBER.match(value)
    return found is None, float(found[1].replace(",", "")) if found else 0.0, value.startswith("over")


def _score(evaluator: Evaluator, part: Sequence[Record]) -> float | None:
    """Return the primary score of a part; None where there is nothing in it that can be scored."""
    try:
        return evaluator.scores(part).get(evaluator.primary)
    except (BadData, BadOptions):  # the whole was scored: this part has no masked token, no reward, no word of ROUGE's
        return None


def _by_length(prepared: Prepared, split: str) -> dict[str, list[str]]:
    """Return the quarter of the examples that each belongs to by the length of its longest text column."""
    examples = prepared.features[split].examples
    columns = [name for name in prepared.plan.preprocessor.needs().required if name in examples.column_names]
    texts = {name: examples[name][:] for name in columns}
    sizes = {name: [len(text) for text in column if isinstance(text, str)] for name, column in texts.items()}
    whole = {name: np.array(lengths) for name, lengths in sizes.items() if len(lengths) == len(examples)}
    if not whole:
        return {}
    name = max(whole, key=lambda column: int(whole[column].sum()))
    edges = np.unique(np.quantile(whole[name], [0.25, 0.5, 0.75]).astype(int)).tolist()
    between = [f"{below + 1:,} to {edge:,}" for below, edge in pairwise(edges)]
    labels = [f"up to {edges[0]:,}", *between, f"over {edges[-1]:,}"]
    places = np.searchsorted(edges, whole[name], side="left").tolist()
    return {f"characters of {name}": [labels[place] for place in places]}


def _by_column(prepared: Prepared, split: str) -> dict[str, list[str]]:
    """Return the values of the columns that the recipe names."""
    examples = prepared.features[split].examples
    return {name: [str(value) for value in examples[name]] for name in prepared.plan.recipe.slices}


def _worst(evaluator: Evaluator, records: Sequence[Record], examples: Any) -> list[dict[str, Any]]:
    costs = np.nan_to_num(np.asarray(evaluator.losses(records), dtype=np.float64), nan=np.inf)
    order = [place for place in np.argsort(-costs, kind="stable")[:WORST].tolist() if costs[place] > 0]
    return [
        {
            "index": place,
            "cost": float(min(costs[place], np.finfo(np.float64).max)),
            **_marked(dict(examples[place]), evaluator.highlights(records[place], examples[place])),
            "record": _cut(records[place]),
        }
        for place in order
    ]


def _marked(example: dict[str, Any], marks: Mapping[str, Sequence[tuple[int, int, str]]]) -> dict[str, Any]:
    """Return an example as a result holds it, long texts cut round what is marked in them, and the marks."""
    moved: dict[str, list[list[Any]]] = {}
    for column, spans in marks.items():
        text = example[column]
        first = max(min((start for start, _, _ in spans), default=0) - _ROUND, 0)
        last = max((end for _, end, _ in spans), default=0) + _ROUND
        if len(text) <= _SHOWN or last - first > _SHOWN:
            first, last = 0, len(text)
        before, after = "…" if first else "", "…" if last < len(text) else ""
        example[column] = before + text[first:last] + after
        shift = len(before) - first
        moved[column] = [[start + shift, end + shift, kind] for start, end, kind in spans]
    return {"example": _cut(example), "marks": moved}


def _cut(value: Any) -> Any:
    """Return what JSON can hold of a value, its texts no longer than `_SHOWN`."""
    if isinstance(value, str):
        return value if len(value) <= _SHOWN else value[:_SHOWN] + "…"
    if isinstance(value, Mapping):
        return {name: _cut(each) for name, each in value.items() if name != "nbest"}
    if isinstance(value, list | tuple):
        return [_cut(each) for each in value[:_SHOWN]]
    return value if isinstance(value, bool | int | float | None) else str(value)
