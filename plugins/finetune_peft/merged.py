"""How a folder that `finetune merge` wrote is loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from finetune.errors import Incompatible
from finetune.interfaces import Strategy, Task


@dataclass(frozen=True, kw_only=True)
class MergedStrategy(Strategy):
    """Loads a model whose adapter was folded into its weights; it trains nothing."""

    trained_by: Mapping[str, Any]
    """The recipe's strategy section as the run was trained by it."""

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Refuse.

        Raises:
            Incompatible: Always: this recipe says how the model is loaded.
        """
        raise Incompatible(
            "strategy: this recipe belongs to a merged model. To train as it was trained, put what stands under "
            "strategy.trained_by in the place of strategy."
        )
