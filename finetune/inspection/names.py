"""What the name of a column says."""

from __future__ import annotations

import re
from collections.abc import Sequence

_IDS = frozenset(
    {
        "id", "ids", "idx", "index", "uuid", "guid", "key", "row", "number", "no", "url", "link", "date", "time",
        "timestamp", "datetime", "created", "unnamed", "file", "filename", "path", "author", "authors", "username",
        "license", "licence",
    }
)  # fmt: skip
"""Words in the names of columns that identify a row or its origin, and say nothing about it."""


def words(name: str) -> str:
    """Return the name of a column as small words with one underscore between them.

    >>> words("Review Text"), words("articleLink"), words("Sentence #")
    ('review_text', 'article_link', 'sentence')
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^0-9a-z]+", "_", spaced.casefold()).strip("_") or name.strip().casefold()


def is_id(name: str) -> bool:
    """Return whether a column identifies a row or says where it comes from.

    >>> is_id("textID"), is_id("Unnamed: 0"), is_id("review")
    (True, True, False)
    """
    found = words(name).split("_")
    return bool(_IDS & set(found)) or found[0].startswith("qid")


def similarity(theirs: str, name: str, others: Sequence[str]) -> float:
    """Return how much the name of a column says that it is a column of a task: 1 if it is the same.

    >>> similarity("Review Text", "text", ()), similarity("stars", "label", ("stars",)), similarity("x", "label", ())
    (0.5, 0.9, 0.0)
    >>> similarity("sentence_1", "text", ("sentence1",))
    0.9

    Args:
        theirs: The name in the data.
        name: The name for the task.
        others: Other names that data sets give the column, the most usual first.
    """
    written = words(theirs)
    if _joined(written) == _joined(words(name)):
        return 1.0
    for position, other in enumerate(others):
        if _joined(written) == _joined(words(other)):
            return 0.9 - 0.2 * position / len(others)
    parts = set(written.split("_"))
    if any(words(other) in parts for other in (name, *others)):
        return 0.5
    return 0.0


def _joined(written: str) -> str:
    return written.replace("_", "")
