"""The entries of `dropped.jsonl` on the disk, for a data set whose bad rows may not fit into memory."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.data import storage


class DroppedRows(Sequence[Mapping[str, Any]]):
    """A list of entries that is kept in a temporary file."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._size = 0

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry."""
        self.extend([entry])

    def extend(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Add entries."""
        if self._path is None:
            self._path = storage.folder() / "dropped.pickle"
        with self._path.open("ab") as file:
            for entry in entries:
                pickle.dump(dict(entry), file)
                self._size += 1

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        if self._path is None:
            return
        with self._path.open("rb") as file:
            for _ in range(self._size):
                yield pickle.load(file)  # written above, into a folder that only this user can read

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return list(self)[index]
        place = range(self._size)[index]
        return next(entry for number, entry in enumerate(self) if number == place)
