"""What a plan measures on this machine, as data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """A time by the clock, and the time of the processor in all threads."""

    seconds: float = 0.0
    """Wall time."""
    cpu_seconds: float = 0.0
    """Time of the processor, which other programs on the machine do not make longer."""

    @classmethod
    def now(cls) -> Times:
        """Return both clocks; only the difference of two calls means something."""
        return cls(seconds=time.perf_counter(), cpu_seconds=time.process_time())

    def __add__(self, other: Times) -> Times:
        return Times(seconds=self.seconds + other.seconds, cpu_seconds=self.cpu_seconds + other.cpu_seconds)

    def __sub__(self, other: Times) -> Times:
        return Times(seconds=self.seconds - other.seconds, cpu_seconds=self.cpu_seconds - other.cpu_seconds)

    def __mul__(self, factor: float) -> Times:
        return Times(seconds=self.seconds * factor, cpu_seconds=self.cpu_seconds * factor)


@dataclass(frozen=True, kw_only=True)
class MeasuredBucket:
    """Steps of about the same size, some of which were measured."""

    name: str
    """``longest`` for the step with the largest batch; else the place among all steps, by size: ``50%``."""
    tokens: float
    """Tokens of a step with padding, on average."""
    longest: int
    """Tokens of the longest row."""
    steps: int
    """Steps that were measured."""
    times: Times
    """Time of a step: the median."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a run needs on this machine, from a few measured steps."""

    device: str
    """``CPU``, or the name of the GPU."""
    steps: int
    """Steps of the whole training."""
    steps_per_epoch: int
    buckets: Sequence[MeasuredBucket]
    step: Times
    """A step, on average over an epoch."""
    epoch: Times
    """The steps of an epoch, on average over the first epochs."""
    evaluation: Times
    """One evaluation on validation during training."""
    evaluations: int
    """How often the run evaluates during training."""
    checkpoint: Times
    """Saving one checkpoint."""
    checkpoints: int
    """How often the run saves one."""
    training: Times
    """The whole training: its steps, evaluations and checkpoints."""
    run: Times
    """The whole run: also reading the data, loading, scoring and saving, without intervals and report."""
    memory_before_model: int
    """Bytes of memory of the process with the data, before the model is loaded."""
    peak_memory: int
    """Most bytes of memory that the process needs."""
    peak_gpu_memory: int | None
    """Most bytes that PyTorch allocates on the GPU; None without a GPU."""
    checkpoint_bytes: int
    """Size of a checkpoint on the disk."""
    checkpoint_is_measured: bool
    """Whether a checkpoint was saved to measure it; False if the disk has no room, or the run saves none."""
    model_bytes: int
    """Size of the weights that the run saves at its end."""
    trainable_parameters: int
    total_parameters: int
    notes: Sequence[str] = ()
    """What makes the figures less certain."""
