"""The loss of both kinds of language model, right whatever the number of accumulated batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from finetune.interfaces import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True)
class TokenCrossEntropy:
    """Cross entropy of tokens: the sum over a step's labels, by their number.

    Not the model's own, because some models take the mean of each batch, and a batch without a label (a few short texts
    of unknown words) would give 0 / 0.
    """

    shift: bool
    """Whether the output at a position is for the label of the next one."""

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return a batch's share of the mean over the ``num_items_in_batch`` labels of the step."""
        logits, labels = aligned(logits_of(outputs), labels, shift=self.shift)
        seen = labels != IGNORE_INDEX
        # Chosen first: of a masked model's logits, a seventh is needed in float32.
        total = functional.cross_entropy(logits[seen].float(), labels[seen], reduction="sum")
        items = seen.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        share: torch.Tensor = total / items.to(total.device).clamp(min=1)
        return share


def logits_of(outputs: Any) -> torch.Tensor:
    """Return the logits of a model's outputs, whether it names them or not."""
    logits: torch.Tensor = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
    return logits


def aligned(logits: torch.Tensor, labels: torch.Tensor, *, shift: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (B, T, V) and labels (B, T) so that one position of each belongs to the other's.

    Trained prompts (prompt tuning) put outputs of their own before those of the block; they are left out.
    """
    logits = logits[:, logits.shape[1] - labels.shape[1] :]
    return (logits[:, :-1], labels[:, 1:]) if shift else (logits, labels)
