"""Regression: one number for a text or a pair of texts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from finetune.errors import BadData
from finetune.interfaces import IGNORE_INDEX, Batch, Columns, Finding, Preprocessor, Row
from finetune_text import labels as names
from finetune_text import texts
from finetune_text.labels import LABEL
from finetune_text.losses import SquaredError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_BESIDE_IGNORE_INDEX = -99.99999
"""What -100.0 is trained as: `transformers.Trainer` takes -100 for "no label" and would count the step one short."""


@dataclass(frozen=True, kw_only=True)
class TextRegressionPreprocessor(Preprocessor):
    """One number for a text, or for a pair of texts, in the unit that the data are in."""

    max_length: int = 256
    """Longest input, in tokens, special ones included; what is beyond is cut and counted."""
    label_range: tuple[float, float] | None = None
    """Least and greatest label in train; always learned."""

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(required=(texts.TEXT,), optional=(texts.PAIR,), answers=(LABEL,))

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows the least and the greatest label."""
        found = [value for row in train if (value := number(row.get(LABEL))) is not None]
        return replace(self, label_range=(min(found), max(found)) if found else None)

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split; rows without any label are rows to predict."""
        columns = (texts.TEXT, texts.PAIR) if texts.present(examples, texts.PAIR) else (texts.TEXT,)
        labelled = texts.present(examples, LABEL)
        found: set[float] = set()
        twins = texts.Twins()
        for position, row in enumerate(examples):
            yield from texts.check_texts(row, position, columns)
            if not labelled:
                continue
            value = number(row.get(LABEL))
            if value is None:
                yield _problem(row.get(LABEL), position)
                continue
            found = {min(found | {value}), max(found | {value})}
            twins.add(position, row, value)
        yield from twins.findings()
        if len(found) == 1 and len(examples) > 1:
            (value,) = found
            yield names.finding(
                "constant-label", f"every label is {value:g}: there is nothing to learn or to correlate with.",
                level="error" if self.label_range in {None, (value, value)} else "warning",
                fix="Check that this is the label column.",
            )  # fmt: skip

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return token ids and, where examples have labels, their numbers.

        ``{"text": ["Fog"], "label": ["3.5"]}`` gives
        ``{'input_ids': [[101, 9666, 102]], …, 'tokens_lost': [0], 'labels': [3.5]}``.
        """
        encoded = texts.encode(examples, tokenizer, max_length=self.max_length)
        given = examples.get(LABEL, ())
        if all(value is None for value in given):
            return encoded
        values = [number(value) for value in given]
        if None in values:
            raise BadData(f"{given[values.index(None)]!r} is not a number; see `finetune check`.")
        return {**encoded, "labels": [_BESIDE_IGNORE_INDEX if value == IGNORE_INDEX else value for value in values]}

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many texts were truncated, and how many tokens were lost."""
        return texts.truncation(features)

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the text as the model reads it, and its number."""
        value = feature.get("labels")
        return texts.shown(feature, tokenizer, None if value is None else f"{value:g}")

    def loss(self) -> SquaredError:
        """Return the mean squared error."""
        return SquaredError()

    def model_options(self) -> dict[str, Any]:
        """Return what makes the head give one number."""
        return {"num_labels": 1, "problem_type": "regression"}


def number(value: Any) -> float | None:
    """Return a label as a finite number, or None.

    >>> number("3.5"), number(4), number("3,5"), number("nan"), number("1_000")
    (3.5, 4.0, None, None, None)
    """
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _problem(value: Any, row: int) -> Finding:
    if names.spelt(value) is None:
        return names.finding("label-missing", "the row has no label.", row=row, fix="Label the row, or drop it.")
    fix = "Write a finite number, such as 3.5."
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+,\d+", value.strip()):
        fix = "Write a decimal point, not a comma."
    message = "a finite number was wanted."
    return names.finding("label-not-a-number", message, row=row, value=str(value), fix=fix, level="error")
