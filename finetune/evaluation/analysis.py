"""Where a model errs: the scores of slices of a split, and its worst errors."""

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
from finetune.evaluation.evidence import intervals_of
from finetune.evaluation.scoring import Scored
from finetune.evaluation.units import unit_ids
from finetune.interfaces import Evaluator, Record

WORST = 20
"""Worst errors of each split that a result holds; `predictions.jsonl` holds every example."""
MOST_VALUES = 12
"""Most values of a slice that are scored separately; the rarer ones are scored together as
`OTHERS`."""
LEAST = 2
"""A slice with fewer examples is not scored."""
OTHERS = "others"
_NUMBER = re.compile(r"(?:up to |over )?(\d[\d,]*(?:\.\d+)?)")
_SHOWN, _ROUND = 100_000, 20_000
"""Most characters of a text in a result, and the characters kept around a highlight when a longer
text is cut. `predictions.jsonl` holds every text whole."""

Slices = Mapping[str, Mapping[str, Sequence[str]]]
"""Held-out split → name of a slicing → the slice of each example."""


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Where a model errs, for every held-out split."""

    slices: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
    """Split → name → for each value its ``size``, primary ``score``, and the ``low`` and ``high``
    of its interval."""
    worst: Mapping[str, Sequence[Mapping[str, Any]]]
    """Split → its worst errors: the ``index``, ``place`` and ``loss`` of each, its ``example``, ``record`` and
    ``highlights``."""


def split_into_slices(prepared: Prepared, scored: Scored) -> Slices:
    """Return the slice of every held-out example: by evaluator, by length, and by the columns of the recipe."""
    found = {}
    for split, records in scored.records.items():
        if split != "train":
            by_evaluator = scored.evaluator.slices(records, prepared.features[split].examples)
            found[split] = {**by_evaluator, **_by_length(prepared, split), **_by_column(prepared, split)}
    return found


def analyse(prepared: Prepared, scored: Scored, slices: Slices) -> Analysis:
    """Score the slices of every held-out split, and find the worst errors."""
    scores: dict[str, dict[str, list[dict[str, Any]]]] = {}
    worst = {}
    seed = prepared.plan.recipe.seed
    for split, slicings in slices.items():
        records, units = scored.records[split], unit_ids(prepared, split)
        scores[split] = {}
        for name, values in slicings.items():
            found = score_slices(scored.evaluator, records, values, units=units, seed=seed)
            if len(found) > 1:
                scores[split][name] = found
        examples, places = prepared.features[split].examples, prepared.examples.places[split]
        worst[split] = _worst(scored.evaluator, records, examples, places)
    return Analysis(slices=scores, worst=worst)


def score_examples(scored: Scored, slices: Slices) -> dict[str, list[dict[str, Any]]]:
    """Return the ``evaluation`` of every held-out example, as `predictions.jsonl` holds it.

    ``score`` is the primary score of this example alone (None if one example has none, as for a
    correlation), ``loss`` is how wrong its record is, and ``slices`` names the slice it belongs to
    in each slicing.
    """
    return {
        split: _evaluate_examples(scored.evaluator, scored.records[split], slicings)
        for split, slicings in slices.items()
    }


def _evaluate_examples(
    evaluator: Evaluator, records: Sequence[Record], slicings: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    scores = np.full(len(records), np.nan)
    tallies = evaluator.tallies(records)
    if tallies is not None:
        primary = evaluator.primary
        each = bootstrap.in_parts(
            lambda sums: {name: values for name, values in tallies.scores(sums).items() if name == primary},
            np.asarray(tallies.values, dtype=np.float64),
        )
        scores = each.get(primary, scores)
    losses = np.asarray(evaluator.losses(records), dtype=np.float64)
    evaluations = []
    for place, (score, loss) in enumerate(zip(scores.tolist(), losses.tolist(), strict=True)):
        slices = {name: values[place] for name, values in slicings.items()}
        evaluations.append({"score": _finite(score), "loss": _finite(loss), "slices": slices})
    return evaluations


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def score_slices(
    evaluator: Evaluator, records: Sequence[Record], values: Sequence[str], *, units: Any = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Return ``size``, primary ``score`` and its 95% interval for every slice.

    Slices that are ranges of numbers come in their order, others by frequency.

    Args:
        evaluator: Scores the records.
        records: Records of one split.
        values: The slice of each record.
        units: The independent unit of each record, numbered from 0; None if each record is
            independent.
        seed: Seed of the bootstrap.
    """
    names, grouped = _group_rare(values)
    found = []
    for name in names:
        places = np.flatnonzero(grouped == name)
        part = [records[place] for place in places.tolist()]
        score = _score(evaluator, part) if len(part) >= LEAST else None
        if score is None:
            continue
        own = None if units is None else bootstrap.as_unit_ids(np.asarray(units)[places].tolist())
        bounds = intervals_of(evaluator, part, own, seed=seed).get(evaluator.primary)
        found.append({"value": name, "size": len(part), "score": score, **(asdict(bounds) if bounds else {})})
    return found


