"""The entries of `dropped.jsonl` on the disk, for a data set whose bad rows may not fit into memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.data import storage
from finetune.result import to_json


class DroppedRows(Sequence[Mapping[str, Any]]):
    """A list of entries that is kept in a temporary file, as `dropped.jsonl` holds them."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._size = 0

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry."""
        self.extend([entry])

    def extend(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Add entries."""
        if self._path is None:
            self._path = storage.folder() / "dropped.jsonl"
        with self._path.open("a", encoding="utf-8", errors="surrogatepass") as file:
            for entry in entries:
                file.write(f"{to_json(entry, default=str)}\n")
                self._size += 1

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        if self._path is None:
            return
        with self._path.open(encoding="utf-8", errors="surrogatepass", newline="\n") as file:
            yield from map(json.loads, file)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return list(self)[index]
        place = range(self._size)[index]
        return next(entry for number, entry in enumerate(self) if number == place)
