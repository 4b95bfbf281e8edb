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
import pyarrow.compute as pc
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
_WORDS_OF_ASCII = {code: chr(code).lower() if _WORD.match(chr(code)) else " " for code in range(128)}
"""Each character of a word in lower case, and a space for each other character."""
_RUN = 5
_POWERS = [pow(0x9E3779B97F4A7C15, power, 1 << 64) for power in range(1, _RUN + 1)]
_SEED = 1997
CACHED = 65_536
"""Characters of the texts whose signatures are computed together: 512 kB of hashes."""


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
    held_out = {name: rows for name, rows in splits.items() if name != "train"}
    if not held_out:
        return {}
    searched = _are_searched(splits["train"], held_out, names)
    index = Index() if any(searched.values()) else None
    train = _hashed(splits["train"], names, into=index)
    found = {}
    for name, rows in held_out.items():
        own = _hashed(rows, names)
        exact = np.isin(own[:, 0], train[:, 0])
        same = np.isin(own[:, 1], train[:, 1]) & ~exact
        rest: Counter[str] = Counter()
        for text, is_known in zip(_texts(rows, names), exact | same, strict=True):
            if not is_known:
                rest[text] += 1
        near = _near_duplicates(index, list(rest)) if index is not None and searched[name] else None
        found[name] = {
            "rows": len(own),
            "exact": int(exact.sum()),
            "normalized": int(same.sum()),
            "near": None if near is None else sum(rest[text] for text in near),
            "columns": names,
            "pairs": _pairs(near or {}),
        }
    return found


def _are_searched(train: Dataset, held_out: Mapping[str, Dataset], names: Sequence[str]) -> dict[str, bool]:
    """Return for each held-out split whether it and train are small enough to search for near duplicates."""
    few = {name: len(train) + len(rows) <= MOST_ROWS for name, rows in held_out.items()}
    characters = _characters(train, names) if any(few.values()) else 0
    searched = {}
    for name, rows in held_out.items():
        searched[name] = few[name] and characters + _characters(rows, names) <= MOST_CHARACTERS
    return searched


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
        hashes = np.array([_hashes(text) for text in joined(block, self._names)], dtype=np.int64)
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


def _near_duplicates(index: Index, texts: Sequence[str]) -> dict[str, tuple[str, float]]:
    """Return the texts that have a near duplicate in the index, with it and its similarity."""
    found = {}
    for start in range(0, len(texts), BLOCK):
        block = texts[start : start + BLOCK]
        for text, match in zip(block, index.nearest_each(block), strict=True):
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
    if text.isascii():  # the usual case: nothing to normalize, and a table of 128 characters says what a word is
        return " ".join(text.translate(_WORDS_OF_ASCII).split()) or text.lower()
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_WORD.findall(plain)) or plain


def similarity(one: str, other: str) -> float:
    """Return the Jaccard similarity of two texts: their common runs of five characters, as a part of all their runs."""
    return _similarity(normalized(one), normalized(other))


def _similarity(one: str, other: str) -> float:
    """Return the similarity of two normalized texts."""
    a, b = runs(one), runs(other)
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)


def clusters(texts: Sequence[str]) -> Array:
    """Return the number of the cluster of each text: near duplicates, and the near duplicates of these, have the same.

    Of the texts that share a band, each is compared with the next one. A cluster has the number of its first text.

    Args:
        texts: Different normalized texts.
    """
    parent = np.arange(len(texts))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = int(parent[place])
        return place

    if len(texts) < 2:
        return parent
    for column in signatures(texts):
        order = np.argsort(column, kind="stable")
        alike = np.flatnonzero(column[order][1:] == column[order][:-1])
        for one, other in zip(order[alike].tolist(), order[alike + 1].tolist(), strict=True):
            first, second = root(one), root(other)
            if first != second and _similarity(texts[one], texts[other]) >= SIMILAR:
                parent[max(first, second)] = min(first, second)
    return np.array([root(place) for place in range(len(texts))], dtype=np.int64)


