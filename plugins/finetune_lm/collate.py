"""Blocks → a padded batch, with masks where they are wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from finetune.interfaces import IGNORE_INDEX
from finetune_lm.masking import Numbers, Replacement, chosen, generator, groups_of

FIXED_SEED, FIXED_EPOCH = 0, -1
"""Of the masks by which models are compared: the same in every run, whatever its seed."""


@dataclass(frozen=True, kw_only=True)
class PadRight:
    """Pads a batch of blocks on the right.

    Labels are padded by length and not by token: where the padding token is EOS as well (GPT-2), EOS is still learned.
    The evaluator counts positions from the left, so that the side must not depend on the tokenizer.
    """

    pad_token_id: int

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch: ``input_ids``, ``attention_mask``, ``labels``."""
        width = max(len(feature["input_ids"]) for feature in features)
        fill = {"input_ids": self.pad_token_id, "attention_mask": 0, "labels": IGNORE_INDEX}
        tables = {name: np.full((len(features), width), padding, np.int64) for name, padding in fill.items()}
        for row, feature in enumerate(features):
            length = len(feature["input_ids"])
            tables["input_ids"][row, :length] = feature["input_ids"]
            tables["attention_mask"][row, :length] = 1
            tables["labels"][row, :length] = feature["labels"]
        return {name: torch.from_numpy(table) for name, table in tables.items()}


def shared_zero() -> torch.Tensor:
    """Return a zero that worker processes see change."""
    zero: Any = torch.zeros((), dtype=torch.int64)
    zero.share_memory_()
    number: torch.Tensor = zero
    return number


@dataclass(frozen=True, kw_only=True)
class MaskAndPad:
    """Masks a batch of blocks and pads it on the right; the masks change from epoch to epoch."""

    pad: PadRight
    probability: float
    replacement: Replacement
    special: Numbers
    """Ids of the special tokens, which are never masked; the unknown one is among them."""
    seed: int = 0
    fixed: bool = False
    """Whether to evaluate: one mask for good, always by the mask token, and none in a document that has its own."""
    epoch: torch.Tensor = field(default_factory=shared_zero)
    """Which epoch it is; shared with worker processes that outlive one."""

    def seeded(self, seed: int) -> MaskAndPad:
        """Return one that draws other masks, and counts its own epochs."""
        return replace(self, seed=seed, epoch=shared_zero())

    def evaluating(self) -> MaskAndPad:
        """Return one whose masks depend on the block alone."""
        return replace(
            self, fixed=True, replacement=replace(self.replacement, mask_replace_prob=1.0, random_replace_prob=0.0)
        )

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch: ``input_ids`` with masks, ``attention_mask``, ``labels`` of the masked tokens."""
        return self.pad([self.masked(feature) for feature in features])

    def masked(self, feature: Mapping[str, Any]) -> dict[str, Numbers]:
        """Return one block with its masks, and the labels."""
        ids = np.asarray(feature["input_ids"], dtype=np.int64)
        seed, epoch = (FIXED_SEED, FIXED_EPOCH) if self.fixed else (self.seed, int(self.epoch))
        draw = generator(feature["input_ids"], seed=seed, epoch=epoch)
        groups = groups_of(self._maskable(ids, feature["pieces"]), feature.get("words"))
        positions = chosen(groups, probability=self.probability, draw=draw)
        labels = np.full_like(ids, IGNORE_INDEX)
        labels[positions] = ids[positions]
        return {"input_ids": self.replacement.apply(ids, positions, draw), "labels": labels}

    def _maskable(self, ids: Numbers, pieces: Sequence[int]) -> Numbers:
        maskable = ~np.isin(ids, self.special)
        if self.fixed:
            documents = np.repeat(np.arange(len(pieces)), pieces)
            gaps = documents[ids == self.replacement.mask_token_id]
            maskable &= ~np.isin(documents, gaps)
        return maskable
