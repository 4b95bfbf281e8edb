"""Multi-label classification: any number of labels for a text or a pair of texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, Self

from finetune.errors import BadData, listed
from finetune.interfaces import IGNORE_INDEX, LEARNED, Batch, Columns, DataForm, Finding, Preprocessor, Row, Values
from finetune_text import bit_columns, label_checks, labels, texts
from finetune_text.label_checks import label_finding
from finetune_text.labels import LABEL
from finetune_text.losses import BinaryCrossEntropy, check_focal_gamma

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

Form = Literal["names", "ids", "vector"]
_BITS = frozenset({"0", "1"})
_NOT_LABELS = frozenset({"", str(IGNORE_INDEX)})
"""A null in a list, and the number that losses skip."""
_UNKNOWN_BITS = frozenset({"", "-1", str(IGNORE_INDEX)})
"""What a vector holds where it is unknown whether the label applies."""
_SHARE = re.compile(r"0?\.\d+")
_MOST = 0.9
"""Share of the lists that must be vectors, so that the others are wrong vectors."""


@dataclass(frozen=True, kw_only=True)
class MultiLabelPreprocessor(Preprocessor):
    """Any number of labels for a text; no label is an answer too.

    The label column holds a list of names (``[weather, market]``), text that joins them
    (``weather|market``; empty for none), positions in a list of names, or one 0 or 1 for every
    label (``[0, 1, 1]``). Instead, each label can have its own column of 0 and 1: see `label_columns`.
    """

    max_length: int = 256
    """Longest input in tokens, special tokens included; longer inputs are truncated, and the loss is counted."""
    labels: tuple[str, ...] | None = None
    """Names of the labels in order of their ids; learned from train when not given."""
    separator: str = "|"
    """What separates labels where the column holds text."""
    label_columns: tuple[str, ...] | None = None
    """Columns that hold 0 or 1 for one label each, as in Jigsaw: `[toxic, insult]`. The labels get the names of the
    columns. If not given, the column `label` holds the labels."""
    label_form: Form | None = None
    """How the column writes labels: `names`, `ids` (positions in `labels`) or `vector` (a 0 or 1
    for each); learned when not given."""
    focal_gamma: float = 0.0
    """Focal loss: labels that the model is sure of count less; 0 for cross entropy, 2 in the paper (Lin et al.
    2017)."""
    class_counts: Mapping[str, int] | None = field(default=None, metadata=LEARNED)
    """Rows of each label in train; always learned."""

    def __post_init__(self) -> None:
        if not self.separator.strip():
            raise ValueError("separator must be a visible character, such as '|'")
        if self.label_columns is not None:
            self._check_label_columns(self.label_columns)
        check_focal_gamma(self.focal_gamma)

    def _check_label_columns(self, columns: Sequence[str]) -> None:
        if len(set(columns)) < max(2, len(columns)) or not {texts.TEXT, texts.PAIR}.isdisjoint(columns):
            raise ValueError("label_columns must name at least two columns, all different, and none of the texts")
        if self.labels is not None and tuple(self.labels) != tuple(columns):
            raise ValueError("label_columns gives the labels their names, so remove labels")
        if self.label_form not in (None, "vector"):
            raise ValueError("label_columns hold 0 and 1, so remove label_form")

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return texts.columns(self.label_columns or (LABEL,))

    def strata(self, example: Row) -> Collection[str]:
        """Return the labels of an example, or the positions of a list that can be a vector."""
        if self.label_columns:
            bits = bit_columns.vector(example, self.label_columns) or []
            return [name for name, bit in zip(self.label_columns, bits, strict=False) if bit == "1"]
        split = self._split(example.get(LABEL)) or []
        if len(split) > 1 and all(map(_is_bit, split)):
            return [str(position) for position, part in enumerate(split) if part == "1"]
        return sorted(set(split) - _NOT_LABELS)

    def forms(self) -> Sequence[DataForm]:
        """Return the forms of the data: a text with any number of labels, in one column or in one for each label."""
        what = "the labels: a list, or a text such as weather|market"
        names = ("labels", "tags", "topics", "categories", "genres", "emotions", "keywords")
        columns = Values(what="0 or 1 for one label each", kind="bit")
        return (
            texts.form(Values(what=what, kind="labels", names=names), weight=0.9, learned={"separator": "separator"}),
            texts.form(None, groups={"label_columns": columns}, weight=0.95),
        )

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows the label names, how the data write them, and how often each occurs."""
        rows = []
        for row in self._with_labels(train):
            split = self._split(row.get(LABEL))
            if split is not None:
                rows.append(split)
        class_label = None if self.label_columns else labels.class_label_names(train)
        form: Form = self.label_form or ("ids" if class_label else _form(rows, self.labels))
        if self.label_columns:
            names, form = self.label_columns, "vector"
        elif self.labels:
            names = self.labels
        elif form == "vector":
            names = tuple(map(str, range(max(map(len, rows), default=0))))
        else:
            found = set(chain.from_iterable(rows)) - _NOT_LABELS
            names = class_label or labels.sort_labels(found)
        fitted = replace(self, labels=names, label_form=form)
        counts = dict.fromkeys(names, 0)
        for split in rows:
            if fitted._first_wrong(split) is None:
                for position in fitted._positions(split):
                    counts[names[position]] += 1
        return replace(fitted, class_counts=counts)

    def for_model(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return a copy with the labels of a trained model, and with the length that it takes."""
        longest = texts.longest_input(config, tokenizer, default=self.max_length)
        return replace(self, labels=self.labels or labels.of_model(config), max_length=longest)

    def learn_form(self, examples: Sequence[Row]) -> Self:
        """Return a copy that knows how the rows write labels."""
        return replace(self.fit(examples), class_counts=None)

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split; findings about the label set as a whole belong to the training split."""
        if self.labels is None:
            yield from self.fit(examples).check(examples)
            return
        for finding in self._checked(self._with_labels(examples)):
            yield replace(finding, column=self._column_of(finding))

    def _with_labels(self, examples: Sequence[Row]) -> Sequence[Row]:
        """Return the rows with their labels in the label column."""
        return bit_columns.WithVectors(examples, self.label_columns) if self.label_columns else examples

    def _column_of(self, finding: Finding) -> str | None:
        """Return the column of the data that a finding is about."""
        if not self.label_columns or finding.column != LABEL:
            return finding.column
        return finding.value if finding.value in self.label_columns else self.label_columns[0]

    def _checked(self, examples: Sequence[Row]) -> Iterator[Finding]:
        assert self.labels is not None
        if texts.has_values(examples, LABEL):
            yield from label_checks.check_order(examples, self.labels)
        found = yield from label_checks.check_rows(examples, self._read)
        counts = dict.fromkeys(self.labels, 0)
        for positions, rows in found.items():
            assert isinstance(positions, frozenset)  # as `_read` returns them
            for position in positions:
                counts[self.labels[position]] += rows
        if counts == self.class_counts:
            yield from self._check_train(len(examples))

    def _check_train(self, rows: int) -> Iterator[Finding]:
        counts = self.class_counts or {}
        if not any(counts.values()):
            yield label_finding("one-class", "no row has a label.", level="error", fix="Label some rows of train.")
            return
        yield from self._check_constants(rows)
        if self.label_form == "vector":
            option = "label_columns" if self.label_columns else "labels"
            yield from label_checks.check_counts(counts, rows=rows, majority=False, option=option)
            return
        yield from label_checks.check_names(self.labels or ())
        yield from self._check_joined()
        yield from label_checks.check_sentinels(counts)
        yield from label_checks.check_similar(counts)
        yield from label_checks.check_counts(counts, rows=rows, majority=False)

    def _check_constants(self, rows: int) -> Iterator[Finding]:
        """Yield a finding if rows are all alike: with every label, or each with one of two columns."""
        counts = self.class_counts or {}
        constant = [name for name, count in counts.items() if count == rows]
        if constant and rows > 1:
            whole = len(constant) == len(counts)
            what = "every row has every label" if whole else f"every row has the label {label_checks.listed(constant)}"
            yield label_finding(
                "constant-label", f"{what}: there is nothing to learn about it.", level="error" if whole else "warning",
                fix="Check how the labels are written; for a 0 or 1 for each label, set label_form: vector."
                if whole else "Remove the label, or check that this is the label column.",
            )  # fmt: skip
        if self.label_form == "vector" and len(counts) == 2 and sum(counts.values()) == rows and not constant:
            yield label_finding(
                "label-one-hot", "lists of 0 and 1 are read as a column for each of two labels, and every row has "
                "exactly one of them.", level="warning",
                fix="If these are the labels '0' and '1', set label_form: names. If a row never has both labels, use "
                "text-classification.",
            )  # fmt: skip

    def _check_joined(self) -> Iterator[Finding]:
        for separator, names in label_checks.joined(self.labels or ()).items():
            if separator == self.separator:
                continue  # in a list of labels, the separator is a letter like any other
            message = f"labels join others with {separator!r}, and the separator is {self.separator!r}"
            yield label_finding(
                "label-joined", f"{message}: {label_checks.listed([repr(name) for name in names])}.", value=names[0],
                level="error" if separator != " " else "warning",
                fix=(f"Set preprocessor.separator: {separator!r}, or make" if separator.strip() else "Make")
                + " each label an element of a list.",
            )  # fmt: skip

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return token ids and, where examples have labels, a 0 or 1 for every label.

        ``{"text": ["Fog"], "label": [["weather"]]}`` gives
        ``{'input_ids': [[101, 9666, 102]], …, 'tokens_lost': [0], 'labels': [[0.0, 1.0]]}``.

        Raises:
            BadData: A label is not one of `labels`.
            BadOptions: The model cannot take `max_length` tokens, or `max_length` leaves no room
                for text.
            Incompatible: The tokenizer cannot pad.
        """
        encoded = texts.encode(examples, tokenizer, max_length=self.max_length)
        if self.label_columns:
            examples = {**examples, LABEL: bit_columns.vectors(examples, self.label_columns)}
        given = labels.given_labels(examples)
        if given is None:
            return encoded
        return {**encoded, "labels": [self._vector(value) for value in given]}

    def _vector(self, value: Any) -> list[float]:
        names = self.labels or ()
        split = self._split(value)
        if split is None or self._first_wrong(split) is not None:
            raise BadData(f"{value!r} is not made of the labels: {listed(names)}. Fit the preprocessor on train.")
        vector = [0.0] * len(names)
        for position in self._positions(split):
            vector[position] = 1.0
        return vector

    def _split(self, value: Any) -> list[str] | None:
        """Return one row's labels as text, each by itself, or None where the row has no value."""
        if value is None:
            return None
        if isinstance(value, str):
            parts = [part.strip() for part in value.split(self.separator)]
            return list(filter(None, parts))
        values = value if isinstance(value, list | tuple) else [value]
        return [_cell_text(part) for part in values]  # empty text for a null, which is no label

    def _first_wrong(self, split: Sequence[str]) -> str | None:
        """Return the first part of a row's labels that is not a label; all of a vector that has another length."""
        known = _BITS if self.label_form == "vector" else self._ids
        for part in split:
            if part not in known:
                return part
        if self.label_form == "vector" and len(split) != len(self.labels or ()):
            return "|".join(split)
        return None

    def _positions(self, split: Sequence[str]) -> frozenset[int]:
        """Return the ids of one row's labels, which must be sound."""
        if self.label_form == "vector":
            return frozenset(position for position, part in enumerate(split) if part == "1")
        return frozenset(map(self._ids.__getitem__, split))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return labels.ids_of(self.labels or (), ids=self.label_form == "ids")

    def _read(self, value: Any, row: int) -> Hashable | Finding:
        """Return the ids of a row's labels, or what is wrong with them."""
        if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
            return label_finding(
                "label-list-as-text", "the column holds a list that is written as text.", row=row, value=value,
                level="error", fix=f"Write the labels with {self.separator!r} between them, or use JSON lines.",
            )  # fmt: skip
        split = self._split(value)
        if split is None:
            fix = "Label the row (an empty list says that no label applies), or drop it."
            return label_finding("label-missing", "the row has no labels.", row=row, fix=fix)
        wrong = self._first_wrong(split)
        if wrong is None:
            return self._positions(split)
        if self.label_columns:
            return self._wrong_bit(wrong, split, row)
        if wrong in _NOT_LABELS or (self.label_form == "vector" and wrong in _UNKNOWN_BITS):
            what = wrong or "nothing"
            return label_finding(
                "label-sentinel", f"the list holds {what} where a label is wanted.", row=row, value=repr(value),
                fix="Write what is known, or drop the row: there is no value for an unknown label.",
            )  # fmt: skip
        if self.label_form == "vector":
            return label_finding(
                "label-vector", f"expected {len(self.labels or ())} values, each 0 or 1.", row=row, value=repr(value),
                level="error", fix="Correct the vector, or drop the row.",
            )  # fmt: skip
        return label_checks.unseen_label(wrong, row, self._ids)

    def _wrong_bit(self, wrong: str, split: Sequence[str], row: int) -> Finding:
        """Return the finding for a row of which a label column holds something other than 0 and 1."""
        column = (self.label_columns or ())[list(split).index(wrong)]
        if wrong in _UNKNOWN_BITS:
            message = f"expected 0 or 1, found {wrong or 'nothing'}: it is unknown whether the label applies."
            fix = "Write what is known, or drop the row: there is no value for an unknown label."
            return Finding(code="label-sentinel", message=message, fix=fix, row=row, column=column, value=wrong)
        return Finding(
            code="label-vector", message="expected 0 or 1.", row=row, column=column, value=wrong, level="error",
            fix="Correct the cell, or take the column out of the option `label_columns`.",
        )  # fmt: skip

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
        return BinaryCrossEntropy(focal_gamma=self.focal_gamma)

    def model_options(self) -> dict[str, Any]:
        """Return the label names as the model's configuration holds them."""
        return labels.model_options(self.labels or (), problem_type="multi_label_classification")


def _cell_text(value: Any) -> str:
    """Return one element of a list of labels as text: vectors may hold True and False, or 1.0."""
    return str(int(value)) if isinstance(value, bool) else labels.as_text(value) or ""


def _is_bit(part: str) -> bool:
    """Return whether a part of a list can stand in a vector: 0 or 1, or a wrong value such as a share."""
    return part in _BITS or part in _UNKNOWN_BITS or _SHARE.fullmatch(part) is not None


def _form(rows: Sequence[Sequence[str]], names: Sequence[str] | None) -> Form:
    """Say how labels are written.

    Lists of 0 and 1 are vectors if they all have the same length, and a list says one of them twice or lists disagree
    in their order. Unknown values and shares in them are wrong, but do not make them lists of names. Nor does a tenth
    of lists with another length or other values, if the lists have more than two values.

    >>> _form([["0", "1"], ["1", "0"]], None), _form([["0", "1"], ["0", "1"]], None), _form([["0", "1"], ["0"]], None)
    ('vector', 'names', 'names')
    """
    every = set(chain.from_iterable(rows))
    usual = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    vectors = [row for row in rows if len(row) == usual and all(map(_is_bit, row))]
    repeats = any(len(set(row)) < len(row) for row in vectors)
    orders = {tuple(row) for row in vectors}
    is_ordered_twice = any(row[::-1] in orders for row in orders if len(row) == 2)
    enough = len(vectors) == len(rows) or (usual > 2 and len(vectors) >= _MOST * len(rows))
    if enough and every & _BITS and (repeats or is_ordered_twice):
        return "vector"
    return "ids" if names and labels.are_ids(every, names) else "names"
