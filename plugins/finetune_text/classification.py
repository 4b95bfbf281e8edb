"""Single-label classification of texts and of pairs of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from finetune.errors import BadData, listed
from finetune.interfaces import LEARNED, Batch, Columns, DataForm, Finding, Preprocessor, Row, Values
from finetune_text import label_checks, labels, texts
from finetune_text.labels import LABEL, as_text
from finetune_text.losses import CrossEntropy, check_focal_gamma

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class TextClassificationPreprocessor(Preprocessor):
    """One label for a text, or for a pair of texts.

    The label set comes from the training examples alone. Labels may be names, whole numbers (also
    as text), or positions in a list of names (`datasets.ClassLabel`).
    """

    max_length: int = 256
    """Longest input in tokens, special tokens included; longer inputs are truncated, and the loss is counted."""
    labels: tuple[str, ...] | None = None
    """Names of the labels in order of their ids; learned from train when not given."""
    label_ids: bool | None = None
    """Whether the label column holds positions in `labels` (0, 1, …) rather than names; learned when not given."""
    class_weights: Literal["balanced"] | Mapping[str, float] | None = None
    """Weight of each label in the loss: `balanced` (by rarity in train), or label → weight, 1 where not named."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all labels."""
    focal_gamma: float = 0.0
    """Focal loss: rows whose label the model is sure of count less; 0 for cross entropy, 2 in the paper (Lin et al.
    2017)."""
    class_counts: Mapping[str, int] | None = field(default=None, metadata=LEARNED)
    """Rows of each label in train; always learned."""

    def __post_init__(self) -> None:
        if isinstance(self.class_weights, Mapping) and min(self.class_weights.values(), default=0) < 0:
            raise ValueError("class_weights cannot be negative")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError("label_smoothing must be at least 0 and less than 1")
        check_focal_gamma(self.focal_gamma)
        if self.focal_gamma and self.label_smoothing:
            raise ValueError("focal_gamma and label_smoothing cannot be set together")

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return texts.columns()

    def strata(self, example: Row) -> Collection[str]:
        """Return the label of an example."""
        text = _label_text(example.get(LABEL))
        return () if text is None else (text,)

    def forms(self) -> Sequence[DataForm]:
        """Return the form of the data: a text with one label."""
        names = (
            "labels",
            "class",
            "category",
            "target",
            "sentiment",
            "stars",
            "rating",
            "stance",
            "intent",
            "topic",
            "y",
            "score",
        )
        return (texts.form(Values(what="the label: a name or a whole number", kind="label", names=names)),)

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows the label names, how the data write them, and how often each occurs."""
        occurrences: Counter[str] = Counter()
        for row in train:
            text = _label_text(row.get(LABEL))
            if text is not None:
                occurrences[text] += 1
        class_label = labels.class_label_names(train)
        names, ids = labels.learn(occurrences, given=self.labels, class_label=class_label, ids=self.label_ids)
        counts = {names[position]: occurrences[text] for text, position in labels.ids_of(names, ids=ids).items()}
        return replace(self, labels=names, label_ids=ids, class_counts=counts)

    def for_model(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return a copy with the labels of a trained model, and with the length that it takes."""
        longest = texts.longest_input(config, tokenizer, default=self.max_length)
        return replace(self, labels=self.labels or labels.of_model(config), max_length=longest)

    def learn_form(self, examples: Sequence[Row]) -> Self:
        """Return a copy that knows whether the rows hold names of labels, or their ids."""
        return replace(self.fit(examples), class_counts=None)

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split.

        Findings about the label set as a whole belong to the training split, which is recognised by
        its label counts. Rows without any label are rows to predict.
        """
        if self.labels is None:
            yield from self.fit(examples).check(examples)
            return
        if texts.has_values(examples, LABEL):
            yield from label_checks.check_order(examples, self.labels)
        found = yield from label_checks.check_rows(examples, partial(_read, ids=self._ids()))
        if {name: found[position] for position, name in enumerate(self.labels)} == self.class_counts:
            yield from label_checks.with_first_rows(self._check_train(len(examples)), examples, as_text)

    def _check_train(self, rows: int) -> Iterator[Finding]:
        names, counts = self.labels or (), self.class_counts or {}
        if len(names) < 2:
            message = f"all rows have the label {names[0]!r}." if names else "no row has a label."
            fix = "Classification needs at least two labels in train."
            yield label_checks.label_finding("one-class", message, level="error", fix=fix)
        weights = self.class_weights if isinstance(self.class_weights, Mapping) else {}
        for name in weights:
            if name not in names:
                yield label_checks.label_finding(
                    "weight-without-class", "class_weights names a label that does not exist.", value=name,
                    level="error", fix=f"The labels are: {listed(names)}.",
                )  # fmt: skip
        yield from label_checks.check_names(names)
        yield from label_checks.check_joined(names)
        yield from label_checks.check_fractions(names)
        yield from label_checks.check_sentinels(counts)
        yield from label_checks.check_similar(counts)
        yield from label_checks.check_counts(counts, rows=rows)

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return token ids and, where examples have labels, their ids.

        ``{"text": ["Fog"], "label": ["weather"]}`` gives
        ``{'input_ids': [[101, 9666, 102]], …, 'tokens_lost': [0], 'labels': [4]}``.

        Raises:
            BadData: A label is not one of `labels`.
            BadOptions: The model cannot take `max_length` tokens, or `max_length` leaves no room
                for text.
            Incompatible: The tokenizer cannot pad.
        """
        encoded = texts.encode(examples, tokenizer, max_length=self.max_length)
        given = labels.given_labels(examples)
        if given is None:
            return encoded
        known = self._ids()
        ids = []
        for value in given:
            text = as_text(value) or ""
            if text not in known:
                raise BadData(f"{value!r} is not one of the labels: {', '.join(known)}. Fit the preprocessor on train.")
            ids.append(known[text])
        return {**encoded, "labels": ids}

    def _ids(self) -> dict[str, int]:
        return labels.ids_of(self.labels or (), ids=bool(self.label_ids))

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many texts were truncated, and how many tokens were lost."""
        return texts.truncation(features)

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the text as the model reads it, and its label."""
        position = feature.get("labels")
        return texts.shown(feature, tokenizer, None if position is None else (self.labels or ())[position])

    def loss(self) -> CrossEntropy:
        """Return cross entropy with the class weights, which average 1 over the training rows."""
        return CrossEntropy(weights=self._weights(), label_smoothing=self.label_smoothing, focal_gamma=self.focal_gamma)

    def _weights(self) -> tuple[float, ...] | None:
        """Return the weight of each label, or None where all weights are equal.

        Source of `balanced`: rows / (labels · rows of the label), as in scikit-learn's
        ``compute_class_weight``.
        """
        if self.class_weights is None:
            return None
        counts, weights = [], []
        for name in self.labels or ():
            count = (self.class_counts or {}).get(name, 0)
            if self.class_weights == "balanced":
                weight = 1 / count if count else 0.0
            else:
                weight = float(self.class_weights.get(name, 1.0))
            counts.append(count)
            weights.append(weight)
        total = sum(weight * count for weight, count in zip(weights, counts, strict=True))
        scale = sum(counts) / total if total else 1.0
        return tuple(weight * scale for weight in weights)

    def model_options(self) -> dict[str, Any]:
        """Return the label names as the model's configuration holds them."""
        return labels.model_options(self.labels or (), problem_type="single_label_classification")


def _label_text(value: Any) -> str | None:
    """Return a label as text; None if the value is none, or several."""
    return None if isinstance(value, list | tuple | dict) else as_text(value)


def _read(value: Any, row: int, *, ids: Mapping[str, int]) -> Hashable | Finding:
    """Return the id of a label, or what is wrong with it."""
    return label_checks.check_label(value, row, ids) or ids[as_text(value) or ""]
