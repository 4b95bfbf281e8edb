"""Rows of a held-out split that are also in train: exactly, except for case and punctuation, or as near duplicates.

If the task has independent units, these are compared: a context, not its questions; a prompt, not
its answers. Near duplicates are texts that share most of their runs of five characters. MinHash
finds candidates, and each candidate is then compared in full, so that chance never makes a near
duplicate.

Why not datasketch: it costs more, and the full comparison is still needed. Measured 2026-11-26 with
datasketch 2.0.0 on 18,000 texts of train and 2,000 of test (11.6 million characters): its MinHash
and LSH with our runs took 19.8 s and 200 MB, this module 14.0 s and 26 MB, and neither reported a
text wrongly. Used as its documentation shows, without the full comparison, it took 29.9 s, found
598 of 704 planted near duplicates (this module: 703), and reported 54 texts wrongly. If many texts
share boilerplate, it finds slightly more: 198 of 200 texts, this module 194.

Source: Broder 1997, "On the resemblance and containment of documents"; Lee et al. 2022,
"Deduplicating Training Data Makes Language Models Better", section 4.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from finetune.interfaces import Preprocessor

Array = Any

SIMILAR = 0.7
"""Two texts are near duplicates if they share at least this part of the runs of five characters in
either text."""
MOST_ROWS = 200_000
"""Near duplicates are not searched if train and a split have more rows together; this many take
some minutes."""
MOST_CHARACTERS = 500_000_000
"""Nor if they have more characters together; on one core, 40 million took 20 s."""
BANDS, ROWS = 32, 4
"""Hashes of a signature. Two texts of similarity `SIMILAR` share a band in 9,998 of 10,000 cases: 1
- (1 - 0.7⁴)³²."""
CANDIDATES = 20
"""Texts of train, those that share most bands, with which each text is compared in full."""
CROWD = 5_000
"""Texts of train that are looked up in one band; if boilerplate makes more texts share it, the rest
are ignored.

Measured on 60 texts whose sources are at the end of 1,000 with the same boilerplate: 5,000 finds
all of them, 200 finds 52. It bounds the work: if 18,000 texts share nearly all bands, a look-up
takes 5.0 ms, 2.2 of them to find candidates."""
SHOWN, LONGEST = 3, 200
"""Pairs of near duplicates that a result shows, and the characters shown of each text."""
BLOCK = 1000
_WORD = re.compile(r"\w+")
_RUN = 5
_SEED = 1997


def leakage(splits: Mapping[str, Dataset], preprocessor: Preprocessor) -> dict[str, dict[str, Any]]:
    """Return how many rows of each held-out split are also in train.

    ``exact``, ``normalized`` (equal except for case, punctuation and space) and ``near`` count each
    row once, under the first that applies. ``near`` is None if there is too much text to search.
    ``columns`` names the columns compared, and ``pairs`` holds some near duplicates with their
    ``similarity``.

    Args:
        splits: The kept rows of each split.
        preprocessor: Names the columns to compare.

    Returns:
        Split → counts; empty if there is no train split, or no column to compare.
    """
    needs = preprocessor.needs()
    names = [needs.group] if needs.group else list(needs.required)
    names = [name for name in names if all(name in rows.column_names for rows in splits.values())]
    if "train" not in splits or not names:
        return {}
    train, characters = _hashed(splits["train"], names), _characters(splits["train"], names)
    index: Index | None = None
    found = {}
    for name, rows in splits.items():
        if name == "train":
            continue
        own = _hashed(rows, names)
        exact = np.isin(own[:, 0], train[:, 0])
        same = np.isin(own[:, 1], train[:, 1]) & ~exact
        rest: Counter[str] = Counter()
        for text, is_known in zip(_texts(rows, names), exact | same, strict=True):
            if not is_known:
                rest[text] += 1
        near: dict[str, tuple[str, float]] | None = None
        if len(train) + len(own) <= MOST_ROWS and characters + _characters(rows, names) <= MOST_CHARACTERS:
            index = index or Index(list(dict.fromkeys(_texts(splits["train"], names))))
            near = _near_duplicates(index, rest)
        found[name] = {
            "rows": len(own),
            "exact": int(exact.sum()),
            "normalized": int(same.sum()),
            "near": None if near is None else sum(rest[text] for text in near),
            "columns": names,
            "pairs": _pairs(near or {}),
        }
    return found


class StreamedSearch:
    """Counts the rows of held-out splits that train also holds while train passes; near duplicates are not searched.

    Args:
        held_out: Split → its rows, which stay in memory.
        preprocessor: Names the columns to compare.
        train: The columns of train.
    """

    def __init__(self, held_out: Mapping[str, Dataset], preprocessor: Preprocessor, train: Sequence[str]) -> None:
        needs = preprocessor.needs()
        names = [needs.group] if needs.group else list(needs.required)
        columns = [train, *(rows.column_names for rows in held_out.values())]
        self._names = [name for name in names if all(name in known for known in columns)]
        self._own = {split: _hashed(rows, self._names) for split, rows in held_out.items() if self._names}
        self._seen = {split: np.zeros(own.shape, dtype=bool) for split, own in self._own.items()}

    def add(self, block: pa.Table) -> None:
        """Look at some rows of train."""
        if not self._own:
            return
        hashes = np.array([_hashes(text) for text in _texts_of(block, self._names)], dtype=np.int64)
        for split, own in self._own.items():
            for kind in (0, 1):
                self._seen[split][:, kind] |= np.isin(own[:, kind], hashes[:, kind])

    def found(self) -> dict[str, dict[str, Any]]:
        """Return what `leakage` returns."""
        found = {}
        for split, seen in self._seen.items():
            exact = seen[:, 0]
            found[split] = {
                "rows": len(seen),
                "exact": int(exact.sum()),
                "normalized": int((seen[:, 1] & ~exact).sum()),
                "near": None,
                "columns": self._names,
                "pairs": [],
            }
        return found


def _near_duplicates(index: Index, texts: Iterable[str]) -> dict[str, tuple[str, float]]:
    """Return the texts that have a near duplicate in the index, with it and its similarity."""
    found = {}
    for text in texts:
        match = index.nearest(text)
        if match is not None:
            found[text] = match
    return found


def _pairs(near: Mapping[str, tuple[str, float]]) -> list[dict[str, Any]]:
    pairs = []
    for text, (other, alike) in islice(near.items(), SHOWN):
        pairs.append({"text": text[:LONGEST], "train": other[:LONGEST], "similarity": round(alike, 3)})
    return pairs


def normalized(text: str) -> str:
    """Return a text in one case, without punctuation, with one space between words.

    >>> normalized("The  Quay, at NOON!")
    'the quay at noon'
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_WORD.findall(plain)) or plain


