"""Which tokens of a block are masked, and what replaces them.

A mask is a pure function of the block's tokens, a seed and the epoch. It does not depend on the
batch, the order, the worker or whether a run was resumed. transformers' own
`DataCollatorForLanguageModeling` (5.23) draws from a generator as batches come, so a resumed run
masks other tokens. It also masks a whole word more often if it has more tokens, and always by the
mask token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def mask_generator(ids: Sequence[int], *, seed: int, epoch: int) -> np.random.Generator:
    """Return the generator that draws the masks of one block in one epoch."""
    digest = blake2b(np.asarray([seed, epoch, *ids], dtype="<i8").tobytes(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def choose_positions(groups: Sequence[Array], *, probability: float, generator: np.random.Generator) -> Array:
    """Return the positions to mask: whole groups, in random order, until the share is reached.

    As many positions as come nearest to the share, and at least one. A group that would exceed the
    share is skipped. If each group alone exceeds it, the shortest is taken, so that every block
    teaches something.

    Source: Devlin et al. 2019; Google's ``create_pretraining_data.py``
        (``create_masked_lm_predictions``).
    """
    maskable = sum(len(group) for group in groups)
    wanted = max(1, round(probability * maskable))
    chosen: list[int] = []
    for number in generator.permutation(len(groups)):
        if len(chosen) + len(groups[number]) <= wanted:
            chosen.extend(groups[number])
    if not chosen and groups:
        shortest: Array = min(groups, key=len)
        chosen.extend(shortest.tolist())
    return np.sort(np.array(chosen, dtype=np.int64))


def maskable_groups(maskable: Array, words: Sequence[int] | None) -> list[Array]:
    """Return the positions that are masked together: each alone, or all positions of a word.

    >>> [group.tolist() for group in maskable_groups(np.array([True, True, False, True]), None)]
    [[0], [1], [3]]
    >>> [group.tolist() for group in maskable_groups(np.array([True, True, False, True]), [0, 0, -1, 1])]
    [[0, 1], [3]]
    """
    positions = np.flatnonzero(maskable)
    if words is None or not len(positions):
        return list(positions[:, None])
    word_of_position = np.asarray(words)[positions]
    word_starts = np.flatnonzero(np.diff(word_of_position)) + 1
    return np.split(positions, word_starts)


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """What replaces a masked token: the mask token, a random one, or the token itself."""

    mask_replace_prob: float
    random_replace_prob: float
    mask_token_id: int
    ordinary: Array
    """Ids of the tokens that are not special, to draw random ones from."""

    def apply(self, ids: Array, positions: Array, generator: np.random.Generator) -> Array:
        """Return a copy of a block's tokens with some replaced; each position is drawn independently."""
        ids = ids.copy()
        draws = generator.random(len(positions))
        random_ids = generator.choice(self.ordinary, size=len(positions))
        by_mask = draws < self.mask_replace_prob
        by_random = ~by_mask & (draws < self.mask_replace_prob + self.random_replace_prob)
        ids[positions[by_mask]] = self.mask_token_id
        ids[positions[by_random]] = random_ids[by_random]
        return ids
