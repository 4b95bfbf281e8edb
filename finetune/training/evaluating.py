"""Evaluation while training: short rows first, a loss that no batch size changes, and outputs that are not made twice.

Rows of about the same length in a batch hold little padding. On SST-2, whose rows have 13 tokens on average, half of
the work of batches in the order of the file was padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from finetune.interfaces import IGNORE_INDEX, Preprocessor

Array = Any


@dataclass(frozen=True, kw_only=True)
class Order:
    """The order in which features are predicted: shortest first, equal lengths as they come."""

    places: Array
    """The position of each predicted feature among all features."""

    @classmethod
    def of(cls, features: Any, preprocessor: Preprocessor) -> Order:
        """Return the order of features."""
        return cls(places=np.argsort(preprocessor.lengths(features), kind="stable"))

    def undo(self, parts: Any) -> Any:
        """Return predicted arrays, one or a tuple of them, in the order of the features."""
        back = np.argsort(self.places, kind="stable")
        return tuple(part[back] for part in parts) if isinstance(parts, tuple) else parts[back]


@dataclass(kw_only=True)
class MeanLoss:
    """The mean loss of all labels of a split, from the mean of each batch.

    transformers takes the mean of the means, in which a label of a small batch, or of a batch with few labels, counts
    more than others, so that the loss depends on which rows share a batch.
    """

    shifted: bool
    """Whether labels belong to the position after their own, so that the first one is not predicted."""
    losses: list[torch.Tensor] = field(default_factory=list)
    counts: list[torch.Tensor] = field(default_factory=list)

    def labels_in(self, inputs: Any) -> torch.Tensor | None:
        """Return the number of labels in a batch: of tokens, or else of rows; None if it holds no tensors."""
        if not isinstance(inputs, Mapping):
            return None
        labels = inputs.get("labels")
        if isinstance(labels, torch.Tensor) and labels.dim() > 1 and not labels.is_floating_point():
            predicted = labels[..., 1:] if self.shifted else labels
            return (predicted != IGNORE_INDEX).sum()
        tensors = [value for value in inputs.values() if isinstance(value, torch.Tensor) and value.dim()]
        return torch.tensor(len(tensors[0]), device=tensors[0].device) if tensors else None

    def add(self, loss: torch.Tensor | None, count: torch.Tensor | None) -> None:
        """Add a batch."""
        if loss is not None and count is not None:
            self.losses.append(loss.detach().mean())
            self.counts.append(count.to(loss.device))

    @contextmanager
    def watching(self, trainer: Any) -> Iterator[None]:
        """Add each batch that a trainer predicts in a `with` block."""
        step = trainer.prediction_step

        def watched(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            count = self.labels_in(inputs)
            predicted = step(model, inputs, *args, **kwargs)
            self.add(predicted[0], count)
            return predicted

        trainer.prediction_step = watched
        try:
            yield
        finally:
            del trainer.prediction_step

    def value(self, accelerator: Any) -> float:
        """Return the mean over the batches of all processes."""
        losses, counts = torch.stack(self.losses), torch.stack(self.counts)
        if accelerator.num_processes == 1:
            losses, counts = losses.cpu(), counts.cpu()  # not every device has numbers of 64 bits
        losses, counts = losses.double(), counts.double()
        weighted = torch.where(counts > 0, losses * counts, 0)  # without a label, a mean is NaN
        sums = torch.stack([weighted.sum(), counts.sum()])
        if accelerator.num_processes > 1:
            sums = accelerator.reduce(sums, reduction="sum")
        return float(sums[0] / sums[1])


@torch.no_grad()
def digest(model: Any) -> tuple[int, ...]:
    """Return a number for the bits of each parameter and buffer of a model, whatever memory holds them.

    Each eight bytes are multiplied by an odd number of their own and added modulo 2⁶⁴, so that no change of one of
    them is lost, and two by two only by a chance of 2⁻⁶³.
    """
    found = []
    for tensor in [*model.parameters(), *model.buffers()]:
        plain = tensor.detach().as_subclass(torch.Tensor)  # a class of quantized weights can change what `split` does
        data = plain.reshape(-1).view(torch.uint8)
        if data.storage_offset() % 8:  # a part of another tensor
            data = data.clone()
        factors = _factors(tensor.device)
        whole = len(data) // 8 * 8
        words = torch.cat([data[:whole].view(torch.int64), data[whole:].to(torch.int64)])
        total = torch.zeros((), dtype=torch.int64, device=tensor.device)
        for chunk in torch.split(words, CHUNK):
            total = total * MULTIPLIER + (chunk * factors[: len(chunk)]).sum()
        found.append(total)
    return tuple(int(total) for total in found)


@lru_cache(maxsize=4)
def _factors(device: torch.device) -> torch.Tensor:
    """Return `CHUNK` odd numbers."""
    generator = torch.Generator().manual_seed(1997)
    return (2 * torch.randint(-(2**62), 2**62, (CHUNK,), generator=generator) + 1).to(device)


CHUNK = 1 << 16
"""Numbers of eight bytes that are multiplied at once."""
MULTIPLIER = 6364136223846793005
"""Odd. Source: Knuth, "The Art of Computer Programming", volume 2, section 3.3.4."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What an evaluation of the validation features returned, and of which weights."""

    outputs: Any
    label_ids: Any
    weights: tuple[int, ...]
    """Their `digest`."""


class Kept:
    """The outputs of the last evaluation and of that of the best checkpoint, for the scores at the end of a run.

    They hold if the weights are the same, the rows are the same, and the arithmetic is: the model does not write
    texts, or starts from one seed in each evaluation.
    """

    def __init__(self) -> None:
        self.last: Evaluated | None = None
        self.best: Evaluated | None = None

    def put(self, output: Any, *, model: Any) -> None:
        """Keep the outputs of an evaluation."""
        self.last = Evaluated(outputs=output.predictions, label_ids=output.label_ids, weights=digest(model))

    def chosen(self) -> None:
        """Note that the last evaluation is the best so far."""
        self.best = self.last

    def take(self, *, model: Any) -> Evaluated | None:
        """Return the outputs of the weights that a model has now, once; None if there are none."""
        candidates = [each for each in (self.last, self.best) if each is not None]
        self.last, self.best = None, None
        weights = digest(model) if candidates else ()
        for each in candidates:
            if each.weights == weights:
                return each
        return None
