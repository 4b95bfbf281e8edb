"""Nested features → one padded batch, and the loss of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from finetune.kit import MODEL_INPUTS, PadRight, batch_share, logits_of


class PadChoices:
    """A collator that pads every choice of every question to one length: tables of shape (B, C, L), labels (B,)."""

    def __init__(self, pad_one: PadRight) -> None:
        self.pad_one = pad_one

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch; every feature has the same number of choices, which the preprocessor checks."""
        # these columns hold one list for each choice
        nested = [name for name in MODEL_INPUTS if name in features[0]]
        choices = len(features[0]["input_ids"])
        sequences: list[dict[str, Any]] = []
        for feature in features:
            for number in range(choices):
                sequences.append({name: feature[name][number] for name in nested})
        padded = self.pad_one(sequences)  # (B · C, L)
        batch = {name: table.view(len(features), choices, -1) for name, table in padded.items()}
        if "labels" in features[0]:
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
        return batch


def cross_entropy(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Return the cross entropy over the choices, as this batch's share of the ``num_items_in_batch`` questions."""
    logits = logits_of(outputs).float()  # (B, C)
    total = functional.cross_entropy(logits, labels.view(-1), reduction="sum")
    return batch_share(total, labels.numel() if num_items_in_batch is None else num_items_in_batch)
