"""Where each row of a split is in the user's data: its file, line, row, and id."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from finetune.data.fingerprints import content
from finetune.data.splits import Split
from finetune.data.table import StoredPlaces

Place = dict[str, Any]

ID = "id"
"""The column whose value becomes part of a place."""


@dataclass(frozen=True, kw_only=True)
class Places(Sequence[Place]):
    """The places of the rows of a split, in order; small enough to be sent to another process.

    A place has those of these keys that are known: ``file``, ``line`` (from 1), ``row`` (the position in the file, from
    0, or in the split if there is no file), ``path`` (if rows share lines), ``split`` (if there is no file) and ``id``.
    """

    files: tuple[str, ...]
    sizes: tuple[int, ...]
    """Number of rows of each file, if `stored` is None."""
    stored: StoredPlaces | None
    """The place of each row of the table; None if it is the position of the row."""
    positions: np.ndarray[Any, Any] | None
    """Positions of the rows in the table; None for all."""
    size: int
    split: str
    """The split of the data that the rows come from."""
    ids: Dataset | None
    """The ids of all rows of the table; None without them."""

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return self[index : index + 1][0] if index >= 0 else self[index + self.size : index + self.size + 1][0]
        positions = np.arange(self.size)[index] if self.positions is None else self.positions[index]
        found = self._stored(positions) if self.stored is not None else self._counted(positions)
        if self.ids is not None and len(positions):
            for place, name in zip(found, self.ids[positions.tolist()][ID], strict=True):
                if name is not None:
                    place[ID] = name
        return found

    def renamed(self, names: Mapping[str, str]) -> Places:
        """Return the places with other names of files."""
        return replace(self, files=tuple(names.get(file, file) for file in self.files))

    def content(self) -> Iterator[bytes]:
        """Yield bytes that differ if a place, other than by its id, differs."""
        yield repr((self.files, self.sizes, self.size, self.split)).encode()
        if self.positions is not None:
            yield self.positions.astype("<i8").tobytes()
        if self.stored is not None:
            for batch in self.stored.table.to_batches():
                for column in batch.columns:
                    yield from content(column)

    def _stored(self, positions: Any) -> list[Place]:
        assert self.stored is not None
        found = []
        for row in self.stored.table.take(pa.array(positions)).to_pylist():
            file = None if row["file"] is None else self.files[row["file"]]
            found.append(self._place(file, row["row"], line=row["line"], path=row["path"]))
        return found

    def _counted(self, positions: Any) -> list[Place]:
        starts = np.cumsum([0, *self.sizes])
        found = []
        for position in positions.tolist():
            file = int(np.searchsorted(starts, position, side="right")) - 1
            if self.files:
                found.append(self._place(self.files[file], position - int(starts[file])))
            else:
                found.append(self._place(None, position))
        return found

    def _place(self, file: str | None, row: int, *, line: int | None = None, path: str | None = None) -> Place:
        place: Place = {"split": self.split} if file is None else {"file": file}
        known = {"line": line, "row": row, "path": path}
        return place | {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class JoinedPlaces(Sequence[Place]):
    """The places of the rows of several data sets, one after the other; each has the name of its data set."""

    parts: Mapping[str, Places | JoinedPlaces]

    def renamed(self, names: Mapping[str, str]) -> JoinedPlaces:
        """Return the places with other names of files."""
        return JoinedPlaces(parts={name: part.renamed(names) for name, part in self.parts.items()})

    def content(self) -> Iterator[bytes]:
        """Yield bytes that differ if a place differs."""
        for name, part in self.parts.items():
            yield name.encode()
            yield from part.content()

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        place = range(len(self))[index]
        ends = list(accumulate(map(len, self.parts.values())))
        number = bisect_right(ends, place)
        name = list(self.parts)[number]
        return {"dataset": name, **self.parts[name][place - (ends[number - 1] if number else 0)]}


def places_of(split: Split, role: str) -> Places:
    """Return the places of the rows of a split.

    Args:
        split: The rows.
        role: Its name. Rows that were split off from train keep their places there.
    """
    whole = len(split.index) == len(split.columns)
    has_ids = ID in split.columns.column_names and not _is_nested(split.columns.features[ID])
    return Places(
        files=split.table.files,
        sizes=split.table.sizes,
        stored=split.table.places,
        positions=None if whole else split.index,
        size=len(split.index),
        split="train" if split.from_train else role,
        ids=split.columns.select_columns([ID]) if has_ids else None,
    )


def _is_nested(feature: Any) -> bool:
    return getattr(feature, "pa_type", None) is None or pa.types.is_nested(feature.pa_type)
