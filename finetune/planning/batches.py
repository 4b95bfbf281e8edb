"""The batches of an epoch: how long each is, and which of them stand for the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.interfaces import Job

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""The middles of five parts of the steps, from short to long. One bucket stands for each part."""
REPEATS = 3
"""Steps that are measured in each bucket."""
EPOCHS = 3
"""Most epochs whose order is drawn to find the distribution of the lengths."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """The rows of one optimizer step."""

    batches: tuple[tuple[int, ...], ...]
    """The rows of each of its batches."""
    tokens: int
    """Tokens of its batches with padding, and of their targets if these have a length of their own."""
    largest: int
    """The same of its largest batch, which decides the peak memory."""
    longest: int
    """Tokens of its longest row."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Steps of about the same size."""

    name: str
    steps: tuple[Step, ...]
    """Those to measure."""


def row_lengths(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of each training row, and those of its target if it has another length than the input."""
    features = job.train
    assert features is not None
    inputs, targets = [], []
    for part in features.iter(1000):
        lengths = list(job.preprocessor.lengths(part))
        inputs += lengths
        labels = part.get("labels") if "labels" in job.task.features else None
        for number, length in enumerate(lengths):
            label = labels[number] if labels is not None else None
            own = len(label) if isinstance(label, Sequence) and len(label) != length else 0
            targets.append(own)
    return np.asarray(inputs), np.asarray(targets)


def steps_of(
    sampled: Sequence[Sequence[int]], lengths: tuple[np.ndarray, np.ndarray], *, accumulated: int
) -> list[Step]:
    """Return the steps of an epoch.

    Args:
        sampled: The rows of each batch, in the order of training.
        lengths: What `row_lengths` returns.
        accumulated: Batches of a step.

    >>> steps = steps_of([[0, 1], [2]], (np.array([3, 5, 4]), np.array([0, 0, 2])), accumulated=1)
    >>> [(step.tokens, step.longest) for step in steps]
    [(10, 5), (6, 4)]
    """
    inputs, targets = lengths
    steps = []
    for start in range(0, len(sampled), accumulated):
        batches = tuple(tuple(rows) for rows in sampled[start : start + accumulated])
        sizes = []
        for rows in batches:
            chosen = list(rows)
            sizes.append(len(chosen) * int(inputs[chosen].max() + targets[chosen].max()))
        rows_of_step = [row for rows in batches for row in rows]
        steps.append(
            Step(
                batches=batches,
                tokens=sum(sizes),
                largest=max(sizes),
                longest=int(inputs[rows_of_step].max()),
            )
        )
    return steps


def buckets(steps: Sequence[Step]) -> list[Bucket]:
    """Return the steps to measure: those with the largest batch first, then a few at each quantile of the sizes.

    A size that is measured already gets no second bucket.
    """
    full = max(rows_of(step) for step in steps)
    complete = [step for step in steps if rows_of(step) == full]  # the last one of an epoch may be smaller
    by_size = sorted(complete, key=lambda step: (step.largest, step.tokens))
    found = [Bucket(name="longest", steps=tuple(by_size[: -REPEATS - 1 : -1]))]
    by_size = sorted(by_size[:-REPEATS], key=lambda step: step.tokens)
    for quantile in reversed(QUANTILES):
        middle = round(quantile * (len(by_size) - 1))
        first = max(min(middle - REPEATS // 2, len(by_size) - REPEATS), 0)
        chosen = tuple(by_size[first : first + REPEATS])
        sizes = {step.tokens for bucket in found for step in bucket.steps}
        if any(step.tokens not in sizes for step in chosen):
            found.append(Bucket(name=f"{quantile:.0%}", steps=chosen))
    return found


def rows_of(step: Step) -> int:
    """Return the number of rows of a step."""
    return sum(len(batch) for batch in step.batches)


def total_seconds(steps: Sequence[Step], measured: Sequence[tuple[float, float]]) -> float:
    """Return the time of steps, from the sizes and the times of some.

    Between two measured sizes the time grows linearly. Above the largest it grows in proportion to the size, and below
    the smallest it stays, because a step has a part that does not depend on its batch.

    Args:
        steps: All steps.
        measured: Tokens and seconds of each bucket.

    >>> def of_size(tokens): return Step(batches=(), tokens=tokens, largest=tokens, longest=tokens)
    >>> total_seconds([of_size(5), of_size(15), of_size(20), of_size(40)], [(10, 1.0), (20, 1.5)])
    6.75
    """
    sizes: dict[float, list[float]] = {}
    for tokens, seconds in measured:
        sizes.setdefault(tokens, []).append(seconds)
    known = sorted(sizes)
    times = [float(np.mean(sizes[size])) for size in known]
    total = 0.0
    for step in steps:
        beyond = max(step.tokens / known[-1], 1.0)
        total += float(np.interp(step.tokens, known, times)) * beyond
    return total


def sampled(loader: Any, *, epochs: float) -> list[list[list[int]]]:
    """Return the rows of each batch of a few epochs, in the order in which a data loader draws them."""
    drawn = []
    for _ in range(min(math.ceil(epochs), EPOCHS)):
        drawn.append([list(rows) for rows in loader.batch_sampler])
    return drawn