class Index:
    """Finds the most similar of many texts without a comparison with each of them."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._places: dict[str, None] = {}
        self._signatures: list[Array] = []
        self._sorted: tuple[list[str], Array, Array] | None = None
        distinct = list(texts)
        self.add(distinct, [normalized(text) for text in distinct])

    def add(self, texts: Sequence[str], plain: Sequence[str]) -> None:
        """Add those of some texts that are new. Nothing can be added after a search.

        Args:
            texts: The texts.
            plain: Each of them as `normalized` returns it.
        """
        assert self._sorted is None
        new = []
        for text, own in zip(texts, plain, strict=True):
            if text not in self._places:
                self._places[text] = None
                new.append(own)
        if new:
            self._signatures.append(signatures(new))

    def _tables(self) -> tuple[list[str], Array, Array]:
        """Return the texts, and for each band the sorted numbers of all texts and the places of these texts."""
        if self._sorted is None:
            bands = np.concatenate(self._signatures, axis=1)  # (bands, texts)
            self._signatures = []
            order = np.empty(bands.shape, dtype=np.int32)
            ranked = np.empty_like(bands)
            for band, column in enumerate(bands):
                order[band] = np.argsort(column, kind="stable")
                ranked[band] = column[order[band]]
            self._sorted = (list(self._places), ranked, order)
        return self._sorted

    def nearest(self, text: str) -> tuple[str, float] | None:
        """Return the most similar text and its similarity, or None if none reaches `SIMILAR`."""
        return self.nearest_each([text])[0]

    def nearest_each(self, texts: Sequence[str]) -> list[tuple[str, float] | None]:
        """Return for each text what `nearest` returns."""
        if not texts or not self._places:
            return [None] * len(texts)
        plain = [normalized(text) for text in texts]
        _, ranked, _ = self._tables()
        sought = signatures(plain)
        first, last = np.empty(sought.shape, dtype=np.int64), np.empty(sought.shape, dtype=np.int64)
        for band, column in enumerate(ranked):
            first[band] = np.searchsorted(column, sought[band], "left")
            last[band] = np.searchsorted(column, sought[band], "right")
        last = np.minimum(last, first + CROWD)
        return [self._best(own, first[:, place], last[:, place]) for place, own in enumerate(plain)]

    def _best(self, plain: str, first: Array, last: Array) -> tuple[str, float] | None:
        """Return the most similar of the candidates of a text.

        Args:
            plain: The text, normalized.
            first: For each band, where the texts that share it begin.
            last: Where they end.
        """
        texts, _, _ = self._tables()
        best, most_similar = 0.0, ""
        for place in self._possible(plain, self._candidates(first, last)):
            alike = _similarity(plain, normalized(texts[place]))
            if alike > best:
                best, most_similar = alike, texts[place]
        return (most_similar, best) if best >= SIMILAR else None

    def _candidates(self, first: Array, last: Array) -> list[int]:
        """Return the places of the texts that share most bands with one text, at most `CANDIDATES`."""
        _, ranked, order = self._tables()
        places = [order[band, first[band] : last[band]] for band in np.flatnonzero(last > first)]
        if not places:
            return []
        every = np.concatenate(places)
        # Counting takes linear time, and a stable sort of 16 bits or fewer is a radix sort: a crowd
        # costs no more.
        if 8 * len(every) > ranked.shape[1]:
            shared = np.bincount(every).astype(np.int8)
            found = np.flatnonzero(shared)
            shared = shared[found]
        else:
            found, counts = np.unique(every, return_counts=True)
            shared = counts.astype(np.int8)
        chosen: list[int] = found[np.argsort(-shared, kind="stable")[:CANDIDATES]].tolist()
        return chosen

    def _possible(self, plain: str, places: Sequence[int]) -> list[int]:
        """Return the places of the texts that can reach `SIMILAR`: enough of the runs of a text occur in them.

        Runs that occur twice in a text count twice here, so that the part is never too small.
        """
        if not places:
            return []
        texts, _, _ = self._tables()
        own = runs(plain)
        hashes, segments = _flat_runs([normalized(texts[place]) for place in places])
        at = np.minimum(np.searchsorted(own, hashes), len(own) - 1)
        common = np.add.reduceat((own[at] == hashes).astype(np.int64), segments)[::2]
        return [place for place, count in zip(places, common, strict=True) if count >= (SIMILAR - 1e-9) * len(own)]


@lru_cache(maxsize=256)  # an entry takes eight bytes for each run
def runs(text: str) -> Array:
    """Return the hashes of the distinct runs of five characters in a text; a shorter text is one run."""
    return np.unique(_flat_runs([text])[0])


def _flat_runs(texts: Sequence[str]) -> tuple[Array, Array]:
    """Return the hashes of all runs of some texts in one array, and where its segments begin.

    Every second segment holds runs of one text, in order; those between hold runs that begin in one text and end in
    the next.
    """
    padded = [text.ljust(_RUN) for text in texts]
    data = "".join(padded).encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(data, dtype=np.uint32).astype(np.uint64)
    count = len(points) - _RUN + 1
    mixed = np.zeros(count, dtype=np.uint64)
    for place in range(_RUN):
        mixed += points[place : place + count] * np.uint64(_POWERS[place])
    mixed ^= mixed >> np.uint64(29)
    ends = np.cumsum([len(text) for text in padded])
    segments = np.zeros(2 * len(texts) - 1, dtype=np.int64)
    segments[2::2] = ends[:-1]
    segments[1::2] = ends[:-1] - (_RUN - 1)
    return mixed, segments


def signatures(texts: Sequence[str]) -> Array:
    """Return the MinHash of each band of each text: (`BANDS`, texts), a number for `ROWS` hash functions.

    The minimum of a random hash is the same for two texts with a probability that equals their
    similarity, so two texts have the same number of a band with the probability similarity **
    `ROWS`. A hash is the upper half of factor * x + term modulo 2⁶⁴ with an odd factor:
    multiply-shift hashing (Dietzfelbinger et al. 1997).

    Args:
        texts: Normalized texts.
    """
    weights = np.array([1, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93], dtype=np.uint64)
    made = []
    for block in _blocks_of(texts):
        hashes, segments = _flat_runs(block)
        least = np.empty((BANDS * ROWS, len(block)), dtype=np.uint64)
        mixed = np.empty_like(hashes)
        for number, (factor, term) in enumerate(zip(*_permutations(), strict=True)):
            np.multiply(hashes, factor, out=mixed)
            np.add(mixed, term, out=mixed)
            least[number] = np.minimum.reduceat(mixed, segments)[::2]
        least >>= np.uint64(32)
        made.append((least.reshape(BANDS, ROWS, len(block)) * weights[:, None]).sum(axis=1, dtype=np.uint64))
    return np.concatenate(made, axis=1)


def _blocks_of(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield texts in blocks whose hashes fit into the cache of a processor."""
    start = characters = 0
    for number, text in enumerate(texts):
        if number > start and characters + len(text) > CACHED:
            yield texts[start:number]
            start, characters = number, 0
        characters += len(text) + _RUN
    if start < len(texts):
        yield texts[start:]


