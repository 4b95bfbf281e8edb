"""Losses of classifiers that do not depend on how a step is divided into batches; see `finetune.training.losses`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from finetune.errors import Incompatible
from finetune.kit import TokenCrossEntropy, batch_share, logits_of


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Cross entropy of one label per example: the weighted sum over the examples, divided by their number.

    The weights average 1 over the training rows. Over all of them, the loss is therefore exactly
    ``torch.nn.CrossEntropyLoss(weight=…)``. That loss divides each batch by the sum of the weights
    in it, which an accumulated batch does not know of the others.
    """

    weights: tuple[float, ...] | None = None
    """Weight of each label, in order of id."""
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    """Each example counts ``(1 - p) ** focal_gamma``, where p is the probability of its label. Source: Lin et al. 2017,
    equation 4."""

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss of one batch, as its share of the mean over the ``num_items_in_batch`` examples."""
        logits, labels = logits_of(outputs).float(), labels.view(-1)
        weights = None if self.weights is None else torch.tensor(self.weights, device=logits.device)
        each = functional.cross_entropy(
            logits, labels, weight=weights, reduction="none", label_smoothing=self.label_smoothing
        )
        if self.focal_gamma:
            right = logits.softmax(-1).gather(-1, labels[:, None])[:, 0]
            each = each * (1 - right) ** self.focal_gamma
        return _share(each.sum(), num_items_in_batch, labels)


def check_focal_gamma(value: float) -> None:
    """Check an option of preprocessors.

    Raises:
        ValueError: It is negative; or between 0 and 1, where the gradient of a sure answer is not a number.
    """
    if value != 0 and not 1 <= value < float("inf"):
        raise ValueError("focal_gamma must be 0 or at least 1")


@dataclass(frozen=True, kw_only=True)
class TagCrossEntropy(TokenCrossEntropy):
    """Cross entropy of every labelled token: the mean over the labelled tokens of the step."""

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss of one batch, as its share of the mean over the ``num_items_in_batch`` labelled tokens.

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

    focal_gamma: float = 0.0
    """Each label of each example counts ``(1 - p) ** focal_gamma``, where p is the probability of what is true of it:
    that it is there, or that it is not. Source: as in `CrossEntropy`."""

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss of one batch; ``num_items_in_batch`` counts labels, not examples."""
        logits, labels = logits_of(outputs).float(), labels.float()
        each = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        if self.focal_gamma:
            there = logits.sigmoid()
            each = each * (labels * (1 - there) + (1 - labels) * there) ** self.focal_gamma
        return _share(each.sum(), num_items_in_batch, labels)


@dataclass(frozen=True)
class SquaredError:
    """Squared error of one number per example: the mean over the examples."""

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss of one batch, as its share of the mean over the step."""
        numbers = logits_of(outputs).float().view(-1)
        total = functional.mse_loss(numbers, labels.float().view(-1), reduction="sum")
        return _share(total, num_items_in_batch, labels)


def _share(total: torch.Tensor, num_items_in_batch: Any, labels: torch.Tensor) -> torch.Tensor:
    """Return a batch's sum of losses as its share of the mean over the step; its own mean where no step is known."""
    return batch_share(total, labels.numel() if num_items_in_batch is None else num_items_in_batch)
