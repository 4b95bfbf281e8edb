"""Cross entropy of target tokens, row by row: what held-out targets are scored by."""

from __future__ import annotations

import torch
from torch.nn import functional

from finetune.interfaces import IGNORE_INDEX


def by_row(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross entropy of each row's target tokens, summed, and how many tokens those are: (B,), (B,)."""
    each = functional.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=IGNORE_INDEX, reduction="none"
    )  # (B, T)
    return each.sum(dim=1), labels.ne(IGNORE_INDEX).sum(dim=1)
