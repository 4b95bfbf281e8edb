"""Losses of classifiers, right whatever the number of accumulated batches; `finetune.training.losses` says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from finetune.errors import Incompatible
from finetune.kit import TokenCrossEntropy, batch_share, logits_of


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
        """Return the loss of one batch, as its batch_share of the ``num_items_in_batch`` examples of the step."""
        logits = logits_of(outputs).float()
        weights = None if self.weights is None else torch.tensor(self.weights, device=logits.device)
        total = functional.cross_entropy(
            logits, labels.view(-1), weight=weights, reduction="sum", label_smoothing=self.label_smoothing
        )
        return _share(total, num_items_in_batch, labels)


@dataclass(frozen=True, kw_only=True)
class TagCrossEntropy(TokenCrossEntropy):
    """Cross entropy of every labelled token: the mean over the labelled tokens of the step."""

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss of one batch, as its batch_share of the ``num_items_in_batch`` labelled tokens of the step.

        Raises:
            Incompatible: The model gives logits for more tokens than it got, as with virtual ones.
        """
        logits = logits_of(outputs)  # (B, T, L)
        if logits.shape[:2] != labels.shape:
            raise Incompatible(
                f"the model gives logits for {logits.shape[1]} tokens where it got {labels.shape[1]}: virtual tokens "
                "(prompt tuning, P-tuning) shift the tags. Use another strategy, such as lora."
            )
        return super().__call__(outputs, labels, num_items_in_batch)


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
        """Return the loss of one batch, as its batch_share of the step."""
        numbers = logits_of(outputs).float().view(-1)
        total = functional.mse_loss(numbers, labels.float().view(-1), reduction="sum")
        return _share(total, num_items_in_batch, labels)


def _share(total: torch.Tensor, num_items_in_batch: Any, labels: torch.Tensor) -> torch.Tensor:
    """Return a batch's sum of losses as its batch_share of the mean over the step, or its own mean where no step is told."""
    return batch_share(total, labels.numel() if num_items_in_batch is None else num_items_in_batch)
