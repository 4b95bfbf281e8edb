"""Losses for `transformers.Trainer` that are correct for any number of accumulated batches.

Why not the loss of the model: many models return the mean over one batch, but `Trainer` takes it as
a share of the sum over the step, because their ``forward`` accepts any keyword. Four accumulated
batches then give four times the gradient, without a warning. Seen with transformers 5.23
(``Trainer.training_step``, ``loss_is_scaled_for_ga``). If targets differ in length, the mean of the
means of batches also gives a token of a short target more weight than one of a long target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from finetune.interfaces import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True)
class TokenCrossEntropy:
    """Cross entropy of tokens: the sum over the labels of a batch, divided by the number of labels of the step."""

    label_smoothing: float = 0.0
    """Source: Szegedy et al. 2016, section 7; as in ``torch.nn.CrossEntropyLoss``."""
    shift: bool = False
    """Whether the output at a position predicts the label of the next position."""

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the share of a batch in the mean over the ``num_items_in_batch`` labels of the step.

        The loss of a step without labels is 0, not 0 / 0.
        """
        logits, labels = align_logits(logits_of(outputs), labels, shift=self.shift)  # (B, T, V), (B, T)
        seen = labels != IGNORE_INDEX
        # Select before the conversion to float32: a masked language model needs only a seventh of its logits.
        total = functional.cross_entropy(
            logits[seen].float(), labels[seen], reduction="sum", label_smoothing=self.label_smoothing
        )
        return batch_share(total, seen.sum() if num_items_in_batch is None else num_items_in_batch)


def logits_of(outputs: Any) -> torch.Tensor:
    """Return the logits of the outputs of a model: a mapping or a tuple."""
    logits: torch.Tensor = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
    return logits


def align_logits(logits: torch.Tensor, labels: torch.Tensor, *, shift: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (B, T, V) and labels (B, T) with matching positions.

    Prompt tuning adds outputs for its virtual tokens before those of the text; they are left out.

    Args:
        logits: Outputs of the model, (B, T or more, V).
        labels: Labels of the text, (B, T).
        shift: Whether the output at a position predicts the label of the next position.
    """
    logits = logits[:, logits.shape[1] - labels.shape[1] :]
    return (logits[:, :-1], labels[:, 1:]) if shift else (logits, labels)


def batch_share(total: torch.Tensor, items: Any) -> torch.Tensor:
    """Return the share of a batch in the mean over a step.

    Args:
        total: Sum of the losses of the batch.
        items: Number of items of the step.
    """
    part: torch.Tensor = total / torch.as_tensor(items, device=total.device).clamp(min=1)
    return part
