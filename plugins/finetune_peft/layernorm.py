"""Norms alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from peft import LNTuningConfig

from finetune.interfaces import Task
from finetune_peft.heads import head
from finetune_peft.strategy import PeftStrategy
from finetune_peft.targets import norms


@dataclass(frozen=True, kw_only=True)
class LayerNormStrategy(PeftStrategy):
    """Trains the gains and biases of the normalisation layers, and the head; the rest stays as it is.

    Source: Zhao et al. 2023, "Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM Finetuning".
    """

    method: ClassVar[type[LNTuningConfig]] = LNTuningConfig

    target_modules: str | tuple[str, ...] | None = None
    """Norms to train: ends of their names, or a regular expression; None for every norm, found by its class."""
    modules_to_save: tuple[str, ...] = ()
    """Modules to train whole, beside the head and whatever the base model lacks."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `peft.LNTuningConfig`, verbatim."""

    def options(self, model: Any, task: Task, *, whole: Collection[str]) -> dict[str, Any]:
        """Return fields of `peft.LNTuningConfig`."""
        outside = {*whole, *head(model, task.peft_type)}
        chosen = norms(model, apart_from=outside) if self.target_modules is None else self.target_modules
        return {
            "target_modules": list(chosen) if isinstance(chosen, tuple) else chosen,
            "exclude_modules": sorted(outside) or None,
        }
