"""Cross entropy of target tokens, right whatever the number of accumulated batches.

Why not the model's own: T5 and BART return the mean over the tokens of one batch, smoothed nowhere. Accumulated batches
with targets of different lengths would then count their tokens differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from finetune.interfaces import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True)
class TokenCrossEntropy:
    """The sum over a batch's target tokens, by the number of target tokens of the whole step."""

    label_smoothing: float = 0.0
    """Source: Szegedy et al. 2016, section 7; as in ``torch.nn.CrossEntropyLoss``."""

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss of one batch (B, T), as its share of the ``num_items_in_batch`` tokens of the step."""
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]  # (B, T, V)
        total = functional.cross_entropy(
            logits.float().flatten(0, 1),
            labels.flatten(),
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        tokens = labels.ne(IGNORE_INDEX).sum() if num_items_in_batch is None else num_items_in_batch
        share: torch.Tensor = total / (tokens.to(total.device) if isinstance(tokens, torch.Tensor) else tokens)
        return share


def by_row(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross entropy of each row's target tokens, summed, and how many tokens those are: (B,), (B,)."""
    each = functional.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=IGNORE_INDEX, reduction="none"
    )  # (B, T)
    return each.sum(dim=1), labels.ne(IGNORE_INDEX).sum(dim=1)
