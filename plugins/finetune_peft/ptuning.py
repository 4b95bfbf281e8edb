"""Word vectors before those of the text, made by a small network."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from peft import PromptEncoderConfig

from finetune.interfaces import Task
from finetune_peft.strategy import PeftStrategy
from finetune_peft.virtual import of_hidden_size, read_all, refuse_typeless, unshifted, write_all


@dataclass(frozen=True, kw_only=True)
class PTuningStrategy(PeftStrategy):
    """Trains a small network that makes the vectors of virtual tokens, which stand before the text, and the head.

    The network trains in the vectors' stead, and is left away when the adapter is saved.

    Source: Liu et al. 2021, "GPT Understands, Too".
    """

    method: ClassVar[type[PromptEncoderConfig]] = PromptEncoderConfig

    num_virtual_tokens: int = 20
    """How many virtual tokens."""
    encoder_reparameterization_type: Literal["MLP", "LSTM"] = "MLP"
    """Kind of network."""
    encoder_hidden_size: int | None = None
    """Its inner width; None for the model's own."""
    encoder_num_layers: int = 2
    """Its layers, for `LSTM`; an `MLP` always has three."""
    encoder_dropout: float = 0.0
    """Dropout between the layers of an `LSTM`."""
    modules_to_save: tuple[str, ...] = ()
    """Modules to train whole, beside the head and whatever the base model lacks."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `peft.PromptEncoderConfig`, verbatim."""

    def options(self, model: Any, task: Task, *, whole: Collection[str]) -> dict[str, Any]:
        """Return fields of `peft.PromptEncoderConfig`.

        Raises:
            Incompatible: PEFT has no type for the task.
        """
        refuse_typeless(task)
        lstm = self.encoder_reparameterization_type == "LSTM"
        return {
            "num_virtual_tokens": self.num_virtual_tokens,
            "encoder_reparameterization_type": self.encoder_reparameterization_type,
            "encoder_hidden_size": of_hidden_size(model, self.encoder_hidden_size),
            # PEFT warns of any other number of layers for an MLP, and does not heed it
            **(
                {"encoder_num_layers": self.encoder_num_layers, "encoder_dropout": self.encoder_dropout} if lstm else {}
            ),
        }

    def wrapped(self, model: Any) -> Any:
        """Return the model with outputs for the text's tokens alone."""
        return unshifted(model)

    def write_checkpoint(self, model: Any, directory: Path) -> None:
        """Write the network beside what it made."""
        write_all(model, directory)

    def read_checkpoint(self, model: Any, directory: Path) -> bool:
        """Read the network."""
        return read_all(model, directory)
