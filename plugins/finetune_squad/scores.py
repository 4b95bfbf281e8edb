"""Exact match and F1, as the official SQuAD 2.0 evaluator counts them, in percent.

Source: Rajpurkar, Jia & Liang 2018, "Know What You Don't Know"; evaluate-v2.0.py of the SQuAD
explorer.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """Return a text in lower case, without ASCII punctuation, articles and extra space.

    >>> normalized(" The  captain's (old) boat, a sloop")
    'captains old boat sloop'
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact(prediction: str, references: Sequence[str]) -> int:
    """Return 1 if a prediction equals one of the references after normalization; ``[]`` means "no answer".

    >>> exact("the Pier", ["a pier", "quay"]), exact("", []), exact("pier", [])
    (1, 1, 0)
    """
    return int(normalized(prediction) in _normalized_references(references))


def f1(prediction: str, references: Sequence[str]) -> float:
    """Return the F1 of words with the nearest reference: the harmonic mean of precision and recall.

    >>> f1("the old pier", ["pier", "old stone pier"])
    0.8
    """
    words = normalized(prediction).split()
    return max(_f1(words, reference.split()) for reference in _normalized_references(references))


def threshold(null_odds: Sequence[float], right: Sequence[float], answerable: Sequence[bool]) -> tuple[float, float]:
    """Return the threshold of null odds that gives the highest total, and that total in percent.

    A question is answered if its null odds are not above the threshold. Questions with equal odds
    are answered together, so that only thresholds between different odds are tried.

    Args:
        null_odds: Score of "no answer" less that of the best answer, for each question.
        right: The score of each question if it is answered.
        answerable: Whether each question has an answer.

    Examples:
        >>> threshold([-1.0, 0.5, 2.0, 3.0], [1.0, 1.0, 0.0, 0.0], [True, True, False, False])
        (0.5, 100.0)
    """
    order = sorted(range(len(null_odds)), key=lambda index: null_odds[index])
    total = best = float(len(answerable) - sum(answerable))
    chosen = null_odds[order[0]] - 1.0  # answers nothing
    for rank, index in enumerate(order):
        total += right[index] if answerable[index] else right[index] - 1.0
        last_of_equals = rank + 1 == len(order) or null_odds[order[rank + 1]] > null_odds[index]
        if last_of_equals and total > best:
            best, chosen = total, null_odds[index]
    return chosen, 100.0 * best / len(order)


def official_threshold(
    null_odds: Sequence[float], scores: Sequence[float], answerable: Sequence[bool], predictions: Sequence[str]
) -> tuple[float, float]:
    """Return the threshold and total that the official script reports as ``best_…``.

    It reads the final predictions: a question that was left unanswered stays unanswered.
    """
    order = sorted(range(len(null_odds)), key=lambda index: null_odds[index])
    total = best = float(len(answerable) - sum(answerable))
    chosen = 0.0
    for index in order:
        total += scores[index] if answerable[index] else -float(bool(predictions[index]))
        if total > best:
            best, chosen = total, null_odds[index]
    return chosen, 100.0 * best / len(order)


def _normalized_references(references: Sequence[str]) -> list[str]:
    # As in the official script: references that are empty after normalization are dropped; if none is left, the
    # reference is "no answer".
    return list(filter(None, map(normalized, references))) or [""]


def _f1(prediction: list[str], reference: list[str]) -> float:
    if not prediction or not reference:
        return float(prediction == reference)
    common = (Counter(prediction) & Counter(reference)).total()
    if not common:
        return 0.0
    precision, recall = common / len(prediction), common / len(reference)
    return 2 * precision * recall / (precision + recall)
