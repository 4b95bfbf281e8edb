"""What numbers of a result mean, in words: for a terminal, a report and a card alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaks(leakage: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each split of which train holds some rows, and for each where nobody looked for near ones.

    >>> found = {"rows": 90, "exact": 2, "normalised": 0, "near": 1, "columns": ["context"], "pairs": []}
    >>> list(leaks({"test": found}))
    ['3 of 90 rows of test are in train too, by context: 2 word for word, 1 nearly.']
    """
    for split, found in leakage.items():
        kinds = {"word for word": found["exact"], "but for case and punctuation": found["normalised"],
                 "nearly": found["near"] or 0}  # fmt: skip
        if total := sum(kinds.values()):
            told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
            by = " and ".join(found["columns"])
            yield f"{total:,} of {found['rows']:,} rows of {split} are in train too, by {by}: {told}."
        if found["near"] is None:
            yield f"{split} was not searched for rows that are nearly in train: there are too many."