def similarity(one: str, other: str) -> float:
    """Return the Jaccard similarity of two texts: their common runs of five characters, as a part of all their runs."""
    a, b = runs(normalized(one)), runs(normalized(other))
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)


class Index:
    """Finds the most similar of many texts without a comparison with each of them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        bands = np.stack([signature(text) for text in texts])  # (texts, bands)
        self.order = np.argsort(bands, axis=0, kind="stable")
        self.bands = np.take_along_axis(bands, self.order, axis=0)

    def nearest(self, text: str) -> tuple[str, float] | None:
        """Return the most similar text and its similarity, or None if none reaches `SIMILAR`."""
        best, most_similar = 0.0, ""
        for place in self._candidates(text):
            alike = similarity(text, self.texts[place])
            if alike > best:
                best, most_similar = alike, self.texts[place]
        return (most_similar, best) if best >= SIMILAR else None

    def _candidates(self, text: str) -> list[int]:
        """Return the places of the texts that share most bands with this one, at most `CANDIDATES`."""
        places = []
        for band, value in enumerate(signature(text)):
            column = self.bands[:, band]
            first, last = np.searchsorted(column, value, "left"), np.searchsorted(column, value, "right")
            places.append(self.order[first : min(last, first + CROWD), band])
        # Counting takes linear time, and a stable sort of 16 bits or fewer is a radix sort: a crowd
        # costs no more.
        shared = np.bincount(np.concatenate(places)).astype(np.int8)
        found = np.flatnonzero(shared)
        chosen: list[int] = found[np.argsort(-shared[found], kind="stable")[:CANDIDATES]].tolist()
        return chosen


@lru_cache(maxsize=256)  # an entry takes eight bytes for each run
def runs(text: str) -> Array:
    """Return the hashes of the distinct runs of five characters in a text; a shorter text is one run."""
    points = np.frombuffer(text.ljust(_RUN).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(points, _RUN)  # (runs, 5)
    powers = np.array([pow(0x9E3779B97F4A7C15, power, 1 << 64) for power in range(1, _RUN + 1)], dtype=np.uint64)
    mixed = (windows * powers).sum(axis=1, dtype=np.uint64)
    return np.unique(mixed ^ (mixed >> np.uint64(29)))


def signature(text: str) -> Array:
    """Return the MinHash of each band: `BANDS` numbers, one for `ROWS` hash functions.

    The minimum of a random hash is the same for two texts with a probability that equals their
    similarity, so two texts have the same number of a band with the probability similarity **
    `ROWS`. A hash is the upper half of factor * x + term modulo 2⁶⁴ with an odd factor:
    multiply-shift hashing (Dietzfelbinger et al. 1997).
    """
    hashes = runs(normalized(text))
    factors, terms = _permutations()
    least = (hashes[None, :] * factors[:, None] + terms[:, None] >> np.uint64(32)).min(axis=1)  # (bands * rows,)
    weights = np.array([1, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93], dtype=np.uint64)
    return (least.reshape(BANDS, ROWS) * weights).sum(axis=1, dtype=np.uint64)


@lru_cache(maxsize=1)
def _permutations() -> tuple[Array, Array]:
    rng = np.random.default_rng(_SEED)
    factors = rng.integers(1, 1 << 63, size=BANDS * ROWS, dtype=np.uint64) | np.uint64(1)
    return factors, rng.integers(1 << 63, size=BANDS * ROWS, dtype=np.uint64)


def _hashed(rows: Dataset, names: Sequence[str]) -> Array:
    """Return the hashes of each text and of its normalized form, (rows, 2): 160 MB for ten million rows."""
    hashes = np.empty((len(rows), 2), dtype=np.int64)
    for row, text in enumerate(_texts(rows, names)):
        hashes[row] = _hashes(text)
    return hashes


def _hashes(text: str) -> tuple[int, int]:
    return hash(text), hash(normalized(text))


def _characters(rows: Dataset, names: Sequence[str]) -> int:
    return sum(map(len, _texts(rows, names)))


def _texts(rows: Dataset, names: Sequence[str]) -> Iterator[str]:
    """Yield the compared columns of each row as one text."""
    for block in rows.select_columns(list(names)).with_format("arrow").iter(batch_size=BLOCK):
        yield from _texts_of(block, names)


def _texts_of(block: pa.Table, names: Sequence[str]) -> Iterator[str]:
    columns = [map(_text, block.column(name).to_pylist()) for name in names]
    yield from map("\n".join, zip(*columns, strict=True))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=repr, ensure_ascii=False)
