"""A strategy that does what none may: it moves what it calls frozen, and forgets between checkpoint and resume."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback

from finetune.interfaces import Strategy, Task


class Drift(TrainerCallback):
    """Adds the number of steps that this very object has seen."""

    def __init__(self) -> None:
        self.seen = 0

    def on_train_end(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        """Move the embeddings, on which no gradient of the run depends any more."""
        with torch.no_grad():
            model.get_input_embeddings().weight.add_(self.seen)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count."""
        self.seen += 1


@dataclass(frozen=True, kw_only=True)
class Crooked(Strategy):
    """Trains what is no part of the body, or so it says."""

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Return the model with its body frozen."""
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith("bert.") or "pooler" in name)
        return model

    def callbacks(self) -> Sequence[TrainerCallback]:
        """Return what moves the embeddings."""
        return [Drift()]
