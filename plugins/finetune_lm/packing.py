"""Documents laid end to end → blocks: where each is cut, so that no token is lost and none comes twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Piece(NamedTuple):
    """A run of one document's tokens, half-open as a slice is."""

    document: int
    first_token: int
    end_token: int


def cut(lengths: Sequence[int], *, room: int, packing: bool = True) -> list[list[Piece]]:
    """Cut documents into blocks of ``room`` tokens; what is left at the end makes a shorter one.

    Together, the pieces are every token of every document, once and in order.

    >>> [[tuple(piece) for piece in block] for block in cut([3, 6, 2], room=4)]
    [[(0, 0, 3), (1, 0, 1)], [(1, 1, 5)], [(1, 5, 6), (2, 0, 2)]]

    Without ``packing`` no block holds two documents.

    >>> [[tuple(piece) for piece in block] for block in cut([3, 6], room=4, packing=False)]
    [[(0, 0, 3)], [(1, 0, 4)], [(1, 4, 6)]]
    """
    blocks: list[list[Piece]] = []
    free = 0
    for document, length in enumerate(lengths):
        first = 0
        if not packing:
            free = 0
        while first < length:
            if free == 0:
                blocks.append([])
                free = room
            end = min(length, first + free)
            blocks[-1].append(Piece(document, first, end))
            free -= end - first
            first = end
    return blocks
