"""Rows of a held-out split that train holds too: word for word, but for case and punctuation, or nearly.

What is compared is the independent unit, where the task has one: a context rather than its questions, a prompt rather
than its answers. Nearly the same are texts that share most of their runs of five characters; candidates are found by
MinHash and each is then compared in full, so that none is accused by chance.

Source: Broder 1997, "On the resemblance and containment of documents"; Lee et al. 2022, "Deduplicating Training Data
Makes Language Models Better", section 4.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from datasets import Dataset

from finetune.interfaces import Preprocessor

Array = Any

SIMILAR = 0.7
"""Share of runs of five characters, of those in either text, from which two texts count as nearly the same."""
MOST_ROWS = 200_000
"""Rows of train and a split together up to which near duplicates are looked for: some minutes."""
MOST_CHARACTERS = 500_000_000
"""Their characters, up to which it is done: on one core, 40 million of them took 20 s."""
BANDS, ROWS = 32, 4
"""Hashes of a signature: pairs as alike as `SIMILAR` share a band in 9,998 of 10,000 cases (1 - (1 - 0.7⁴)³²)."""
CANDIDATES = 20
"""Most promising texts of train that each text is compared with in full."""
SHOWN, LONGEST = 3, 200
"""Pairs of near duplicates that are kept to be looked at, and how many characters of each."""
BLOCK = 1000
_WORD = re.compile(r"\w+")
_RUN = 5
_SEED = 1997


def leakage(splits: Mapping[str, Dataset], preprocessor: Preprocessor) -> dict[str, dict[str, Any]]:
    """Return for each split but train how many of its rows train holds too; ``{}`` where nothing can be compared.

    ``exact``, ``normalized`` (the same but for case, punctuation and space) and ``near`` count each row once, the
    first that applies; ``near`` is None where there is too much to look through. ``columns`` is what was compared,
    ``pairs`` holds some near duplicates with their ``similarity``.
    """
    needs = preprocessor.needs()
    names = [needs.group] if needs.group else list(needs.required)
    names = [name for name in names if all(name in rows.column_names for rows in splits.values())]
    if "train" not in splits or not names:
        return {}
    train, long = _hashed(splits["train"], names), _characters(splits["train"], names)
    index: Index | None = None
    found = {}
    for name, rows in splits.items():
        if name == "train":
            continue
        own = _hashed(rows, names)
        exact = np.isin(own[:, 0], train[:, 0])
        same = np.isin(own[:, 1], train[:, 1]) & ~exact
        near: dict[str, tuple[str, float]] | None = None
        rest = Counter(text for text, told in zip(_texts(rows, names), exact | same, strict=True) if not told)
        if len(train) + len(own) <= MOST_ROWS and long + _characters(rows, names) <= MOST_CHARACTERS:
            index = index or Index(list(dict.fromkeys(_texts(splits["train"], names))))
            near = {text: match for text in rest if (match := index.nearest(text))}
        found[name] = {
            "rows": len(own),
            "exact": int(exact.sum()),
            "normalized": int(same.sum()),
            "near": None if near is None else sum(rest[text] for text in near),
            "columns": names,
            "pairs": [
                {"text": text[:LONGEST], "train": other[:LONGEST], "similarity": round(alike, 3)}
                for text, (other, alike) in list((near or {}).items())[:SHOWN]
            ],
        }
    return found


def normalized(text: str) -> str:
    """Return a text in one case, its words parted by one space, without punctuation.

    >>> normalised("The  Quay, at NOON!")
    'the quay at noon'
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_WORD.findall(plain)) or plain


def similarity(one: str, other: str) -> float:
    """Return the share of runs of five characters that two texts have in common, of those in either (Jaccard)."""
    a, b = runs(normalized(one)), runs(normalized(other))
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)


class Index:
    """Texts to which the most similar one is found without a comparison with each."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        bands = np.stack([signature(text) for text in texts])  # (texts, bands)
        self.order = np.argsort(bands, axis=0, kind="stable")
        self.bands = np.take_along_axis(bands, self.order, axis=0)

    def nearest(self, text: str) -> tuple[str, float] | None:
        """Return the text that is most like this one, and how much, if it is at least `SIMILAR`."""
        shared: Counter[int] = Counter()
        for band, value in enumerate(signature(text)):
            column = self.bands[:, band]
            first, last = np.searchsorted(column, value, "left"), np.searchsorted(column, value, "right")
            shared.update(self.order[first : min(last, first + 10 * CANDIDATES), band].tolist())
        judged = [(similarity(text, self.texts[place]), place) for place, _ in shared.most_common(CANDIDATES)]
        best, place = max(judged, default=(0.0, -1))
        return (self.texts[place], best) if best >= SIMILAR else None


@lru_cache(maxsize=256)  # of long texts, each takes as many bytes as it has runs, eightfold
def runs(text: str) -> Array:
    """Return the hashes of the different runs of five characters in a text; a shorter text is one run."""
    points = np.frombuffer(text.ljust(_RUN).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(points, _RUN)  # (runs, 5)
    powers = np.array([pow(0x9E3779B97F4A7C15, power, 1 << 64) for power in range(1, _RUN + 1)], dtype=np.uint64)
    mixed = (windows * powers).sum(axis=1, dtype=np.uint64)
    return np.unique(mixed ^ (mixed >> np.uint64(29)))


def signature(text: str) -> Array:
    """Return `BANDS` numbers of which two texts have about as many in common as they are alike."""
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
    """Return sixteen bytes a row, so that ten million take 160 MB: of the text, and of what is normalised (rows, 2)."""
    numbers = (number for text in _texts(rows, names) for number in (hash(text), hash(normalized(text))))
    return np.fromiter(numbers, dtype=np.int64, count=2 * len(rows)).reshape(-1, 2)


def _characters(rows: Dataset, names: Sequence[str]) -> int:
    return sum(map(len, _texts(rows, names)))


def _texts(rows: Dataset, names: Sequence[str]) -> Iterator[str]:
    """Yield what is compared of each row, as text."""
    for block in rows.select_columns(list(names)).with_format("arrow").iter(batch_size=BLOCK):
        columns = [map(_text, block.column(name).to_pylist()) for name in names]
        yield from map("\n".join, zip(*columns, strict=True))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=repr, ensure_ascii=False)
