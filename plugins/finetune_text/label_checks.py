"""What can be wrong with the labels of texts: of one row, of one split, and of the training data as a whole."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from finetune.errors import did_you_mean
from finetune.interfaces import IGNORE_INDEX, Finding, Row
from finetune.kit import DuplicateCounter, TextWarnings
from finetune_text import texts
from finetune_text.labels import INTEGER, LABEL, as_text, class_label_names, normalized

_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_SEPARATORS = (";", "|", ",", "/", "+", "&", "\t", "\n", " ")
_SENTINEL_NUMBERS = frozenset({"-1", "-100", "-999", "-9999"})
_SENTINEL_WORDS = frozenset({"nan", "null", "n/a", "#n/a", "<na>", "?", "unlabeled", "unlabelled"})
_DECIMAL = re.compile(r"-?\d+\.\d+")
_FRACTION = re.compile(r"-?\d+\.\d*[1-9]\d*")
_PUNCTUATION = re.compile(r"(?<=[^\s_\-‐-―./])[\s_\-‐-―./]+(?=[^\s_\-‐-―./])")
"""Punctuation between letters; at the end of a label it can be what sets it apart: A and A-."""
_RARE = 20
"""A label is rare next to another one that has this many times its rows."""
_COMPARED = 300
"""Most labels that are compared with each other."""
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
    duplicates, warnings = DuplicateCounter(), TextWarnings()
    for number, row in enumerate(examples):
        yield from texts.check_texts(row, number, columns)
        for column in columns:
            warnings.add(number, column, row.get(column))
        if not labelled:
            continue
        label = read(row.get(LABEL), number)
        if isinstance(label, Finding):
            yield label
            continue
        counts[label] += 1
        duplicates.add(number, (row.get(texts.TEXT), row.get(texts.PAIR)), label)
    yield from warnings.findings()
    yield from duplicates.repeat_warning("rows repeat an earlier text with the same label.", column=texts.TEXT)
    yield from duplicates.conflict_warning("rows repeat an earlier text with another label.", column=texts.TEXT)
    return counts


def with_first_rows(
    found: Iterable[Finding], examples: Sequence[Row], written: Callable[[Any], str | None]
) -> Iterator[Finding]:
    """Yield findings about one label with the first row that has it, where a finding names no row.

    Args:
        found: The findings.
        examples: The rows.
        written: Returns the value of the label column as findings show it.
    """
    findings = list(found)
    wanted = {finding.value for finding in findings if finding.row is None} - {None}
    first: dict[str | None, int] = {}
    for number, row in enumerate(examples):
        if len(first) == len(wanted):
            break
        text = written(row.get(LABEL))
        if text in wanted:
            first.setdefault(text, number)
    for finding in findings:
        place = finding.row if finding.row is not None else first.get(finding.value)
        yield replace(finding, row=place)


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
    if isinstance(value, float) and not INTEGER.fullmatch(text):
        return label_finding(
            "label-is-a-number", "expected a name or a whole number.", row=row, value=text, level="error",
            fix="Use the task text-regression to learn numbers. If they are names, write them as text.",
        )  # fmt: skip
    if text == str(IGNORE_INDEX):
        return ignored_label(row)
    if text in ids:
        return None
    return unseen_label(text, row, ids)


def ignored_label(row: int) -> Finding:
    """Return the finding for a row with the number that losses skip, which is no label."""
    return label_finding(
        "label-sentinel", "the number means that the row has no label.", row=row, value=str(IGNORE_INDEX),
        fix="Label the row, or drop it.",
    )  # fmt: skip


def label_missing(row: int) -> Finding:
    """Return the finding for a row without a label."""
    return label_finding("label-missing", "the row has no label.", row=row, fix="Label the row, or drop it.")


def unseen_label(text: str, row: int, ids: Mapping[str, int]) -> Finding:
    """Return the finding for a label that the training data do not have."""
    if INTEGER.fullmatch(text) and all(INTEGER.fullmatch(name) for name in ids):
        known = f"the labels are {', '.join(ids)}." if len(ids) <= 10 else f"there are {len(ids):,} labels."
        fix = "Correct the label, or drop the row."
        if text in _SENTINEL_NUMBERS:
            fix = f"{text} often means that a row has no label: remove such rows, or use `finetune predict` for them."
        return label_finding("label-out-of-range", known, row=row, value=text, level="error", fix=fix)
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
        message = f"labels differ only by case, space, invisible characters or Unicode form: {', '.join(alike)}."
        yield label_finding("labels-alike", message, level="error", fix="Spell each label one way.")
    for name in labels:
        if not _UNPRINTABLE.isdisjoint(map(unicodedata.category, name)):
            yield label_finding(
                "label-unprintable", "a label holds a line break or another control character.", value=ascii(name),
                level="error", fix="Give the label a name that can be printed on one line.",
            )  # fmt: skip


def check_joined(labels: Sequence[str]) -> Iterator[Finding]:
    """Yield a warning for each label that looks like several other labels joined."""
    for separator, names in joined(labels).items():
        for name in names:
            yield label_finding(
                "label-joined", f"the label joins others with {separator!r}.", value=name, level="warning",
                fix="If a text can have several labels, use multi-label-classification"
                + (f", separator {separator!r}." if separator.strip() else ", with a list of labels in each row."),
            )  # fmt: skip


def joined(labels: Sequence[str]) -> dict[str, list[str]]:
    """Return the labels that join several others, by the separator between them.

    >>> joined(["a", "b", "a,b", "b, a", "c d"])
    {',': ['a,b', 'b, a']}
    >>> joined(["tar;salt", "salt;rope", "rope;tar"])  # each part is in several labels
    {';': ['tar;salt', 'salt;rope', 'rope;tar']}
    """
    found: dict[str, list[str]] = {}
    known = set(labels)
    for separator in _SEPARATORS:
        parts: dict[str, list[str]] = {}
        for name in labels:
            split = [part.strip() for part in name.split(separator)]
            if len(split) > 1 and all(split):
                parts[name] = split
        uses = Counter(part for split in parts.values() for part in set(split))
        is_usual = separator != " " and len(parts) > len(labels) / 2
        names = []
        for name, split in parts.items():
            repeated = is_usual and all(uses[part] > 1 for part in split)
            if known.issuperset(split) or repeated:
                names.append(name)
        if names:
            found[separator] = names
    return found


def check_sentinels(counts: Mapping[str, int]) -> Iterator[Finding]:
    """Yield a warning for each label that data sets write where there is none: -1, `?`, `nan`.

    -1 is a label where the only others are 1, or 0 and 1: negative, neutral, positive.

    Args:
        counts: Label → how many training rows have it.
    """
    others = {name for name in counts if name not in _SENTINEL_NUMBERS}
    are_counted = all(INTEGER.fullmatch(name) for name in others) and others not in ({"1"}, {"0", "1"})
    for name, count in counts.items():
        is_number = name in _SENTINEL_NUMBERS and are_counted and not any(other.startswith("-") for other in others)
        if is_number or name.casefold() in _SENTINEL_WORDS:
            yield label_finding(
                "label-sentinel", f"{count:,} rows have a label that often means that there is none.", value=name,
                level="warning", fix="If so, remove these rows: the model would learn it like any other label.",
            )  # fmt: skip


def check_outlying_sentinel(counts: Mapping[float, int]) -> Iterator[Finding]:
    """Yield a warning for a number that data sets write where there is none, and that is far from all others.

    Args:
        counts: Number → how many training rows have it.
    """
    for value in (-1.0, -100.0, -999.0, -9999.0, 999.0, 9999.0):
        others = [number for number in counts if number != value]
        if value not in counts or not others:
            continue
        is_negative = value < 0 <= min(others)
        is_large = value > 0 and value >= 10 * max(map(abs, others))
        if (is_negative and counts[value] > 1) or (is_negative and value < -1) or is_large:
            yield label_finding(
                "label-sentinel", f"{counts[value]:,} rows have a number that often means that there is none.",
                value=f"{value:g}", level="warning", fix="If so, remove these rows: the model would learn the number.",
            )  # fmt: skip


def check_fractions(labels: Sequence[str]) -> Iterator[Finding]:
    """Yield a warning if all labels are numbers, and some of them have a fraction."""
    fractions = [name for name in labels if _FRACTION.fullmatch(name)]
    if fractions and all(INTEGER.fullmatch(name) or _DECIMAL.fullmatch(name) for name in labels):
        yield label_finding(
            "label-is-a-number", f"labels are numbers with a fraction: {listed(fractions)}.", value=fractions[0],
            level="warning", fix="To learn numbers, use text-regression. If they are names, ignore this.",
        )  # fmt: skip


def check_similar(counts: Mapping[str, int]) -> Iterator[Finding]:
    """Yield a warning for labels that may be one: the same but for punctuation, or a rare one with another letter.

    Args:
        counts: Label → how many training rows have it.
    """
    names = list(counts)[:_COMPARED]
    similar = []
    for position, one in enumerate(names):
        for other in names[position + 1 :]:
            if normalized(one) == normalized(other):
                continue  # labels-alike
            rare, usual = sorted((counts[one], counts[other]))
            if _letters(one) == _letters(other) or (rare * _RARE <= usual and _differ_in_one_letter(one, other)):
                similar.append(f"{one!r} and {other!r}")
    if similar:
        yield label_finding(
            "labels-similar", f"labels may be spellings of one label: {listed(similar)}.", level="warning",
            fix="If so, spell it one way.",
        )  # fmt: skip


def _letters(name: str) -> str:
    """Return a label without its punctuation; a number is itself.

    >>> _letters("not_spam") == _letters("Not-Spam") == "not spam"
    True
    """
    if INTEGER.fullmatch(name) or _DECIMAL.fullmatch(name):
        return name
    text = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(_PUNCTUATION.sub(" ", text).split()) or name


def _differ_in_one_letter(one: str, other: str) -> bool:
    """Return whether a letter was replaced, added or swapped with its neighbour in a word of five letters or more.

    >>> _differ_in_one_letter("positive", "postive"), _differ_in_one_letter("class1", "class2")
    (True, False)
    """
    words, others = one.casefold().split(), other.casefold().split()
    changed_words = [pair for pair in zip(words, others, strict=False) if pair[0] != pair[1]]
    if len(words) != len(others) or len(changed_words) != 1:
        return False
    short, long = sorted(changed_words[0], key=len)
    if len(short) < 5 or len(long) - len(short) > 1:
        return False
    start = 0
    while start < len(short) and short[start] == long[start]:
        start += 1
    changed = short[start : start + 1] + long[start : start + 1]
    if any(not letter.isalpha() for letter in changed):
        return False
    swapped = short[start : start + 2] == long[start : start + 2][::-1] and short[start + 2 :] == long[start + 2 :]
    if len(short) == len(long):
        return short[start + 1 :] == long[start + 1 :] or swapped
    return short[start:] == long[start + 1 :]


def check_counts(
    counts: Mapping[str, int], *, rows: int, majority: bool = True, option: str = "labels"
) -> Iterator[Finding]:
    """Yield what is wrong with how many training rows each label has.

    Args:
        counts: Label → how many rows have it.
        rows: How many rows there are.
        majority: Whether to warn if one label has far more rows than another.
        option: The option that lists the labels.
    """
    for name, count in counts.items():
        if count == 0:
            yield label_finding(
                "class-without-rows", "no training row has this label.", value=name, level="error",
                fix=f"Take the label out of the option `{option}`, or add rows with it.",
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
