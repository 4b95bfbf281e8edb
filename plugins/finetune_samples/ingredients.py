"""What a base is made from, as data, apart from code and text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_samples.world import SEED


@dataclass(frozen=True, kw_only=True)
class Making:
    """All that a base is made from, apart from code and text."""

    module: str
    """Module of this package that brings the model, `model`, and what it learns from, `objective`."""
    vocabulary: str
    """Function of `finetune_samples.vocabularies`."""
    vocabulary_size: int
    """Tokens at most."""
    size: Mapping[str, int]
    """Fields of the model's configuration."""
    rehearsal: int
    """Optimizer updates on roll calls, before."""
    steps: int
    """Optimizer updates on the corpus."""
    batch: int
    """Sequences an update."""
    learning_rate: float
    """Highest rate."""
    seed: int = SEED
    """Of the town, the weights and the order of the texts."""


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """All that a model which follows instructions is made from, apart from code and text: a base, and chats."""

    after: str
    """Kind of base that it goes on from."""
    chats: tuple[str, ...]
    """Samples with `messages`, whose train splits it is taught."""
    steps: int
    """Optimizer updates."""
    batch: int
    """Chats an update."""
    learning_rate: float
    """Highest rate."""
    seed: int = SEED
    """Of the town and the order of the chats."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A base, how many texts it read, and the loss it came to."""

    model: Any
    tokenizer: Any
    texts: int
    loss: float