def _group_rare(values: Sequence[str]) -> tuple[list[str], Any]:
    """Return the slices to score in their order, and the slice of each example, rare values replaced by `OTHERS`."""
    known, counts = np.unique(np.asarray(values, dtype=object), return_counts=True)
    by_frequency = known[np.argsort(-counts, kind="stable")].tolist()
    has_rare = len(by_frequency) > MOST_VALUES
    names = by_frequency[: MOST_VALUES - 1] if has_rare else by_frequency
    grouped = np.array([value if value in names else OTHERS for value in values], dtype=object)
    if sum(_NUMBER.match(name) is not None for name in names) > 1:
        names = sorted(names, key=in_order)
    return [*names, OTHERS] if has_rare else names, grouped


def in_order(value: str) -> tuple[bool, float, bool]:
    """Return the sort key of a slice that is a range of numbers; a slice without a number comes last.

    >>> sorted(["over 1,390", "69 to 1,390", "no answer", "up to 68"], key=in_order)
    ['up to 68', '69 to 1,390', 'over 1,390', 'no answer']
    """
    found = _NUMBER.match(value)
    return found is None, float(found[1].replace(",", "")) if found else 0.0, value.startswith("over")


def _score(evaluator: Evaluator, records: Sequence[Record]) -> float | None:
    """Return the primary score of a slice, or None if nothing in it can be scored."""
    try:
        return evaluator.scores(records).get(evaluator.primary)
    except (BadData, BadOptions):
        # The whole split was scored. This slice alone has no masked token, no reward, or no word
        # that ROUGE counts.
        return None


def _by_length(prepared: Prepared, split: str) -> dict[str, list[str]]:
    """Return the quarter of each example by length, in characters of the text column that holds most of them."""
    examples = prepared.features[split].examples
    lengths = {}
    for name in prepared.plan.preprocessor.needs().required:
        column = examples[name][:] if name in examples.column_names else []
        if column and all(isinstance(text, str) for text in column):
            lengths[name] = np.array([len(text) for text in column])
    if not lengths:
        return {}
    name = max(lengths, key=lambda column: int(lengths[column].sum()))
    edges = np.unique(np.quantile(lengths[name], [0.25, 0.5, 0.75]).astype(int)).tolist()
    between = [f"{below + 1:,} to {edge:,}" for below, edge in pairwise(edges)]
    labels = [f"up to {edges[0]:,}", *between, f"over {edges[-1]:,}"]
    places = np.searchsorted(edges, lengths[name], side="left").tolist()
    return {f"characters of {name}": [labels[place] for place in places]}


def _by_column(prepared: Prepared, split: str) -> dict[str, list[str]]:
    """Return the values of the columns that the recipe names under `slices`."""
    examples = prepared.features[split].examples
    return {name: [str(value) for value in examples[name]] for name in prepared.plan.recipe.slices}


def _worst(
    evaluator: Evaluator, records: Sequence[Record], examples: Any, places: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    losses = np.nan_to_num(np.asarray(evaluator.losses(records), dtype=np.float64), nan=np.inf)
    errors: list[dict[str, Any]] = []
    for place in np.argsort(-losses, kind="stable")[:WORST].tolist():
        if losses[place] <= 0:
            break
        example, record = dict(examples[place]), records[place]
        highlights = evaluator.highlights(record, example)
        errors.append(
            {
                "index": place,
                "place": places[place],
                "loss": float(min(losses[place], np.finfo(np.float64).max)),
                **_shorten_example(example, highlights),
                "record": _shorten(record),
            }
        )
    return errors


def _shorten_example(
    example: dict[str, Any], highlights: Mapping[str, Sequence[tuple[int, int, str]]]
) -> dict[str, Any]:
    """Return an example for a result, long texts cut around their highlights, and the highlights moved to match."""
    moved: dict[str, list[list[Any]]] = {}
    for column, spans in highlights.items():
        text = example[column]
        if not isinstance(text, str):
            moved[column] = [list(span) for span in spans]
            continue
        first = max(min((start for start, _, _ in spans), default=0) - _ROUND, 0)
        last = max((end for _, end, _ in spans), default=0) + _ROUND
        if len(text) <= _SHOWN or last - first > _SHOWN:
            first, last = 0, len(text)
        before, after = "…" if first else "", "…" if last < len(text) else ""
        example[column] = before + text[first:last] + after
        shift = len(before) - first
        moved[column] = [[start + shift, end + shift, kind] for start, end, kind in spans]
    return {"example": _shorten(example), "highlights": moved}


def _shorten(value: Any) -> Any:
    """Return a value as JSON can hold it, without texts and lists longer than `_SHOWN` and without n-best lists."""
    if isinstance(value, str):
        return value if len(value) <= _SHOWN else value[:_SHOWN] + "…"
    if isinstance(value, Mapping):
        return {name: _shorten(each) for name, each in value.items() if name != "nbest"}
    if isinstance(value, list | tuple):
        return [_shorten(each) for each in value[:_SHOWN]]
    return value if isinstance(value, bool | int | float | None) else str(value)
