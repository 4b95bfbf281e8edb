"""Several data sets for one task: read one by one, checked as one, and mixed by weight and temperature.

Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", §3.5.2
(temperature-scaled mixing); Arivazhagan et al. 2019 for the temperature itself.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from finetune import recipe
from finetune.data import examples
from finetune.data.examples import Examples
from finetune.data.sources import ROLES
from finetune.errors import BadData
from finetune.interfaces import Preprocessor
from finetune.plugins import Plugins
from finetune.progress import suppress_progress_bars
from finetune.recipe import Source

NAME = "dataset"
"""Column that says which data set of the mixture a row came from."""


def mixed(
    loaded: Mapping[str, Examples],
    *,
    weights: Mapping[str, float],
    temperature: float,
    seed: int,
) -> Examples:
    """Return one set of examples of several.

    Train has as many rows as all data sets together, in the shares that weights and temperature ask for: rows are
    repeated or left out, at random by the seed, and the data report counts both. Validation and test are whole.

    Raises:
        BadData: A data set has a column called `dataset` that the task uses, or columns of other types than another's.
    """
    # fitted on all rows, so that a label whose rows are drawn away has an id all the same
    preprocessor = next(iter(loaded.values())).preprocessor
    needs = preprocessor.needs()
    used = (*needs.inputs, *needs.answers)
    if NAME in used:
        raise BadData(
            f"dataset.mixture: {type(preprocessor).__name__} uses the column {NAME!r}, which a mixture needs."
        )
    named = {name: {at: _named(rows, name, used) for at, rows in one.splits.items()} for name, one in loaded.items()}
    present = [at for at in ROLES if any(at in parts for parts in named.values())]
    joined = {at: _joined({name: parts[at] for name, parts in named.items() if at in parts}) for at in present}
    data_report = {
        at: sum((Counter(one.data_report.get(at, {})) for one in loaded.values()), Counter()) for at in present
    }
    if "train" in joined:
        sizes = {name: len(parts["train"]) for name, parts in named.items() if "train" in parts}
        drawn = _drawn(sizes, weights, temperature, seed=seed)
        unique = len(np.unique(drawn))
        kept = {"left_out": data_report["train"]["left_out"] + len(drawn) - unique, "kept": unique}
        data_report["train"] = Counter({**data_report["train"], **kept, "repeated": len(drawn) - unique})
        joined["train"] = joined["train"].select(drawn)
    return Examples(
        splits=joined,
        preprocessor=preprocessor,
        findings=tuple(finding for one in loaded.values() for finding in one.findings),
        counts=dict(sum((Counter(one.counts) for one in loaded.values()), Counter())),
        data_report={at: {key: count[key] for key in _keys(loaded, count)} for at, count in data_report.items()},
        fingerprints={at: _fingerprint(loaded, at, weights, temperature) for at in joined},
        dropped=tuple(row for one in loaded.values() for row in one.dropped),
    )


def _keys(loaded: Mapping[str, Examples], count: Mapping[str, int]) -> list[str]:
    """Return the data report's keys in its order; `Counter` drops the ones that add up to zero."""
    first = next(iter(loaded.values())).data_report
    return list(dict.fromkeys([*next(iter(first.values())), *count]))


def _drawn(
    sizes: Mapping[str, int], weights: Mapping[str, float], temperature: float, *, seed: int
) -> np.ndarray[Any, Any]:
    """Return the positions that train has, in the data sets' rows one after the other."""
    start, found = 0, []
    for name, count in counts(sizes, weights, temperature):
        if not count:
            raise BadData(f"dataset.mixture: the weight of {name!r} leaves it no row of train. Raise it.")
        found.append(start + _draw(sizes[name], count, seed=seed))
        start += sizes[name]
    return np.concatenate(found)


def counts(sizes: Mapping[str, int], weights: Mapping[str, float], temperature: float) -> list[tuple[str, int]]:
    """Return how many rows of each data set train has; they add up to the rows of all.

    >>> counts({"a": 900, "b": 100}, {"a": 1, "b": 1}, 1.0), counts({"a": 900, "b": 100}, {"a": 1, "b": 1}, 2.0)
    ([('a', 900), ('b', 100)], [('a', 750), ('b', 250)])
    """
    shares = np.array([weights[name] * sizes[name] ** (1 / temperature) for name in sizes])
    ends = np.round(np.cumsum(shares) / shares.sum() * sum(sizes.values())).astype(int)
    return list(zip(sizes, np.diff(ends, prepend=0).tolist(), strict=True))


def _draw(size: int, count: int, *, seed: int) -> np.ndarray[Any, Any]:
    """Return so many positions: every row as often as it goes, the rest at random without a row twice."""
    rest = np.random.Generator(np.random.PCG64(seed)).permutation(size)[: count % size]
    return np.sort(np.concatenate([np.tile(np.arange(size), count // size), rest]))


def _named(rows: Dataset, name: str, used: Sequence[str]) -> Dataset:
    """Return the columns that the task uses, and the data set's name."""
    chosen = rows.select_columns([column for column in rows.column_names if column in used])
    return chosen.add_column(NAME, [name] * len(chosen))


def _joined(rows: Mapping[str, Dataset]) -> Dataset:
    columns = {name: part.column_names for name, part in rows.items()}
    first, *others = columns
    for name in others:
        if set(columns[name]) != set(columns[first]):
            differ = ", ".join(sorted(set(columns[name]) ^ set(columns[first])))
            raise BadData(
                f"dataset.mixture: {first!r} and {name!r} differ in the columns {differ}. Rename them, or fill them "
                "with `constants`."
            )
    try:
        return concatenate_datasets(list(rows.values()))
    except (ValueError, TypeError) as error:
        raise BadData(f"dataset.mixture: columns of one name have different types: {error}") from error


def _fingerprint(loaded: Mapping[str, Examples], split: str, weights: Mapping[str, float], temperature: float) -> str:
    parts = [(name, one.fingerprints.get(split)) for name, one in loaded.items()]
    mixing = [temperature, *(weights[name] for name in loaded)] if split == "train" else []
    return hashlib.sha256(repr((parts, mixing)).encode()).hexdigest()


def load(
    source: Source, preprocessor: Preprocessor, *, plugins: Plugins, seed: int, fit: bool = True, answers: bool = True
) -> Examples:
    """Return the examples of a source, read strictly and checked; see `finetune.data.examples.load`.

    Raises:
        BadData: Something stops the run; all that was found in all splits is told, with its place.
    """
    parts = recipe.parts(source)
    if not parts:
        return examples.load(source, preprocessor, plugins=plugins, seed=seed, fit=fit, answers=answers)
    gathered = {
        name: examples.gather(part, preprocessor, plugins=plugins, seed=seed, fit=fit, answers=answers)
        for name, (part, _) in parts.items()
    }
    loaded = examples.settle(gathered, preprocessor, fit=fit)
    weights = {name: weight for name, (_, weight) in parts.items()}
    with suppress_progress_bars():
        return mixed(loaded, weights=weights, temperature=source.temperature, seed=seed)
