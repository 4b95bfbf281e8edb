"""Learned keys and values before those of the text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from peft import PrefixTuningConfig

from finetune.interfaces import Task
from finetune_peft.strategy import PeftStrategy
from finetune_peft.virtual import encoded_once, of_hidden_size, read_all, refuse_typeless, write_all


@dataclass(frozen=True, kw_only=True)
class PrefixStrategy(PeftStrategy):
    """Trains keys and values of virtual tokens, which every layer attends to before the text, and the head.

    Source: Li and Liang 2021, "Prefix-Tuning: Optimizing Continuous Prompts for Generation".
    """

    method: ClassVar[type[PrefixTuningConfig]] = PrefixTuningConfig

    num_virtual_tokens: int = 20
    """How many virtual tokens."""
    prefix_projection: bool = False
    """Make keys and values by a network of two layers, which trains in their stead and is then left away. Steadier at
    the start, and many more parameters while it trains."""
    encoder_hidden_size: int | None = None
    """Inner width of that network; None for the model's own."""
    init_weights: Literal["zero"] | None = None
    """Begin with zeros, rather than at random."""
    modules_to_save: tuple[str, ...] = ()
    """Modules to train whole, beside the head and whatever the base model lacks."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `peft.PrefixTuningConfig`, verbatim."""

    def options(self, model: Any, task: Task, *, whole: Collection[str]) -> dict[str, Any]:
        """Return fields of `peft.PrefixTuningConfig`.

        Raises:
            Incompatible: PEFT has no type for the task.
        """
        refuse_typeless(task)
        return {
            "num_virtual_tokens": self.num_virtual_tokens,
            "prefix_projection": self.prefix_projection,
            "encoder_hidden_size": of_hidden_size(model, self.encoder_hidden_size),
            "init_weights": self.init_weights,
        }

    def wrapped(self, model: Any) -> Any:
        """Return the model with its prefix made once a batch."""
        return encoded_once(model)

    def write_checkpoint(self, model: Any, directory: Path) -> None:
        """Write the network beside what it made."""
        write_all(model, directory)

    def read_checkpoint(self, model: Any, directory: Path) -> bool:
        """Read the network."""
        return read_all(model, directory)
