"""Losses for `transformers.Trainer`, right whatever the number of accumulated batches.

Why not the model's own: many return the mean over one batch, and `Trainer` takes it for a share of the step's sum
because their ``forward`` accepts any keyword. Four accumulated batches then give four times the gradient, and no
warning. Seen with transformers 5.23 (``Trainer.training_step``, ``loss_is_scaled_for_ga``). And where targets differ in
length, the mean of the batches' means weighs a token of a short one more than one of a long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from finetune.interfaces import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True)
class TokenCrossEntropy:
    """Cross entropy of tokens: the sum over a batch's labels, by the number of labels of the whole step."""

    label_smoothing: float = 0.0
    """Source: Szegedy et al. 2016, section 7; as in ``torch.nn.CrossEntropyLoss``."""
    shift: bool = False
    """Whether the output at a position is for the label of the next one."""

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return a batch's share of the mean over the ``num_items_in_batch`` labels of the step.

        A step without a label has the loss 0, not 0 / 0.
        """
        logits, labels = align_logits(logits_of(outputs), labels, shift=self.shift)  # (B, T, V), (B, T)
        seen = labels != IGNORE_INDEX
        # Chosen first: of a masked model's logits, a seventh is needed in float32.
        total = functional.cross_entropy(
            logits[seen].float(), labels[seen], reduction="sum", label_smoothing=self.label_smoothing
        )
        return batch_share(total, seen.sum() if num_items_in_batch is None else num_items_in_batch)


def logits_of(outputs: Any) -> torch.Tensor:
    """Return the logits of a model's outputs, whether it names them or not."""
    logits: torch.Tensor = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
    return logits


def align_logits(logits: torch.Tensor, labels: torch.Tensor, *, shift: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (B, T, V) and labels (B, T) so that one position of each belongs to the other's.

    Trained prompts (prompt tuning) put outputs of their own before those of the text; they are left out.
    """
    logits = logits[:, logits.shape[1] - labels.shape[1] :]
    return (logits[:, :-1], labels[:, 1:]) if shift else (logits, labels)


def batch_share(total: torch.Tensor, items: Any) -> torch.Tensor:
    """Return a batch's sum of losses as its share of the mean over a step of so many items."""
    part: torch.Tensor = total / torch.as_tensor(items, device=total.device).clamp(min=1)
    return part