@lru_cache(maxsize=1)
def _permutations() -> tuple[Array, Array]:
    rng = np.random.default_rng(_SEED)
    factors = rng.integers(1, 1 << 63, size=BANDS * ROWS, dtype=np.uint64) | np.uint64(1)
    return factors, rng.integers(1 << 63, size=BANDS * ROWS, dtype=np.uint64)


def _hashed(rows: Dataset, names: Sequence[str], *, into: Index | None = None) -> Array:
    """Return the hashes of each text and of its normalized form, (rows, 2): 160 MB for ten million rows.

    Args:
        rows: The rows.
        names: The compared columns.
        into: Takes the texts.
    """
    hashes = np.empty((len(rows), 2), dtype=np.int64)
    start = 0
    for texts in _text_blocks(rows, names):
        plain = [normalized(text) for text in texts]
        hashes[start : start + len(texts), 0] = list(map(hash, texts))
        hashes[start : start + len(texts), 1] = list(map(hash, plain))
        start += len(texts)
        if into is not None:
            into.add(texts, plain)
    return hashes


def _hashes(text: str) -> tuple[int, int]:
    return hash(text), hash(normalized(text))


def _characters(rows: Dataset, names: Sequence[str]) -> int:
    """Return the number of characters of all texts."""
    count = 0
    for block in _arrow_blocks(rows, names):
        if all(pa.types.is_string(kind) or pa.types.is_large_string(kind) for kind in block.schema.types):
            count += (len(names) - 1) * len(block)
            for name in names:
                column = block.column(name)
                count += (pc.sum(pc.utf8_length(column)).as_py() or 0) + len("null") * column.null_count
        else:
            count += sum(map(len, joined(block, names)))
    return count


def _texts(rows: Dataset, names: Sequence[str]) -> Iterator[str]:
    """Yield the compared columns of each row as one text."""
    for texts in _text_blocks(rows, names):
        yield from texts


def _text_blocks(rows: Dataset, names: Sequence[str]) -> Iterator[list[str]]:
    """Yield the texts of the rows in blocks."""
    for block in _arrow_blocks(rows, names):
        yield joined(block, names)


def _arrow_blocks(rows: Dataset, names: Sequence[str]) -> Iterator[pa.Table]:
    blocks: Iterator[pa.Table] = rows.select_columns(list(names)).with_format("arrow").iter(batch_size=BLOCK)
    return blocks


def joined(block: pa.Table, names: Sequence[str]) -> list[str]:
    """Return the compared columns of each row of a block as one text."""
    columns = []
    for name in names:
        columns.append([value if isinstance(value, str) else _JSON(value) for value in block.column(name).to_pylist()])
    return columns[0] if len(columns) == 1 else list(map("\n".join, zip(*columns, strict=True)))


_JSON = json.JSONEncoder(sort_keys=True, default=repr, ensure_ascii=False).encode
