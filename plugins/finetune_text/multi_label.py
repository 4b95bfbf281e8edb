"""Multi-label classification: any number of labels for a text or a pair of texts."""

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
from finetune_text.losses import BinaryCrossEntropy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Form = Literal["names", "ids", "vector"]


@dataclass(frozen=True, kw_only=True)
class MultiLabelPreprocessor(Preprocessor):
    """Any number of labels for a text; none is an answer too.

    The label column holds a list of names (``[weather, market]``), text that joins them (``weather|market``; empty
    for none), positions in a list of names, or one 0 or 1 for every label (``[0, 1, 1]``).
    """

    max_length: int = 256
    """Longest input, in tokens, special ones included; what is beyond is cut and counted."""
    labels: tuple[str, ...] | None = None
    """Names of the labels in order of their ids; learned from train when not given."""
    separator: str = "|"
    """What stands between labels where the column holds text."""
    label_form: Form | None = None
    """How the column writes labels: `names`, `ids` (positions in `labels`) or `vector` (a 0 or 1 for each); learned
    when not given."""
    class_counts: Mapping[str, int] | None = None
    """Rows of each label in train; always learned."""

    def __post_init__(self) -> None:
        if not self.separator.strip():
            raise ValueError("separator must be a visible character, such as '|'")

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(required=(texts.TEXT,), optional=(texts.PAIR,), answers=(LABEL,))

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows the label names, how the data write them, and how often each occurs."""
        class_label = names.class_label_names(train)
        given = [parts for row in train if (parts := self._parts(row.get(LABEL))) is not None]
        form: Form = self.label_form or ("ids" if class_label else _form(given, self.labels))
        found = Counter(part for parts in given for part in parts)
        if form == "vector":
            width = max((len(parts) for parts in given), default=0)
            labels = self.labels or tuple(str(position) for position in range(width))
        else:
            labels = self.labels or class_label or names.ordered(found)
        fitted = replace(self, labels=labels, label_form=form)
        counts = dict.fromkeys(labels, 0)
        for row in train:
            for position in fitted._positions(row.get(LABEL)) or ():
                counts[labels[position]] += 1
        return replace(fitted, class_counts=counts)

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split; what concerns the label set as a whole, with the training split."""
        if self.labels is None or self.class_counts is None:
            yield from self.fit(examples).check(examples)
            return
        columns = (texts.TEXT, texts.PAIR) if texts.present(examples, texts.PAIR) else (texts.TEXT,)
        labelled = texts.present(examples, LABEL)
        counts = dict.fromkeys(self.labels, 0)
        twins = texts.Twins()
        if labelled:
            yield from names.check_order(examples, self.labels)
        for number, row in enumerate(examples):
            yield from texts.check_texts(row, number, columns)
            if not labelled:
                continue
            problem = self._problem(row.get(LABEL), number)
            if problem is not None:
                yield problem
                continue
            positions = self._positions(row.get(LABEL)) or ()
            counts.update({self.labels[position]: counts[self.labels[position]] + 1 for position in positions})
            twins.add(number, row, frozenset(positions))
        yield from twins.findings()
        if counts == self.class_counts:
            yield from self._check_train(len(examples))

    def _check_train(self, rows: int) -> Iterator[Finding]:
        counts = self.class_counts or {}
        if not any(counts.values()):
            yield names.finding("one-class", "no row has a label.", level="error", fix="Label some rows of train.")
            return
        yield from names.check_names(self.labels or ())
        yield from names.check_counts(counts, rows=rows, majority=False)

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return token ids and, where examples have labels, a 0 or 1 for every label.

        ``{"text": ["Fog"], "label": [["weather"]]}`` gives
        ``{'input_ids': [[101, 9666, 102]], …, 'tokens_lost': [0], 'labels': [[0.0, 1.0]]}``.
        """
        encoded = texts.encode(examples, tokenizer, max_length=self.max_length)
        given = examples.get(LABEL, ())
        if all(value is None for value in given):
            return encoded
        return {**encoded, "labels": [self._vector(value) for value in given]}

    def _vector(self, value: Any) -> list[float]:
        positions = self._positions(value)
        if positions is None:
            known = ", ".join(self.labels or ())
            raise BadData(f"{value!r} is not made of the labels: {known}. Fit the preprocessor on train.")
        return [float(position in positions) for position in range(len(self.labels or ()))]

    def _positions(self, value: Any) -> set[int] | None:
        """Return the ids of one row's labels, or None where it has none or wrong ones."""
        parts = self._parts(value)
        if parts is None or self._wrong(parts) is not None:
            return None
        if self.label_form == "vector":
            return {position for position, part in enumerate(parts) if part == "1"}
        known = self._known()
        return {known[part] for part in parts}

    def _parts(self, value: Any) -> list[str] | None:
        """Return one row's labels as text, or None where it says nothing."""
        if value is None:
            return None
        if isinstance(value, str):
            return [part.strip() for part in value.split(self.separator) if part.strip()]
        values = list(value) if isinstance(value, list | tuple) else [value]
        # True and False stand in vectors; 1.0 is spelt 1.
        return [str(int(part)) if isinstance(part, bool) else names.spelt(part) or "" for part in values]

    def _wrong(self, parts: Sequence[str]) -> str | None:
        """Return the first part that is no label."""
        if self.label_form == "vector":
            fits = len(parts) == len(self.labels or ())
            return next((part for part in parts if part not in {"0", "1"}), None if fits else "|".join(parts))
        known = self._known()
        return next((part for part in parts if part not in known), None)

    def _known(self) -> dict[str, int]:
        return names.positions(self.labels or (), ids=self.label_form == "ids")

    def _problem(self, value: Any, row: int) -> Finding | None:
        if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
            return names.finding(
                "label-list-as-text", "a list was written as text.", row=row, value=value, level="error",
                fix=f"Write the labels with {self.separator!r} between them, or use JSON lines.",
            )  # fmt: skip
        parts = self._parts(value)
        if parts is None:
            fix = "Label the row (an empty list says that no label applies), or drop it."
            return names.finding("label-missing", "the row has no labels.", row=row, fix=fix)
        wrong = self._wrong(parts)
        if wrong is None:
            return None
        if self.label_form == "vector":
            message = f"{len(self.labels or ())} values were wanted, each 0 or 1."
            fix = "Correct the vector, or drop the row."
            return names.finding("label-vector", message, row=row, value=repr(value), level="error", fix=fix)
        return names.unseen(wrong, row, self._known())

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many texts were truncated, and how many tokens were lost."""
        return texts.truncation(features)

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the text as the model reads it, and its labels."""
        vector = feature.get("labels")
        if vector is None:
            return texts.shown(feature, tokenizer, None)
        chosen = [name for name, value in zip(self.labels or (), vector, strict=True) if value]
        return texts.shown(feature, tokenizer, ", ".join(chosen))

    def loss(self) -> BinaryCrossEntropy:
        """Return the binary cross entropy of every label."""
        return BinaryCrossEntropy()

    def model_options(self) -> dict[str, Any]:
        """Return the label names as the model's configuration holds them."""
        labels = self.labels or ()
        return {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {name: position for position, name in enumerate(labels)},
            "problem_type": "multi_label_classification",
        }


def _form(given: Sequence[Sequence[str]], labels: Sequence[str] | None) -> Form:
    """Say how labels are written: a list that says 0 or 1 twice is no list of ids."""
    widths = {len(parts) for parts in given}
    binary = len(widths) == 1 and all(part in {"0", "1"} for parts in given for part in parts)
    if binary and any(len(set(parts)) < len(parts) for parts in given):
        return "vector"
    if labels and names.are_ids({part for parts in given for part in parts}, labels):
        return "ids"
    return "names"
