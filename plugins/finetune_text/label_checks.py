"""What can be wrong with the labels of texts: of one row, of one split, and of the training data as a whole."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from typing import Any

from finetune.errors import did_you_mean
from finetune.interfaces import Finding, Row
from finetune.kit import DuplicateCounter
from finetune_text import texts
from finetune_text.labels import INTEGER, LABEL, as_text, class_label_names, normalized

_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_LISTED = 5
"""How many names a message lists."""


def check_rows(
    examples: Sequence[Row], read: Callable[[Any, int], Hashable | Finding]
) -> Generator[Finding, None, Counter[Hashable]]:
    """Yield what is wrong with the rows of one split, then what repeats; return how often each label occurs.

    Args:
        examples: The rows. If no row has a label, they are rows to predict, and only the texts are
            checked.
        read: Takes the label column's value and the position of the row; returns the label, or what
            is wrong with it.
    """
    columns = (texts.TEXT, texts.PAIR) if texts.has_values(examples, texts.PAIR) else (texts.TEXT,)
    labelled = texts.has_values(examples, LABEL)
    counts: Counter[Hashable] = Counter()
    duplicates = DuplicateCounter()
    for number, row in enumerate(examples):
        yield from texts.check_texts(row, number, columns)
        if not labelled:
            continue
        label = read(row.get(LABEL), number)
        if isinstance(label, Finding):
            yield label
            continue
        counts[label] += 1
        duplicates.add(number, (row.get(texts.TEXT), row.get(texts.PAIR)), label)
    yield from duplicates.repeat_warning("rows repeat an earlier text with the same label.", column=texts.TEXT)
    yield from duplicates.conflict_warning("rows repeat an earlier text with another label.", column=texts.TEXT)
    return counts


def check_label(value: Any, row: int, ids: Mapping[str, int]) -> Finding | None:
    """Return what is wrong with the single label of one row; ``ids`` holds the known labels as the data write them."""
    text = as_text(value)
    if text is None:
        return label_missing(row)
    if isinstance(value, list | tuple | dict):
        return label_finding(
            "label-not-single", "expected one label, found several.", row=row, value=repr(value), level="error",
            fix="Use the task multi-label-classification for lists of labels.",
        )  # fmt: skip
    if text in ids:
        return None
    if isinstance(value, float):
        return label_finding(
            "label-is-a-number", "expected a name or a whole number.", row=row, value=text, level="error",
            fix="Use the task text-regression to learn numbers.",
        )  # fmt: skip
    return unseen_label(text, row, ids)


def label_missing(row: int) -> Finding:
    """Return the finding for a row without a label."""
    return label_finding("label-missing", "the row has no label.", row=row, fix="Label the row, or drop it.")


def unseen_label(text: str, row: int, ids: Mapping[str, int]) -> Finding:
    """Return the finding for a label that the training data do not have."""
    if INTEGER.fullmatch(text) and all(INTEGER.fullmatch(name) for name in ids):
        known = f"the labels are {', '.join(ids)}." if len(ids) <= 10 else f"there are {len(ids):,} labels."
        return label_finding(
            "label-out-of-range", known, row=row, value=text, level="error", fix="Correct the label, or drop the row."
        )
    alike = [name for name in ids if normalized(name) == normalized(text)]
    hint = f" Did you mean {alike[0]!r}?" if alike else did_you_mean(text, ids)
    return label_finding(
        "unseen-label", "no training row has this label.", row=row, value=text, level="error",
        fix=f"Correct it, or add training rows with it.{hint}",
    )  # fmt: skip


def check_order(examples: Sequence[Row], labels: Sequence[str]) -> Iterator[Finding]:
    """Yield an error where a split's own label names stand in another order than the model's.

    That happens when one split is encoded by itself: its label 0 is then not the model's label 0.
    """
    own = class_label_names(examples)
    if own and own != tuple(labels) and not set(own).isdisjoint(labels):
        yield label_finding(
            "label-order", f"the split numbers its labels {listed(own)}; the model numbers them {listed(labels)}.",
            level="error", fix="Encode all splits with one list of names, or give the labels as text.",
        )  # fmt: skip


def check_names(labels: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with the label names of the training data."""
    groups: dict[str, list[str]] = {}
    for name in labels:
        groups.setdefault(normalized(name), []).append(name)
    alike = ["/".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    if alike:
        yield label_finding(
            "labels-alike", f"labels differ only by case, space or Unicode form: {', '.join(alike)}.", level="error",
            fix="Spell each label one way.",
        )  # fmt: skip
    for name in labels:
        if not _UNPRINTABLE.isdisjoint(map(unicodedata.category, name)):
            yield label_finding(
                "label-unprintable", "a label holds a line break or another control character.", value=ascii(name),
                level="error", fix="Give the label a name that can be printed on one line.",
            )  # fmt: skip


def check_joined(labels: Sequence[str]) -> Iterator[Finding]:
    """Yield a warning for each label that looks like several other labels joined."""
    for name in labels:
        for separator in ";|,":
            names = [part.strip() for part in name.split(separator)]
            if len(names) > 1 and set(names) <= set(labels):
                yield label_finding(
                    "label-joined", f"the label joins others with {separator!r}.", value=name, level="warning",
                    fix=f"If a text may have several labels, use multi-label-classification, separator {separator!r}.",
                )  # fmt: skip


def check_counts(counts: Mapping[str, int], *, rows: int, majority: bool = True) -> Iterator[Finding]:
    """Yield what is wrong with how many training rows each label has.

    Args:
        counts: Label → how many rows have it.
        rows: How many rows there are.
        majority: Whether to warn if one label has far more rows than another.
    """
    for name, count in counts.items():
        if count == 0:
            yield label_finding(
                "class-without-rows", "no training row has this label.", value=name, level="error",
                fix="Take the label out of the option `labels`, or add rows with it.",
            )  # fmt: skip
        elif count == 1:
            yield label_finding(
                "class-with-one-row", "only one training row has this label.", value=name, level="warning",
                fix="Add rows with it: a model hardly learns a label from one row, and one row cannot be split.",
            )  # fmt: skip
    if len(counts) * 2 > rows > 10:
        yield label_finding(
            "many-labels", f"{len(counts):,} labels for {rows:,} training rows.", level="warning",
            fix="Check that this is the label column; for numbers, use text-regression.",
        )  # fmt: skip
    if majority:
        yield from _check_balance(counts)


def _check_balance(counts: Mapping[str, int]) -> Iterator[Finding]:
    least, most = min(counts.values(), default=0), max(counts.values(), default=0)
    if not least or most <= 100 * least:
        return
    largest = max(counts, key=lambda name: counts[name])
    share = most / sum(counts.values())
    yield label_finding(
        "imbalance", f"{most:,} rows of {largest!r} for {least:,} of the rarest label; always answering "
        f"{largest!r} is right in {share:.1%}.", level="warning",
        fix="Look at balanced accuracy and macro F1; consider class_weights: balanced.",
    )  # fmt: skip


def label_finding(code: str, message: str, **rest: Any) -> Finding:
    """Return a finding in the label column."""
    return Finding(code=code, message=message, column=LABEL, **rest)


def listed(names: Sequence[str]) -> str:
    """Return the first names as a message shows them.

    >>> listed("abcdefg")
    'a, b, c, d, e, …'
    """
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
