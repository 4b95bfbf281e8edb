"""Which rows a random split or a limit takes: labels spread evenly, and rows that belong together on one side.

Each label keeps a row on the side that stays, so that no split has a label which train lacks.

Source: Sechidis et al. 2011, "On the Stratification of Multi-Label Data", whose rule gives each label its share, the
rarest first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from finetune.data import leaks
from finetune.interfaces import Preprocessor

if TYPE_CHECKING:
    from finetune.data.splits import Split

MOST_ROWS = 20_000
"""Near duplicates are kept together if train has at most this many rows; equal texts always are."""
MOST_CHARACTERS = 20_000_000
"""Nor are they searched in more text than this."""

Array = np.ndarray[Any, Any]
Labels = Sequence[tuple[Hashable, ...]]
"""The labels of each row."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Rows that are taken, and the labels of which none could be taken."""

    mask: Array
    """For each row, whether it is taken."""
    only_left: Sequence[Hashable]
    """Labels that occur only among the rows that are not taken, in order of their first row."""


def has_labels(preprocessor: Preprocessor) -> bool:
    """Return whether a preprocessor names the labels of an example."""
    return type(preprocessor).strata is not Preprocessor.strata


def labels_of(split: Split, preprocessor: Preprocessor) -> Labels | None:
    """Return the labels of each row; None if the preprocessor names none, or a column of the answers is missing."""
    names = preprocessor.needs().answers
    if not has_labels(preprocessor) or not names or any(name not in split.columns.column_names for name in names):
        return None
    found: list[tuple[Hashable, ...]] = []
    for block in split.blocks(names):
        if len(names) == 1 and _is_plain(block.column(names[0]).type):
            found.extend(_by_value(block.column(names[0]), names[0], preprocessor))
        else:
            found.extend(tuple(preprocessor.strata(row)) for row in block.to_pylist())
    return found


def _is_plain(kind: pa.DataType) -> bool:
    return not pa.types.is_nested(kind) and not pa.types.is_dictionary(kind)


def _by_value(column: Any, name: str, preprocessor: Preprocessor) -> Iterator[tuple[Hashable, ...]]:
    """Yield the labels of each row of a column; each value is looked at once."""
    known: dict[Any, tuple[Hashable, ...]] = {}
    for value in column.to_pylist():
        if value not in known:
            known[value] = tuple(preprocessor.strata({name: value}))
        yield known[value]


def units_of(split: Split, preprocessor: Preprocessor, *, largest: int) -> Array:
    """Return the number of each row's unit: rows that stay together, numbered in order of first appearance.

    A unit is a group, if the task names one, or the rows with the same text. Texts that differ only by case and
    punctuation, and near duplicates, belong together too. A crowd of more than `largest` rows is boilerplate, not
    duplicates, and only its equal texts stay together.

    Args:
        split: The rows.
        preprocessor: Names the columns to compare.
        largest: Most rows that near duplicates can have together.
    """
    needs = preprocessor.needs()
    names = [needs.group] if needs.group else list(needs.required)
    names = [name for name in names if name in split.columns.column_names]
    if not names:
        return np.arange(len(split.index))
    hashes = np.empty(len(split.index), dtype=np.int64)  # the texts of a large file do not fit into memory
    texts: list[str] | None = []
    row = characters = 0
    for block in split.blocks(names):
        for text in leaks.joined(block, names):
            plain = leaks.normalized(text)
            if not plain.replace("null", "").strip():  # rows without a text are bad, not equal
                plain = f"{plain} {row}"
            hashes[row] = hash(plain)
            row += 1
            if texts is not None:
                texts.append(plain)
                characters += len(plain)
        if row > MOST_ROWS or characters > MOST_CHARACTERS:
            texts = None
    units, first = _numbered(hashes)
    if texts is None:
        return units
    return _joined_units(units, leaks.clusters([texts[row] for row in first.tolist()]), largest=largest)


