"""Predict rows that arrive one by one, for as long as a process lives."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from finetune.data.feature_cache import EXAMPLE
from finetune.data.features import Features
from finetune.errors import BadData
from finetune.interfaces import Finding, Preprocessor, Record, Row
from finetune.prediction.inference import Inference
from finetune.result import as_plain

LOST = "tokens_lost"
"""The end of the names of those counts of a preprocessor that say how much of a text is cut off."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedRow:
    """A checked row with its features."""

    tokens: int
    """Number of tokens that the model reads for the row."""
    tokens_lost: int
    """Number of tokens of the row that are cut off, so that the model does not read them."""
    made: Features
    """The features of all rows that were encoded together."""
    position: int
    """The position of the row among them."""

    @property
    def example(self) -> Row:
        """The row with the column names of the task."""
        row: Row = self.made.examples[self.position]
        return row


class Predictor:
    """Predicts rows of several users together; a bad row does not affect the others.

    A row is checked as if it were alone: rows are read together only if all their values have the same types. It is
    the object behind `finetune serve`. Use it in one thread only, because tokenizers cannot be shared.

    Examples:
        >>> predictor = finetune.load("runs/reviews").predictor()  # doctest: +SKIP
        >>> rows = predictor.encode([{"text": "A fine inn."}, {"text": ""}])  # doctest: +SKIP
        >>> rows[1].findings[0].code  # doctest: +SKIP
        'empty-text'
        >>> predictor.predict(rows[:1])[0]["prediction"]  # doctest: +SKIP
        'positive'

    Args:
        inference: Makes features and records.
        read: Returns the checked examples of some rows, or raises `BadData`.
    """

    def __init__(self, inference: Inference, read: Callable[[Sequence[Any]], Dataset]) -> None:
        self._inference = inference
        self._read = read

    @property
    def preprocessor(self) -> Preprocessor:
        """The fitted preprocessor."""
        return self._inference.job.preprocessor

    def highlights(self, row: EncodedRow, record: Record) -> dict[str, list[list[Any]]]:
        """Return the parts of a row's texts that its record is about: column → [start, end, kind].

        See `finetune.interfaces.Evaluator.highlights`.
        """
        found = self._inference.job.evaluator.highlights(record, dict(row.example))
        return {column: [list(span) for span in spans] for column, spans in found.items()}

    def prepare(self) -> None:
        """Build what the first prediction needs."""
        _ = self._inference.trainer

    def encode(self, rows: Sequence[Any]) -> list[EncodedRow | BadData]:
        """Check rows and make their features.

        Args:
            rows: Column → value; or a text, if the task reads a single text.

        Returns:
            For each row, in order: the row with its features, or an error that holds the findings.
        """
        groups: dict[Hashable, list[int]] = {}
        encoded: list[EncodedRow | BadData] = [BadData("")] * len(rows)
        for number, row in enumerate(rows):
            if isinstance(row, Mapping | str):
                groups.setdefault(signature(row), []).append(number)
            else:
                encoded[number] = BadData("the row is no mapping.", findings=[_no_row(row)])
        for numbers in groups.values():
            for number, each in zip(numbers, self._encode([rows[number] for number in numbers]), strict=True):
                encoded[number] = each
        return encoded

    def _encode(self, rows: Sequence[Any]) -> list[EncodedRow | BadData]:
        """Encode rows whose values have the same types."""
        try:
            made = self._inference.features(self._read(rows), answers=False)
        except BadData as error:
            if len(rows) == 1:
                return [error]
        else:
            return [*self._encoded(made)]
        alone = [self._encode([row])[0] for row in rows]
        good = [row for row, found in zip(rows, alone, strict=True) if isinstance(found, EncodedRow)]
        if len(good) == len(rows):
            return alone  # each is good, but they cannot be read together
        together = iter(self._encode(good) if len(good) > 1 else [row for row in alone if isinstance(row, EncodedRow)])
        return [next(together) if isinstance(found, EncodedRow) else found for found in alone]

    def _encoded(self, made: Features) -> list[EncodedRow]:
        owned: list[list[int]] = [[] for _ in range(len(made.examples))]
        for place, owner in enumerate(made.features[EXAMPLE]):
            owned[owner].append(place)
        lengths = self.preprocessor.lengths(made.features)
        is_cut = _lost(made.counts) > 0
        rows = []
        for position, places in enumerate(owned):
            lost = 0
            if is_cut and places:
                lost = _lost(self.preprocessor.counts(made.features[places]))
            tokens = sum(int(lengths[place]) for place in places)
            rows.append(EncodedRow(tokens=tokens, tokens_lost=lost, made=made, position=position))
        return rows

    def predict(self, rows: Sequence[EncodedRow]) -> list[Record]:
        """Return the record of each row, in order.

        Args:
            rows: What `encode` returned.
        """
        groups: dict[int, list[int]] = {}
        for number, row in enumerate(rows):
            groups.setdefault(id(row.made), []).append(number)
        records: list[Record] = [{}] * len(rows)
        for numbers in groups.values():
            numbers.sort(key=lambda number: rows[number].position)
            made = rows[numbers[0]].made
            chosen = [rows[number].position for number in numbers]
            part = made if len(chosen) == len(made.examples) else made.select(chosen)
            for number, record in zip(numbers, self._inference.answers(part), strict=True):
                records[number] = as_plain(record)
        return records


def _no_row(value: Any) -> Finding:
    return Finding(
        code="not-an-object",
        message=f"the row has the type {type(value).__name__}.",
        fix="Give it as a mapping: {column: value}.",
        value=str(value)[:80],
    )


def _lost(counts: Mapping[str, int]) -> int:
    return sum(int(count) for name, count in counts.items() if name.endswith(LOST))


def signature(value: Any) -> Hashable:
    """Return what the types of a value are, so that values with the same types can share a column of a table.

    >>> signature({"text": "tar"}) == signature({"text": "salt"}), signature({"n": 1}) == signature({"n": 1.5})
    (True, False)
    """
    if isinstance(value, Mapping):
        return tuple(sorted((str(name), signature(each)) for name, each in value.items()))
    if isinstance(value, list | tuple):
        return "list", frozenset(map(signature, value))
    return type(value).__name__
