"""The rows of a split as Python mappings, read block by block.

A `datasets.Dataset` makes each row of its own slice of the table, which takes 100 µs and more, and twice that if only
some rows of the table are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datasets import ClassLabel, Dataset, LargeList, List, Value

from finetune.data.splits import Split
from finetune.interfaces import Row


class Rows(Sequence[Row]):
    """The rows of a split, in order."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self._dataset: Dataset = split.rows

    @property
    def features(self) -> Any:
        """The types of the columns, as `datasets` describes them; those of `datasets.ClassLabel` have names."""
        return self._dataset.features

    @property
    def column_names(self) -> list[str]:
        """The names of the columns."""
        names: list[str] = self._dataset.column_names
        return names

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, place: Any) -> Any:
        return self._dataset[place]

    def __iter__(self) -> Iterator[Row]:
        if not all(is_plain(feature) for feature in self.features.values()):
            yield from self._dataset
            return
        names = self.column_names
        for block in self._split.blocks():
            columns = [block.column(name).to_pylist() for name in names]
            for values in zip(*columns, strict=True):
                yield dict(zip(names, values, strict=True))


def is_plain(feature: Any) -> bool:
    """Return whether Arrow's own Python values are those of a type; `datasets` decodes others, such as images."""
    if isinstance(feature, Mapping):
        return all(map(is_plain, feature.values()))
    if isinstance(feature, List | LargeList):
        return is_plain(feature.feature)
    return isinstance(feature, Value | ClassLabel)
