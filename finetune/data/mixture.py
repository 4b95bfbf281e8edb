"""Several data sets for one task: read one by one, checked together, and mixed by weight and temperature.

Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer", §3.5.2 (temperature-scaled mixing); Arivazhagan et al. 2019 for the temperature
itself.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from finetune import recipe
from finetune.data import examples
from finetune.data.examples import Examples
from finetune.data.places import JoinedPlaces
from finetune.data.sources import ROLES
from finetune.errors import BadData
from finetune.interfaces import Preprocessor
from finetune.plugins import Plugins
from finetune.progress import suppress_progress_bars
from finetune.recipe import Source

NAME = "dataset"
"""Column with the name of the data set that a row comes from."""


def mixed(
    loaded: Mapping[str, Examples],
    *,
    weights: Mapping[str, float],
    temperature: float,
    seed: int,
) -> Examples:
    """Return the examples of several data sets as one set.

    Train has as many rows as all data sets together, in the shares that weights and temperature
    give: rows are repeated or left out at random, and the data report counts both. Validation and
    test hold all their rows.

    Args:
        loaded: Name of a data set → its examples.
        weights: Name → weight of its rows in train.
        temperature: See `Source.temperature`.
        seed: Seed of the draw.

    Raises:
        BadData: The task uses a column called `dataset`, or the columns or types of two data sets
            differ.
    """
    # It is fitted on all rows, so that a label has an id even if none of its rows is drawn.
    preprocessor = next(iter(loaded.values())).preprocessor
    needs = preprocessor.needs()
    used = (*needs.inputs, *needs.answers, *needs.optional_answers)
    if NAME in used:
        raise BadData(
            f"dataset.mixture: {type(preprocessor).__name__} uses the column {NAME!r}, in which a mixture stores the "
            "name of the data set. Use another preprocessor, or train on one data set."
        )
    joined: dict[str, Dataset] = {}
    places: dict[str, JoinedPlaces] = {}
    data_report: dict[str, Counter[str]] = {}
    for split in ROLES:
        holders = {name: one for name, one in loaded.items() if split in one.splits}
        if holders:
            joined[split] = _joined({name: _named(one.splits[split], name, used) for name, one in holders.items()})
            known = {name: one.places[split] for name, one in holders.items() if split in one.places}
            if len(known) == len(holders):
                places[split] = JoinedPlaces(parts=known)
            data_report[split] = Counter()
            for one in holders.values():
                data_report[split].update(one.data_report[split])
    if "train" in joined:
        sizes = {name: len(one.splits["train"]) for name, one in loaded.items() if "train" in one.splits}
        drawn = _drawn(sizes, weights, temperature, seed=seed)
        unique = len(np.unique(drawn))
        repeated = len(drawn) - unique
        data_report["train"]["left_out"] += repeated
        data_report["train"].update(kept=unique - data_report["train"]["kept"], repeated=repeated)
        joined["train"] = joined["train"].select(drawn)
        places.pop("train", None)
    return Examples(
        splits=joined,
        preprocessor=preprocessor,
        findings=tuple(chain.from_iterable(one.findings for one in loaded.values())),
        counts=dict(sum((Counter(one.counts) for one in loaded.values()), Counter())),
        data_report={split: dict(counts) for split, counts in data_report.items()},
        fingerprints={split: _fingerprint(loaded, split, weights, temperature) for split in joined},
        dropped=tuple(chain.from_iterable(one.dropped for one in loaded.values())),
        column_use=next(iter(loaded.values())).column_use,
        unread=tuple(chain.from_iterable(one.unread for one in loaded.values())),
        places=places,
    )


def _drawn(
    sizes: Mapping[str, int], weights: Mapping[str, float], temperature: float, *, seed: int
) -> np.ndarray[Any, Any]:
    """Return the positions of the rows of train among the joined rows of all data sets."""
    start, found = 0, []
    for name, count in counts(sizes, weights, temperature):
        if not count:
            raise BadData(
                f"dataset.mixture: the weight of {name!r} is so small that train gets none of its rows. Raise it."
            )
        found.append(start + _draw(sizes[name], count, seed=seed))
        start += sizes[name]
    return np.concatenate(found)


def counts(sizes: Mapping[str, int], weights: Mapping[str, float], temperature: float) -> list[tuple[str, int]]:
    """Return how many rows of each data set train has; their sum is the number of rows of all data sets.

    >>> counts({"a": 900, "b": 100}, {"a": 1, "b": 1}, 1.0), counts({"a": 900, "b": 100}, {"a": 1, "b": 1}, 2.0)
    ([('a', 900), ('b', 100)], [('a', 750), ('b', 250)])
    """
    shares = np.array([weights[name] * sizes[name] ** (1 / temperature) for name in sizes])
    ends = np.round(np.cumsum(shares) / shares.sum() * sum(sizes.values())).astype(int)
    return list(zip(sizes, np.diff(ends, prepend=0).tolist(), strict=True))


def _draw(size: int, count: int, *, seed: int) -> np.ndarray[Any, Any]:
    """Return `count` positions: each row count // size times, and the rest drawn at random without repetition."""
    rest = np.random.Generator(np.random.PCG64(seed)).permutation(size)[: count % size]
    return np.sort(np.concatenate([np.tile(np.arange(size), count // size), rest]))


def _named(rows: Dataset, name: str, used: Sequence[str]) -> Dataset:
    """Return the columns that the task uses, and the column with the name of the data set."""
    chosen = rows.select_columns([column for column in rows.column_names if column in used])
    return chosen.add_column(NAME, [name] * len(chosen))


def _joined(rows: Mapping[str, Dataset]) -> Dataset:
    columns = {name: part.column_names for name, part in rows.items()}
    first, *others = columns
    for name in others:
        if set(columns[name]) != set(columns[first]):
            differ = ", ".join(sorted(set(columns[name]) ^ set(columns[first])))
            raise BadData(
                f"dataset.mixture: {first!r} and {name!r} differ in the columns {differ}. Rename them with `columns`, "
                "or add them with `constants`."
            )
    try:
        return concatenate_datasets(list(rows.values()))
    except (ValueError, TypeError) as error:
        raise BadData(f"dataset.mixture: columns with the same name have different types: {error}") from error


def _fingerprint(loaded: Mapping[str, Examples], split: str, weights: Mapping[str, float], temperature: float) -> str:
    parts = [(name, one.fingerprints.get(split)) for name, one in loaded.items()]
    mixing = [temperature, *(weights[name] for name in loaded)] if split == "train" else []
    return hashlib.sha256(repr((parts, mixing)).encode()).hexdigest()


def load(
    source: Source,
    preprocessor: Preprocessor,
    *,
    plugins: Plugins,
    seed: int,
    fit: bool = True,
    answers: bool = True,
    column_use: Mapping[str, str] | None = None,
    tokenizer: Callable[[], Any] | None = None,
    learn_form: bool = False,
) -> Examples:
    """Return the checked examples of a source, which can be a mixture; see `finetune.data.examples.load`.

    Raises:
        BadData: A finding stops the run. The error holds the findings of all splits with their
            places.
    """
    parts = recipe.parts(source)
    if not parts:
        return examples.load(
            source,
            preprocessor,
            plugins=plugins,
            seed=seed,
            fit=fit,
            answers=answers,
            column_use=column_use,
            tokenizer=tokenizer,
            learn_form=learn_form,
        )
    gathered = {
        name: examples.gather(part, preprocessor, plugins=plugins, seed=seed, fit=fit, answers=answers)
        for name, (part, _) in parts.items()
    }
    loaded = examples.settle(
        gathered, preprocessor, fit=fit, column_use=column_use, tokenizer=tokenizer, learn_form=learn_form
    )
    weights = {name: weight for name, (_, weight) in parts.items()}
    with suppress_progress_bars():
        return mixed(loaded, weights=weights, temperature=source.temperature, seed=seed)
