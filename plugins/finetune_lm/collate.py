"""Blocks → a padded batch with masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from finetune.interfaces import IGNORE_INDEX
from finetune.kit import PadRight
from finetune_lm.masking import Array, Replacement, choose_positions, mask_generator, maskable_groups

FIXED_SEED, FIXED_EPOCH = 0, -1
"""Seed and epoch of the masks that models are compared by: the same in each run, whatever its
seed."""


def shared_zero() -> torch.Tensor:
    """Return a zero in shared memory: worker processes see its changes."""
    zero: Any = torch.zeros((), dtype=torch.int64)
    shared: torch.Tensor = zero.share_memory_()
    return shared


@dataclass(frozen=True, kw_only=True)
class MaskAndPad:
    """A collator that masks a batch of blocks and pads it on the right; the masks change from epoch to epoch."""

    pad: PadRight
    probability: float
    replacement: Replacement
    special: Array
    """Ids of the special tokens, which are never masked; the unknown token is one of them."""
    seed: int = 0
    fixed: bool = False
    """Whether it collates for evaluation: the masks never change, always use the mask token, and
    leave out documents that contain a mask token themselves."""
    epoch: torch.Tensor = field(default_factory=shared_zero)
    """The current epoch; in shared memory, because worker processes may live longer than an
    epoch."""

    def seeded(self, seed: int) -> MaskAndPad:
        """Return a copy that draws other masks and has its own epoch counter."""
        return replace(self, seed=seed, epoch=shared_zero())

    def evaluating(self) -> MaskAndPad:
        """Return a copy whose masks depend on the block alone."""
        always_mask = replace(self.replacement, mask_replace_prob=1.0, random_replace_prob=0.0)
        return replace(self, fixed=True, replacement=always_mask)

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch: ``input_ids`` with masks, ``attention_mask``, ``labels`` of the masked tokens."""
        return self.pad([self.masked(feature) for feature in features])

    def masked(self, feature: Mapping[str, Any]) -> dict[str, Array]:
        """Return one block with its masks, and the labels."""
        ids = np.asarray(feature["input_ids"], dtype=np.int64)
        seed, epoch = (FIXED_SEED, FIXED_EPOCH) if self.fixed else (self.seed, int(self.epoch))
        generator = mask_generator(feature["input_ids"], seed=seed, epoch=epoch)
        groups = maskable_groups(self._maskable(ids, feature["seq_lengths"]), feature.get("word_ids"))
        positions = choose_positions(groups, probability=self.probability, generator=generator)
        labels = np.full_like(ids, IGNORE_INDEX)
        labels[positions] = ids[positions]
        return {"input_ids": self.replacement.apply(ids, positions, generator), "labels": labels}

    def _maskable(self, ids: Array, seq_lengths: Sequence[int]) -> Array:
        """Return which positions may be masked."""
        maskable: Array = ~np.isin(ids, self.special)
        if self.fixed:
            documents = np.repeat(np.arange(len(seq_lengths)), seq_lengths)
            with_gaps = documents[ids == self.replacement.mask_token_id]
            maskable &= ~np.isin(documents, with_gaps)
        return maskable
