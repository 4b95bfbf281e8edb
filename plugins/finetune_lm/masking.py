"""Which tokens of a block are masked, and what stands in their place.

A mask is a pure function of the block's tokens, a seed and the epoch: it depends on no batch, order, worker or resumed
run. transformers' own `DataCollatorForLanguageModeling` (5.23) draws from a generator as batches come, so that a
resumed run masks other tokens; and it masks a whole word the more often the more tokens it has, always by the mask
token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

Numbers = Any
"""An array of whole numbers."""


def generator(ids: Sequence[int], *, seed: int, epoch: int) -> np.random.Generator:
    """Return the generator that draws the masks of one block in one epoch."""
    digest = blake2b(np.asarray([seed, epoch, *ids], dtype="<i8").tobytes(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def chosen(groups: Sequence[Numbers], *, probability: float, draw: np.random.Generator) -> Numbers:
    """Return the positions to mask: whole groups, in random order, until the share is reached.

    As many positions as come nearest to the share, and at least one; a group that would pass the mark is left for the
    next. Where every group alone would, the shortest is taken, so that every block teaches something.

    Source: Devlin et al. 2019; Google's ``create_pretraining_data.py`` (``create_masked_lm_predictions``).
    """
    wanted = max(1, round(probability * sum(len(group) for group in groups)))
    taken: list[int] = []
    for number in draw.permutation(len(groups)):
        if len(taken) + len(groups[number]) <= wanted:
            taken.extend(groups[number])
    if not taken and groups:
        shortest: Numbers = min(groups, key=len)
        taken.extend(shortest)
    return np.sort(np.array(taken, dtype=np.int64))


def groups_of(maskable: Numbers, words: Sequence[int] | None) -> list[Numbers]:
    """Return the positions that are masked together: each by itself, or a word's.

    >>> [group.tolist() for group in groups_of(np.array([True, True, False, True]), None)]
    [[0], [1], [3]]
    >>> [group.tolist() for group in groups_of(np.array([True, True, False, True]), [0, 0, -1, 1])]
    [[0, 1], [3]]
    """
    positions = np.flatnonzero(maskable)
    if words is None or not len(positions):
        return list(positions[:, None])
    of = np.asarray(words)[positions]
    return np.split(positions, np.flatnonzero(np.diff(of)) + 1)


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """What stands in the place of a masked token: the mask token, a random one, or itself."""

    mask_replace_prob: float
    random_replace_prob: float
    mask_token_id: int
    ordinary: Numbers
    """Ids of the tokens that are not special, to draw random ones from."""

    def apply(self, ids: Numbers, positions: Numbers, draw: np.random.Generator) -> Numbers:
        """Return a copy of a block's tokens with some replaced; each position is drawn by itself."""
        ids = ids.copy()
        fate = draw.random(len(positions))
        strangers = draw.choice(self.ordinary, size=len(positions))
        random = (fate >= self.mask_replace_prob) & (fate < self.mask_replace_prob + self.random_replace_prob)
        ids[positions[fate < self.mask_replace_prob]] = self.mask_token_id
        ids[positions[random]] = strangers[random]
        return ids