def _numbered(values: Array) -> tuple[Array, Array]:
    """Return the number of each value, counted by first appearance, and where each number appears first."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    places = np.argsort(first, kind="stable")
    order = np.empty(len(first), dtype=np.int64)
    order[places] = np.arange(len(first))
    return order[inverse], first[places]


def _joined_units(units: Array, clusters: Array, *, largest: int) -> Array:
    """Return units of which those in one cluster are joined, unless they have too many rows together."""
    sizes = np.bincount(clusters[units], minlength=len(clusters))
    joined = np.where(sizes[clusters] <= largest, clusters, np.arange(len(clusters)))[units]
    numbers, _ = _numbered(joined)
    return numbers


def choose(labels: Labels, units: Array, count: int, *, seed: int) -> Chosen:
    """Return about `count` rows that have each label in its share, and leave a row of each label.

    There are more than `count` only if no unit fits: then the smallest one is taken, if it leaves more than half of the
    rows. There are fewer only if whole units do not fit, or the labels of all others would have no row left.

    Args:
        labels: The labels of each row; none for a row without a sound label.
        units: The number of each row's unit, which is taken whole.
        count: Rows to take.
        seed: Seed of the draw.
    """
    rows = len(units)
    number = int(units.max(initial=-1)) + 1
    sizes = np.bincount(units, minlength=number).tolist()
    of_unit: list[dict[Hashable, int]] = [{} for _ in range(number)]  # a Counter for each unit takes twice the time
    for unit, names in zip(units.tolist(), labels, strict=True):
        own = of_unit[unit]
        for name in dict.fromkeys(names):
            own[name] = own.get(name, 0) + 1
    total: Counter[Hashable] = Counter()
    left: Counter[Hashable] = Counter()
    for own in of_unit:
        for name, times in own.items():
            total[name] += times
            left[name] += 1
    draw = _Draw(
        sizes=sizes,
        of_unit=of_unit,
        left=left,
        wanted={name: times * count / max(rows, 1) for name, times in total.items()},
        room=count,
    )
    random = np.random.Generator(np.random.PCG64(seed))
    order: list[int] = random.permutation(number).tolist()
    # the rarest label of each unit decides, and the rarest come first
    rarest = [min(own, key=lambda name: total[name], default=None) for own in of_unit]
    order.sort(key=lambda unit: total[rarest[unit]] if of_unit[unit] else rows + 1)
    draw.take(order, lambda unit: draw.wanted.get(rarest[unit], 0) >= 1 - 1e-9)
    order.sort(key=lambda unit: -draw.wanted.get(rarest[unit], 0))
    draw.take(order, lambda unit: not of_unit[unit] or draw.wanted[rarest[unit]] > 0)
    draw.take(order, lambda unit: True)
    if not draw.taken and count:
        draw.room = (rows - 1) // 2
        for unit in sorted(order, key=sizes.__getitem__):
            draw.take([unit], lambda unit: True)
            if draw.taken:
                break
    mask = np.isin(units, sorted(draw.taken))
    held = {name for unit in draw.taken for name in of_unit[unit]}
    return Chosen(mask=mask, only_left=[name for name in total if name not in held])


@dataclass(kw_only=True)
class _Draw:
    """Units that are taken one by one while there is room."""

    sizes: Sequence[int]
    of_unit: Sequence[Mapping[Hashable, int]]
    left: Counter[Hashable]
    """Label → units with it that are not taken."""
    wanted: dict[Hashable, float]
    """Label → rows with it that are still wanted."""
    room: int

    def __post_init__(self) -> None:
        self.taken: set[int] = set()

    def take(self, units: Iterable[int], is_wanted: Callable[[int], bool]) -> None:
        """Take the units that are wanted, fit, and are not the last of a label."""
        for unit in units:
            if unit in self.taken or self.sizes[unit] > self.room or not is_wanted(unit):
                continue
            own = self.of_unit[unit]
            if any(self.left[name] < 2 for name in own):
                continue
            self.taken.add(unit)
            self.room -= self.sizes[unit]
            for name, times in own.items():
                self.left[name] -= 1
                self.wanted[name] -= times


def keep(labels: Labels, most: int, *, seed: int) -> Array:
    """Return a mask of exactly `most` rows to keep, which have each label in its share, and at least one row of each.

    If there are more labels than rows to keep, the most frequent labels are kept.

    Args:
        labels: The labels of each row.
        most: Rows to keep.
        seed: Seed of the draw.
    """
    rows = len(labels)
    mask = ~choose(labels, np.arange(rows), rows - most, seed=seed).mask
    excess = int(mask.sum()) - most
    if excess > 0:  # each row that is left has a label of its own
        counts = Counter(name for names in labels for name in names)
        kept = np.flatnonzero(mask).tolist()
        kept.sort(key=lambda row: min((counts[name] for name in labels[row]), default=0))
        mask[kept[:excess]] = False
    return mask


def rows_without(labels: Labels, known: set[Hashable], before: set[Hashable]) -> Array:
    """Return a mask of the rows whose labels are all known, or were never in train, which the checks report.

    Args:
        labels: The labels of each row of a held-out split.
        known: Labels of train after a limit.
        before: Labels of train before it.
    """
    return np.array([all(name in known or name not in before for name in names) for names in labels], dtype=bool)


def listed_labels(names: Sequence[Hashable], most: int = 5) -> str:
    """Return the first labels as a message shows them.

    >>> listed_labels(["fog", "hail"]), listed_labels(list("abcdefg"))
    ("'fog' and 'hail'", "'a', 'b', 'c', 'd', 'e' and 2 more")
    """
    shown = [repr(name) for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def nested(
    examples: Iterable[Mapping[str, Any]], preprocessor: Preprocessor, sizes: Sequence[int], *, seed: int
) -> Any:
    """Return the places of the rows of several random subsets, each of which contains the smaller ones.

    Labels keep their shares in each subset, as far as rows can be divided, and each keeps at least one row if there are
    enough rows.

    Args:
        examples: All rows.
        preprocessor: Names the labels of a row, if the task has labels.
        sizes: Number of rows of each subset.
        seed: Seed of the draw.

    Returns:
        Size → the places of its rows, in ascending order.
    """
    rows = list(examples)
    labels = [tuple(preprocessor.strata(row)) for row in rows] if has_labels(preprocessor) else None
    random = np.random.Generator(np.random.PCG64(seed))
    kept = np.arange(len(rows))
    found: dict[int, Array] = {}
    for size in sorted(sizes, reverse=True):
        if size < len(kept) and labels is not None:
            kept = kept[keep([labels[row] for row in kept.tolist()], size, seed=int(random.integers(2**31)))]
        elif size < len(kept):
            kept = np.sort(random.choice(kept, size=size, replace=False))
        found[size] = kept
    return found
