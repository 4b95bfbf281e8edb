"""Labels as data sets write them, and their names in order of id."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from finetune.errors import did_you_mean
from finetune.interfaces import Finding, Row

LABEL = "label"
"""The column."""
INTEGER = re.compile(r"-?(?:0|[1-9]\d*)")
"""An integer as `str` writes it: ``007`` is a name."""
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def spelt(value: Any) -> str | None:
    """Return a label as text, or None where there is none.

    >>> spelt("pos"), spelt(3), spelt(3.0), spelt(True), spelt("")
    ('pos', '3', '3', 'True', None)
    """
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Return label names in the order of their ids: integers by size, everything else by code point.

    >>> ordered(["10", "9"]), ordered(["b", "a"])
    (('9', '10'), ('a', 'b'))
    """
    names = set(names)
    if all(INTEGER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def class_label_names(examples: Sequence[Row], column: str = LABEL) -> tuple[str, ...] | None:
    """Return the names of a `datasets.ClassLabel` column (or of a list of them), where the examples have one."""
    feature = (getattr(examples, "features", None) or {}).get(column)
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return tuple(names) if names is not None else None


def are_ids(found: Iterable[str], labels: Sequence[str]) -> bool:
    """Say whether labels are positions in ``labels``: none of them is a name, and some are 0 … k-1.

    >>> are_ids({"0", "1"}, ("neg", "pos")), are_ids({"1", "2"}, ("1", "2"))
    (True, False)
    """
    found = set(found)
    return found.isdisjoint(labels) and any(str(position) in found for position in range(len(labels)))


def positions(labels: Sequence[str], *, ids: bool) -> dict[str, int]:
    """Return the id of every label, as `spelt` writes it."""
    return {str(position) if ids else name: position for position, name in enumerate(labels)}


def folded(name: str) -> str:
    """Return what is left of a label when case, space and the form of Unicode do not count.

    >>> folded(" Pos ") == folded("poſ") == "pos"
    True
    """
    return unicodedata.normalize("NFC", " ".join(unicodedata.normalize("NFC", name).casefold().split()))


def check_label(value: Any, row: int, known: Mapping[str, int]) -> Finding | None:
    """Return what is wrong with the label of one row."""
    text = spelt(value)
    if text is None:
        return finding("label-missing", "the row has no label.", row=row, fix="Label the row, or drop it.")
    if isinstance(value, list | tuple | dict):
        return finding(
            "label-not-single", "one label was wanted, not several.", row=row, value=repr(value), level="error",
            fix="Use the task multi-label-classification for lists of labels.",
        )  # fmt: skip
    if text in known:
        return None
    if isinstance(value, float):
        return finding(
            "label-is-a-number", "a name or a whole number was wanted.", row=row, value=text, level="error",
            fix="Use the task text-regression to learn numbers.",
        )  # fmt: skip
    return unseen(text, row, known)


def unseen(text: str, row: int, known: Mapping[str, int]) -> Finding:
    """Return the finding for a label that training knows nothing of."""
    if all(INTEGER.fullmatch(name) for name in known) and INTEGER.fullmatch(text):
        few = len(known) <= 10
        wanted = f"the labels are {', '.join(known)}." if few else f"there are {len(known):,} labels."
        return finding(
            "label-out-of-range", wanted, row=row, value=text, level="error", fix="Correct the label, or drop the row."
        )
    alike = [name for name in known if folded(name) == folded(text)]
    hint = f" Did you mean {alike[0]!r}?" if alike else did_you_mean(text, known)
    return finding(
        "unseen-label", "no training row has this label.", row=row, value=text, level="error",
        fix=f"Correct it, or add training rows with it.{hint}",
    )  # fmt: skip


def check_order(examples: Sequence[Row], labels: Sequence[str]) -> Iterator[Finding]:
    """Yield an error where a split's own label names stand in another order than the model's.

    Encoding one split by itself does that: its 0 is then another label than the model's 0.
    """
    names = class_label_names(examples)
    if names and names != tuple(labels) and not set(names).isdisjoint(labels):
        yield finding(
            "label-order",
            f"the split numbers its labels {_listed(names)}; the model {_listed(labels)}.",
            level="error",
            fix="Encode all splits with one list of names, or give the labels as text.",
        )


def check_names(labels: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with the label names of the training data."""
    groups: dict[str, list[str]] = {}
    for name in labels:
        groups.setdefault(folded(name), []).append(name)
    alike = ["/".join(repr(name) for name in group) for group in groups.values() if len(group) > 1]
    if alike:
        yield finding(
            "labels-alike", f"labels differ only by case, space or Unicode form: {', '.join(alike)}.", level="error",
            fix="Spell each label one way.",
        )  # fmt: skip
    for name in labels:
        if any(unicodedata.category(character) in _UNPRINTABLE for character in name):
            yield finding(
                "label-unprintable", "a label holds a line break or another control character.", value=ascii(name),
                level="error", fix="Give the label a name that can be printed on one line.",
            )  # fmt: skip


def check_joined(labels: Sequence[str]) -> Iterator[Finding]:
    """Yield a warning for each label that reads like several others in one."""
    for name in labels:
        for separator in ";|,":
            parts = [part.strip() for part in name.split(separator)]
            if len(parts) > 1 and set(parts) <= set(labels):
                yield finding(
                    "label-joined", f"the label joins others with {separator!r}.", value=name, level="warning",
                    fix=f"If a text may have several labels, use multi-label-classification, separator {separator!r}.",
                )  # fmt: skip


def check_counts(counts: Mapping[str, int], *, rows: int, majority: bool = True) -> Iterator[Finding]:
    """Yield what is wrong with how many training rows each label has."""
    for name, count in counts.items():
        if count == 0:
            yield finding(
                "class-without-rows", "no training row has this label.", value=name, level="error",
                fix="Take the label out of the option `labels`, or add rows with it.",
            )  # fmt: skip
        elif count == 1:
            yield finding(
                "class-with-one-row", "one training row alone has this label.", value=name, level="warning",
                fix="Add rows with it: what is seen once is hardly learned, and cannot be split.",
            )  # fmt: skip
    if len(counts) * 2 > rows > 10:
        yield finding(
            "many-labels", f"{len(counts):,} labels for {rows:,} training rows.", level="warning",
            fix="Check that this is the label column; for numbers, use text-regression.",
        )  # fmt: skip
    least, most = min(counts.values(), default=0), max(counts.values(), default=0)
    if majority and least and most > 100 * least:
        largest = max(counts, key=lambda name: counts[name])
        share = most / sum(counts.values())
        yield finding(
            "imbalance", f"{most:,} rows of {largest!r} for {least:,} of the rarest label; always answering "
            f"{largest!r} is right in {share:.1%}.", level="warning",
            fix="Look at balanced accuracy and macro F1; consider class_weights: balanced.",
        )  # fmt: skip


def finding(code: str, message: str, **rest: Any) -> Finding:
    """Return a finding in the label column."""
    return Finding(code=code, message=message, column=LABEL, **rest)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
