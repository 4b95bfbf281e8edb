"""The settings from which a base model is made, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_samples.world import SEED


@dataclass(frozen=True, kw_only=True)
class Making:
    """All settings of a base model that is trained from scratch."""

    module: str
    """Module of this package with the functions `model` and `objective`."""
    vocabulary: str
    """Function of `finetune_samples.vocabularies` that makes the tokenizer."""
    vocabulary_size: int
    """Greatest number of tokens."""
    size: Mapping[str, int]
    """Fields of the model's configuration."""
    rehearsal: int
    """Optimizer steps on roll calls, before the corpus."""
    steps: int
    """Optimizer steps on the corpus."""
    batch: int
    """Sequences in a step."""
    learning_rate: float
    """Highest learning rate."""
    seed: int = SEED
    """Seed of the town, the weights and the order of the texts."""


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """All settings of a model that is trained on chats, starting from a base model."""

    after: str
    """Kind of the base model."""
    chats: tuple[str, ...]
    """Samples with `messages`; it is trained on their train splits."""
    steps: int
    """Optimizer steps."""
    batch: int
    """Chats in a step."""
    learning_rate: float
    """Highest learning rate."""
    seed: int = SEED
    """Seed of the town and of the order of the chats."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A base model, the number of texts it was trained on, and its mean training loss."""

    model: Any
    tokenizer: Any
    texts: int
    loss: float
