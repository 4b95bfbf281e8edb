"""Single-label classification of texts and of pairs of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from finetune.errors import BadData
from finetune.interfaces import Batch, Columns, Finding, Preprocessor, Row
from finetune_text import labels as names
from finetune_text import texts
from finetune_text.labels import LABEL
from finetune_text.losses import CrossEntropy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class TextClassificationPreprocessor(Preprocessor):
    """One label for a text, or for a pair of texts.

    The label set comes from the training examples alone. Labels may be names, whole numbers (also as text), or
    positions in a list of names (`datasets.ClassLabel`).
    """

    max_length: int = 256
    """Longest input, in tokens, special ones included; what is beyond is cut and counted."""
    labels: tuple[str, ...] | None = None
    """Names of the labels in order of their ids; learned from train when not given."""
    label_ids: bool | None = None
    """Whether the label column holds positions in `labels` (0, 1, …) rather than names; learned when not given."""
    class_weights: Literal["balanced"] | Mapping[str, float] | None = None
    """Weight of each label in the loss: `balanced` (by rarity in train), or label → weight, 1 where not named."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all labels."""
    class_counts: Mapping[str, int] | None = None
    """Rows of each label in train; always learned."""

    def __post_init__(self) -> None:
        if isinstance(self.class_weights, Mapping) and any(weight < 0 for weight in self.class_weights.values()):
            raise ValueError("class_weights cannot be negative")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError("label_smoothing must be at least 0 and less than 1")

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(required=(texts.TEXT,), optional=(texts.PAIR,), answers=(LABEL,))

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows the label names, how the data write them, and how often each occurs."""
        class_label = names.class_label_names(train)
        found = Counter(
            text
            for row in train
            if not isinstance(row.get(LABEL), list | tuple | dict) and (text := names.spelt(row.get(LABEL))) is not None
        )
        labels = self.labels or class_label or names.ordered(found)
        ids = self.label_ids
        if ids is None:
            ids = class_label is not None or (self.labels is not None and names.are_ids(found, labels))
        known = names.positions(labels, ids=ids)
        counts = {labels[position]: found[text] for text, position in known.items()}
        return replace(self, labels=labels, label_ids=ids, class_counts=counts)

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split.

        What concerns the label set as a whole is said of the training split, which is known by its label counts; rows
        without any label are rows to predict.
        """
        if self.labels is None or self.class_counts is None:
            yield from self.fit(examples).check(examples)
            return
        columns = (texts.TEXT, texts.PAIR) if texts.present(examples, texts.PAIR) else (texts.TEXT,)
        labelled = texts.present(examples, LABEL)
        known = self._known()
        counts = dict.fromkeys(self.labels, 0)
        twins = texts.Twins()
        if labelled:
            yield from names.check_order(examples, self.labels)
        for number, row in enumerate(examples):
            yield from texts.check_texts(row, number, columns)
            if not labelled:
                continue
            problem = names.check_label(row.get(LABEL), number, known)
            if problem is not None:
                yield problem
                continue
            position = known[names.spelt(row[LABEL]) or ""]
            counts[self.labels[position]] += 1
            twins.add(number, row, position)
        yield from twins.findings()
        if counts == self.class_counts:
            yield from self._check_train(len(examples))

    def _check_train(self, rows: int) -> Iterator[Finding]:
        labels, counts = self.labels or (), self.class_counts or {}
        if len(labels) < 2:
            given = f"all rows have the label {labels[0]!r}." if labels else "no row has a label."
            yield names.finding(
                "one-class", given, level="error", fix="Classification needs at least two labels in train."
            )
        weights = self.class_weights if isinstance(self.class_weights, Mapping) else {}
        for name in weights:
            if name not in labels:
                yield names.finding(
                    "weight-without-class", "class_weights names a label that does not exist.", value=name,
                    level="error", fix=f"The labels are: {', '.join(labels)}.",
                )  # fmt: skip
        yield from names.check_names(labels)
        yield from names.check_joined(labels)
        yield from names.check_counts(counts, rows=rows)

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return token ids and, where examples have labels, their ids.

        ``{"text": ["Fog"], "label": ["weather"]}`` gives
        ``{'input_ids': [[101, 9666, 102]], …, 'tokens_lost': [0], 'labels': [4]}``.
        """
        encoded = texts.encode(examples, tokenizer, max_length=self.max_length)
        given = examples.get(LABEL, ())
        if all(value is None for value in given):
            return encoded
        return {**encoded, "labels": self._ids(given)}

    def _ids(self, given: Sequence[Any]) -> list[int]:
        known = self._known()
        ids = [known.get(names.spelt(value) or "") for value in given]
        for value, position in zip(given, ids, strict=True):
            if position is None:
                raise BadData(f"{value!r} is not one of the labels: {', '.join(known)}. Fit the preprocessor on train.")
        return [position for position in ids if position is not None]

    def _known(self) -> dict[str, int]:
        return names.positions(self.labels or (), ids=bool(self.label_ids))

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many texts were truncated, and how many tokens were lost."""
        return texts.truncation(features)

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the text as the model reads it, and its label."""
        position = feature.get("labels")
        return texts.shown(feature, tokenizer, None if position is None else (self.labels or ())[position])

    def loss(self) -> CrossEntropy:
        """Return cross entropy with the class weights, which average 1 over the training rows."""
        return CrossEntropy(weights=self._weights(), label_smoothing=self.label_smoothing)

    def _weights(self) -> tuple[float, ...] | None:
        """Return the weight of each label, or None where all weigh the same.

        Source of `balanced`: rows / (labels · rows of the label), as in scikit-learn's ``compute_class_weight``.
        """
        if self.class_weights is None:
            return None
        counts = [(self.class_counts or {}).get(name, 0) for name in self.labels or ()]
        if self.class_weights == "balanced":
            weights = [1 / count if count else 0.0 for count in counts]
        else:
            weights = [float(self.class_weights.get(name, 1.0)) for name in self.labels or ()]
        total = sum(weight * count for weight, count in zip(weights, counts, strict=True))
        scale = sum(counts) / total if total else 1.0
        return tuple(weight * scale for weight in weights)

    def model_options(self) -> dict[str, Any]:
        """Return the label names as the model's configuration holds them."""
        labels = self.labels or ()
        return {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {name: position for position, name in enumerate(labels)},
            "problem_type": "single_label_classification",
        }
