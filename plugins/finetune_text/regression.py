"""Regression: one number for a text or a pair of texts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from finetune.errors import BadData, Incompatible
from finetune.interfaces import IGNORE_INDEX, LEARNED, Batch, Columns, DataForm, Finding, Preprocessor, Row, Values
from finetune_text import label_checks, labels, texts
from finetune_text.label_checks import label_finding
from finetune_text.labels import LABEL
from finetune_text.losses import SquaredError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_NEXT_TO_IGNORE_INDEX = -99.99999
"""What -100.0 is trained as: `transformers.Trainer` takes -100 for "no label" and would count the step one short."""


@dataclass(frozen=True, kw_only=True)
class TextRegressionPreprocessor(Preprocessor):
    """One number for a text, or for a pair of texts, in the unit of the data."""

    max_length: int = 256
    """Longest input in tokens, special tokens included; longer inputs are truncated, and the loss is counted."""
    label_range: tuple[float, float] | None = field(default=None, metadata=LEARNED)
    """Least and greatest label in train; always learned."""

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return texts.columns()

    def forms(self) -> Sequence[DataForm]:
        """Return the form of the data: a text with a number."""
        names = ("score", "rating", "value", "similarity", "target", "similarity_score", "stars", "price", "y")
        return (texts.form(Values(what="a number", kind="number", names=names), weight=0.9),)

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows the least and the greatest label."""
        values = set()
        for row in train:
            value = number(row.get(LABEL))
            if value is not None:
                values.add(value)
        return replace(self, label_range=(min(values), max(values)) if values else None)

    def for_model(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return a copy with the length that a trained model takes.

        Raises:
            Incompatible: The model gives several numbers.
        """
        if config.num_labels != 1:
            raise Incompatible(f"model: it gives {config.num_labels} numbers for a text. A regression needs one.")
        return replace(self, max_length=texts.longest_input(config, tokenizer, default=self.max_length))

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split; rows without any label are rows to predict."""
        found = yield from label_checks.check_rows(examples, _read)
        if len(found) == 1 and len(examples) > 1:
            (value,) = found
            yield label_finding(
                "constant-label", f"every label is {value:g}: there is nothing to learn or to correlate with.",
                level="error" if self.label_range in {None, (value, value)} else "warning",
                fix="Check that this is the label column.",
            )  # fmt: skip
        numbers = Counter({value: rows for value, rows in found.items() if isinstance(value, float)})
        if self.label_range in {None, (min(numbers, default=0.0), max(numbers, default=0.0))}:
            found_values = label_checks.check_outlying_sentinel(numbers)
            yield from label_checks.with_first_rows(found_values, examples, _shown)

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return token ids and, where examples have labels, their numbers.

        ``{"text": ["Fog"], "label": ["3.5"]}`` gives
        ``{'input_ids': [[101, 9666, 102]], …, 'tokens_lost': [0], 'labels': [3.5]}``.

        Raises:
            BadData: A label is not a number.
            BadOptions: The model cannot take `max_length` tokens, or `max_length` leaves no room
                for text.
            Incompatible: The tokenizer cannot pad.
        """
        encoded = texts.encode(examples, tokenizer, max_length=self.max_length)
        given = labels.given_labels(examples)
        if given is None:
            return encoded
        numbers = []
        for label in given:
            value = number(label)
            if value is None:
                raise BadData(f"the label {label!r} is not a number. `finetune check` says in which row.")
            numbers.append(_NEXT_TO_IGNORE_INDEX if value == IGNORE_INDEX else value)
        return {**encoded, "labels": numbers}

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

    >>> number("3.5"), number(4), number("3,5"), number("nan"), number("1_000"), number("\\x1c2.5")
    (3.5, 4.0, None, None, None, 2.5)
    """
    if isinstance(value, str):
        text = value.strip()  # also U+001C, which `float` does not take
        value = float(text) if _NUMBER.fullmatch(text) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _shown(value: Any) -> str | None:
    """Return a label as findings about all labels show it."""
    label = number(value)
    return None if label is None else f"{label:g}"


def _read(value: Any, row: int) -> Hashable | Finding:
    """Return a label as a number, or what is wrong with it."""
    label = number(value)
    if label is not None:
        return label
    if labels.as_text(value) is None:
        return label_checks.label_missing(row)
    fix = "Write a finite number, such as 3.5."
    if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value.strip()):
        fix = "Write a decimal point, not a comma."
    return label_finding(
        "label-not-a-number", "expected a finite number.", row=row, value=str(value), fix=fix, level="error"
    )
