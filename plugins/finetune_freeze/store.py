"""Rows of float32 on the disk, found by a key: what a text's tokens became."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np


class Store:
    """Keeps some rows of numbers for each key, and reads them through a memory map.

    Values are written once. The file has no name of its own, and vanishes with the process, unless `keep` gives it one.
    """

    def __init__(self, width: int, *, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.width = width
        self.directory = directory
        self.places: dict[bytes, tuple[int, int]] = {}
        self.written = 0
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115, closed by close()
        self._map: Any = np.zeros((0, width), np.float32)
        self._closing = weakref.finalize(self, self._file.close)

    def __contains__(self, key: bytes) -> bool:
        return key in self.places

    def put(self, key: bytes, rows: Any) -> None:
        """Write rows (n, width)."""
        self._file.write(np.ascontiguousarray(rows, np.float32).tobytes())
        self.places[key] = (self.written, self.written + len(rows))
        self.written += len(rows)

    def get(self, key: bytes) -> Any:
        """Return the rows of a key, as an array that is read only."""
        start, stop = self.places[key]
        if stop > len(self._map):
            self._file.flush()
            self._map = np.memmap(self._file, np.float32, "r", shape=(self.written, self.width))
        return self._map[start:stop]

    def keep(self, path: Path) -> None:
        """Copy everything to a file: whole, or not at all."""
        self._file.flush()
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as copy:
            self._file.seek(0)
            while part := self._file.read(1 << 24):
                copy.write(part)
            copy.flush()
            os.fsync(copy.fileno())
        os.replace(copy.name, path)

    def adopt(self, path: Path, places: Mapping[bytes, tuple[int, int]]) -> bool:
        """Read rows from a file that `keep` wrote instead; say whether it has the right size."""
        rows = max((stop for _, stop in places.values()), default=0)
        if not path.is_file() or path.stat().st_size != rows * self.width * 4 or not rows:
            return False
        self.places, self.written = dict(places), rows
        self._map = np.memmap(path, np.float32, "r", shape=(rows, self.width))
        return True

    def close(self) -> None:
        """Let the file go."""
        self._map = None
        self._closing()


def laid_out(keys: Sequence[bytes], lengths: Sequence[int]) -> dict[bytes, tuple[int, int]]:
    """Return where the rows of each key stand when they are written in order.

    >>> laid_out([b"a", b"b"], [2, 3])
    {b'a': (0, 2), b'b': (2, 5)}
    """
    places, start = {}, 0
    for key, length in zip(keys, lengths, strict=True):
        places[key] = (start, start + length)
        start += length
    return places
