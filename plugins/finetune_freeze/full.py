"""Every parameter trains."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

from finetune.interfaces import Strategy, Task


@dataclass(frozen=True, kw_only=True)
class FullStrategy(Strategy):
    """Trains every parameter: it needs the most memory and, with enough data, gives the best scores."""

    trains_sharded: ClassVar[bool] = True

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Return the model with every parameter trainable."""
        return model.requires_grad_(True)
