"""Features of texts on the disk: float32 rows, found by the key of a text."""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

RowRange = tuple[int, int]
"""First row and end, half-open."""


DIGEST = hashlib.sha256().digest_size
"""Bytes at the end of a file: the SHA-256 of the rows before them."""


class FeatureStore:
    """Stores some rows of numbers for each key, and reads them through a memory map.

    Each key is written once. The file has no name and is deleted when the process ends; `save` copies it to a path.

    Args:
        width: Numbers in a row.
        directory: The folder of the file; it is made if it is missing.
    """

    def __init__(self, width: int, *, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.width = width
        self.directory = directory
        self.ranges: dict[bytes, RowRange] = {}
        self.written = 0
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115, closed by close()
        self._map: Any = np.zeros((0, width), np.float32)
        self._closing = weakref.finalize(self, self._file.close)

    def __contains__(self, key: bytes) -> bool:
        return key in self.ranges

    def put(self, key: bytes, rows: Any) -> None:
        """Write rows (n, width)."""
        self._file.write(np.ascontiguousarray(rows, np.float32).tobytes())
        self.ranges[key] = (self.written, self.written + len(rows))
        self.written += len(rows)

    def get(self, key: bytes) -> Any:
        """Return the rows of a key as a read-only array (n, width)."""
        start, end = self.ranges[key]
        if end > len(self._map):
            self._file.flush()
            self._map = np.memmap(self._file, np.float32, "r", shape=(self.written, self.width))
        return self._map[start:end]

    def save(self, path: Path) -> None:
        """Copy all rows and their digest to a file, atomically: the file is complete, or it is not there."""
        self._file.flush()
        digest = hashlib.sha256()
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as copy:
            self._file.seek(0)
            while block := self._file.read(1 << 24):
                copy.write(block)
                digest.update(block)
            copy.write(digest.digest())
            copy.flush()
            os.fsync(copy.fileno())
        os.replace(copy.name, path)

    def load(self, path: Path, ranges: Mapping[bytes, RowRange]) -> bool:
        """Read the rows from a file that `save` wrote, and say whether the file is there and is as it was written.

        A link, and a file that another user can change, count as a file that is not there.

        Args:
            path: The file.
            ranges: The rows of each key in it.
        """
        rows = 0
        for _, end in ranges.values():
            rows = max(rows, end)
        size = rows * self.width * np.dtype(np.float32).itemsize
        if not rows:
            return False
        try:
            kept = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb")
        except OSError:
            return False
        with kept:  # the memory map has its own descriptor
            if not _is_own(kept) or os.fstat(kept.fileno()).st_size != size + DIGEST or not _is_intact(kept, size):
                return False
            self._map = np.memmap(kept, np.float32, "r", shape=(rows, self.width))
        self.ranges = dict(ranges)
        self.written = rows
        return True

    def close(self) -> None:
        """Release the file."""
        self._map = None
        self._closing()


def _is_own(file: IO[bytes]) -> bool:
    """Return whether a file belongs to this user, and no other user can write it."""
    if os.name == "nt":
        return True
    state = os.fstat(file.fileno())
    return state.st_uid == os.geteuid() and not state.st_mode & 0o022


def _is_intact(file: IO[bytes], size: int) -> bool:
    """Return whether the digest at the end of a file is that of its first bytes."""
    digest, left = hashlib.sha256(), size
    while left and (block := file.read(min(left, 1 << 24))):
        digest.update(block)
        left -= len(block)
    return file.read() == digest.digest()


def consecutive_ranges(keys: Sequence[bytes], lengths: Sequence[int]) -> dict[bytes, RowRange]:
    """Return the rows of each key if the keys are written in order.

    >>> consecutive_ranges([b"a", b"b"], [2, 3])
    {b'a': (0, 2), b'b': (2, 5)}
    """
    ranges: dict[bytes, RowRange] = {}
    start = 0
    for key, length in zip(keys, lengths, strict=True):
        ranges[key] = (start, start + length)
        start += length
    return ranges
