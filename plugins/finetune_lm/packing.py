"""Documents laid end to end → blocks, so that no token is lost and none is repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Segment(NamedTuple):
    """A run of one document's tokens, half-open like a slice."""

    document: int
    first_token: int
    end_token: int

    @property
    def size(self) -> int:
        """The number of tokens."""
        return self.end_token - self.first_token


def split_into_blocks(lengths: Sequence[int], *, block_size: int, packing: bool = True) -> list[list[Segment]]:
    """Split documents of the given lengths into blocks of ``block_size`` tokens; the last block may be shorter.

    Together, the segments are every token of every document, once and in order.

    >>> for block in split_into_blocks([3, 6, 2], block_size=4):
    ...     print(*map(tuple, block))
    (0, 0, 3) (1, 0, 1)
    (1, 1, 5)
    (1, 5, 6) (2, 0, 2)

    Without ``packing``, no block holds two documents.

    >>> for block in split_into_blocks([3, 6], block_size=4, packing=False):
    ...     print(*map(tuple, block))
    (0, 0, 3)
    (1, 0, 4)
    (1, 4, 6)
    """
    blocks: list[list[Segment]] = []
    free = 0
    for document, length in enumerate(lengths):
        first = 0
        if not packing:
            free = 0
        while first < length:
            if free == 0:
                blocks.append([])
                free = block_size
            end = min(length, first + free)
            blocks[-1].append(Segment(document, first, end))
            free -= end - first
            first = end
    return blocks
