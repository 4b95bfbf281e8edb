"""Folders of exported models: run folders whose model a runtime computes, such as ONNX Runtime or OpenVINO.

Such a folder is used as any other run folder. The strategy section of its recipe names the runtime, and how the run was
trained. A plugin says how a runtime loads a folder, with the hook `runtimes`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune.errors import Incompatible
from finetune.interfaces import Strategy, Task
from finetune.plugins import discover


@dataclass(frozen=True, kw_only=True)
class RuntimeStrategy(Strategy):
    """Loads an exported model through its runtime; it trains nothing."""

    runtime: str
    """Name of the runtime, which a plugin provides."""
    format: str = ""
    """Name of the format of the export, such as ``onnx-int8``."""
    trained_by: Mapping[str, Any]
    """The strategy section of the recipe that trained the run."""
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    """The model section of that recipe."""
    unpickles: str | None = None
    """What the runtime reads with pickle, which can run code, as ``pickle:SHA-256``: the user must trust the folder."""

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Refuse to train.

        Raises:
            Incompatible: Always: the recipe of an exported folder only says how the model is loaded.
        """
        raise Incompatible(
            "strategy: this recipe belongs to an exported model, which cannot be trained. To train as the run was "
            "trained, replace the strategy section by the content of strategy.trained_by, and the model section by "
            "that of strategy.trained_on."
        )

    def loads_base(self) -> bool:
        """Return False: the folder holds the whole model."""
        return False

    def load(self, directory: Path, *, model_class: Any, base: str, options: Mapping[str, Any]) -> Any:
        """Return the model, computed by the runtime.

        Raises:
            UnknownName: No installed plugin provides the runtime.
            MissingLibrary: A library of the runtime is not installed.
        """
        return discover().find("runtimes", self.runtime)(directory, model_class)


__all__ = ["RuntimeStrategy"]
