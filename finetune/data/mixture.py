"""Several data sets for one task: each read and checked by itself, then mixed by weight and temperature.

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

from finetune.data.examples import Examples
from finetune.errors import BadData
from finetune.interfaces import Preprocessor

NAME = "dataset"
"""Column that says which data set of the mixture a row came from."""


def mixed(
    loaded: Mapping[str, Examples],
    preprocessor: Preprocessor,
    *,
    weights: Mapping[str, float],
    temperature: float,
    seed: int,
    fit: bool,
) -> Examples:
    """Return one set of examples of several.

    Train has as many rows as all data sets together, in the shares that weights and temperature ask for: rows are
    repeated or left out, at random by the seed, and the ledger counts both. Validation and test are whole.

    Raises:
        BadData: A data set has a column called `dataset` that the task uses, or columns of other types than another's.
    """
    used = (*preprocessor.columns, *preprocessor.optional, *preprocessor.answers)
    if NAME in used:
        raise BadData(
            f"dataset.mixture: {type(preprocessor).__name__} uses the column {NAME!r}, which a mixture needs."
        )
    splits: dict[str, Dataset] = {}
    ledger: dict[str, Counter[str]] = {}
    for split in ("train", "validation", "test"):
        parts = {name: one for name, one in loaded.items() if split in one.splits}
        if not parts:
            continue
        ledger[split] = Counter()
        for one in parts.values():
            ledger[split].update(one.ledger[split])
        rows = {name: _named(one.splits[split], name, used) for name, one in parts.items()}
        if split == "train":
            sizes = {name: len(part) for name, part in rows.items()}
            drawn = {name: _draw(sizes[name], count, seed=seed) for name, count in counts(sizes, weights, temperature)}
            rows = {name: part.select(drawn[name]) for name, part in rows.items()}
            whole = sum(sizes.values())
            kept = sum(len(np.unique(index)) for index in drawn.values())
            repeated = sum(len(index) for index in drawn.values()) - kept
            ledger[split].update(left_out=whole - kept, kept=kept - whole, repeated=repeated)
        splits[split] = _joined(rows)
    return Examples(
        splits=splits,
        preprocessor=preprocessor.fit(splits["train"]) if fit else preprocessor,
        findings=tuple(finding for one in loaded.values() for finding in one.findings),
        counts=dict(sum((Counter(one.counts) for one in loaded.values()), Counter())),
        ledger={split: dict(count) for split, count in ledger.items()},
        fingerprints={split: _fingerprint(loaded, split, weights, temperature) for split in splits},
        dropped=tuple(row for one in loaded.values() for row in one.dropped),
        overlap=dict(sum((Counter(one.overlap) for one in loaded.values()), Counter())),
    )


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
    parts = [(name, one.fingerprints.get(split), weights[name]) for name, one in loaded.items()]
    return hashlib.sha256(repr((parts, temperature if split == "train" else None)).encode()).hexdigest()
