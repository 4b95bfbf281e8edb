"""The recipe that trained a model, read from that of a merged or an exported folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class AsTrained:
    """How a model was trained, and what was done with it afterwards."""

    recipe: Mapping[str, Any]
    """The recipe, with the strategy and the base model of the training."""
    afterwards: tuple[str, ...] = ()
    """What was done then, in order: ``("merged", "exported as onnx-int8")``."""

    @property
    def strategy(self) -> str:
        """Name of the strategy, and what was done afterwards: ``lora, merged``."""
        return ", ".join([str(self.recipe["strategy"]["name"]), *self.afterwards])


def as_trained(recipe: Mapping[str, Any]) -> AsTrained:
    """Return how a model was trained; for the recipe of a usual run, that is the recipe.

    >>> merged = {"name": "m:Merged", "trained_by": {"name": "lora"}, "trained_on": {"path": "base"}}
    >>> found = as_trained({"strategy": merged, "model": {"path": "."}})
    >>> found.strategy, found.recipe["model"]
    ('lora, merged', {'path': 'base'})
    """
    afterwards: list[str] = []
    while "trained_by" in (strategy := recipe.get("strategy") or {}):
        made = f"exported as {strategy.get('format') or strategy['runtime']}" if "runtime" in strategy else "merged"
        afterwards.insert(0, made)
        model = strategy.get("trained_on") or recipe["model"]
        recipe = {**recipe, "strategy": strategy["trained_by"], "model": model}
    return AsTrained(recipe=recipe, afterwards=tuple(afterwards))
