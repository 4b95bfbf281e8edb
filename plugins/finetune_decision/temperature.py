"""The temperature of each question type, fitted on the records of validation."""

from __future__ import annotations

from collections.abc import Sequence

from finetune.interfaces import Record
from finetune.kit import fit_temperature

FEWEST = 20
"""Fewest questions of a type from which a temperature is fitted; of fewer, it is 1."""


def fit(records: Sequence[Record]) -> dict[str, float]:
    """Return the temperature of each question type that has enough records.

    It divides the logits of the options. It changes no answer, only how sure the model is. If all answers of a type are
    right, the rows do not determine its temperature, because a smaller one would always fit better; it stays 1.

    Args:
        records: Records with ``logits`` and ``right``.
    """
    found = {}
    for kind in sorted({record["type"] for record in records}):
        chosen = [record for record in records if record["type"] == kind and "right" in record]
        logits, right = [record["logits"] for record in chosen], [record["right"] for record in chosen]
        best = [row.index(max(row)) for row in logits]
        if len(chosen) >= FEWEST and best != right:
            found[kind] = fit_temperature(logits, right)
    return found
