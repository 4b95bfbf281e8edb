"""Losses for `transformers.Trainer`, right whatever the number of accumulated batches.

Why not the model's own: heads such as `BertForSequenceClassification` return a mean, and `Trainer` takes it for a
share of the step's sum because their ``forward`` accepts any keyword. Four accumulated batches then give four times
the gradient, and no warning. Seen with transformers 5.23 (``Trainer.training_step``, ``loss_is_scaled_for_ga``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from finetune.errors import Incompatible
from finetune.interfaces import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Cross entropy of one label each: the weighted sum over the examples, by their number.

    The weights average 1 over the training rows, so that the sum over all of them, by their number, is exactly
    ``torch.nn.CrossEntropyLoss(weight=…)``. That loss divides each batch by the weights that happen to be in it, which
    accumulated batches cannot know of each other.
    """

    weights: tuple[float, ...] | None = None
    """Weight of each label, in order of id."""
    label_smoothing: float = 0.0

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss of one batch, as its share of the ``num_items_in_batch`` examples of the step."""
        logits = logits_of(outputs).float()
        weights = None if self.weights is None else torch.tensor(self.weights, device=logits.device)
        total = functional.cross_entropy(
            logits, labels.view(-1), weight=weights, reduction="sum", label_smoothing=self.label_smoothing
        )
        return _share(total, num_items_in_batch, labels)


@dataclass(frozen=True, kw_only=True)
class TokenCrossEntropy:
    """Cross entropy of every labelled token: the mean over the labelled tokens of the step.

    The mean of each batch's mean would weigh a word of a short sentence more than one of a long.
    """

    label_smoothing: float = 0.0

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss of one batch, as its share of the ``num_items_in_batch`` labelled tokens of the step.

        Raises:
            Incompatible: The model gives logits for more tokens than it got, as with virtual ones.
        """
        logits = logits_of(outputs).float()  # (B, T, L)
        if logits.shape[:2] != labels.shape:
            raise Incompatible(
                f"the model gives logits for {logits.shape[1]} tokens where it got {labels.shape[1]}: virtual tokens "
                "(prompt tuning, P-tuning) shift the tags. Use another strategy, such as lora."
            )
        total = functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="sum",
            label_smoothing=self.label_smoothing,
        )  # fmt: skip
        if num_items_in_batch is None:
            num_items_in_batch = (labels != IGNORE_INDEX).sum()
        items = torch.as_tensor(num_items_in_batch, device=total.device)
        share: torch.Tensor = total / items.clamp(min=1)  # a step may hold no labelled token: its loss is 0, not NaN
        return share


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Binary cross entropy of every label of every example: the mean over both."""

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss of one batch; ``num_items_in_batch`` counts labels, not examples."""
        logits = logits_of(outputs).float()
        total = functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum")
        return _share(total, num_items_in_batch, labels)


@dataclass(frozen=True)
class SquaredError:
    """Squared error of one number each: the mean over the examples."""

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss of one batch, as its share of the step."""
        numbers = logits_of(outputs).float().view(-1)
        total = functional.mse_loss(numbers, labels.float().view(-1), reduction="sum")
        return _share(total, num_items_in_batch, labels)


def logits_of(outputs: Any) -> torch.Tensor:
    """Return the logits of a model's outputs, whether it names them or not."""
    logits: torch.Tensor = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
    return logits


def _share(total: torch.Tensor, num_items_in_batch: Any, labels: torch.Tensor) -> torch.Tensor:
    """Return a batch's sum of losses as its share of the mean over the step, or its own mean where no step is told."""
    if num_items_in_batch is None:
        return total / labels.numel()
    if isinstance(num_items_in_batch, torch.Tensor):
        num_items_in_batch = num_items_in_batch.to(total.device)
    share: torch.Tensor = total / num_items_in_batch
    return share
