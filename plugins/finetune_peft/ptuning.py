"""P-tuning: embeddings before those of the text, made by a small network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from peft import PromptEncoderConfig

from finetune.interfaces import Base, Suggestion, Task
from finetune_peft.rates import by_size
from finetune_peft.virtual import VirtualTokensStrategy, align_outputs, encoder_width


@dataclass(frozen=True, kw_only=True)
class PTuningStrategy(VirtualTokensStrategy):
    """Trains a small network that makes the embeddings of virtual tokens, which stand before the text, and the head.

    The network trains in place of the embeddings, and the adapter is saved without it.

    Source: Liu et al. 2021, "GPT Understands, Too".
    """

    method: ClassVar[type[PromptEncoderConfig]] = PromptEncoderConfig

    encoder_reparameterization_type: Literal["MLP", "LSTM"] = "MLP"
    """Kind of network."""
    encoder_hidden_size: int | None = None
    """Inner width of the network; None for the model's hidden size."""
    encoder_num_layers: int = 2
    """Number of layers of an `LSTM`; an `MLP` always has three."""
    encoder_dropout: float = 0.0
    """Dropout between the layers of an `LSTM`."""

    def suggest(self, task: Task, base: Base) -> Suggestion:
        """Return a learning rate by the size of the model."""
        return by_size(base, measured=1.5e-2, published=1e-3, source="guide to p-tuning in PEFT's documentation")

    def method_options(self, model: Any) -> dict[str, Any]:
        """Return fields of `peft.PromptEncoderConfig`."""
        options: dict[str, Any] = {
            "encoder_reparameterization_type": self.encoder_reparameterization_type,
            "encoder_hidden_size": encoder_width(model, self.encoder_hidden_size),
        }
        # for an MLP, PEFT warns of any other number of layers and ignores it
        if self.encoder_reparameterization_type == "LSTM":
            options["encoder_num_layers"] = self.encoder_num_layers
            options["encoder_dropout"] = self.encoder_dropout
        return options

    def patch(self, model: Any) -> Any:
        """Make the model return outputs for the tokens of the text only."""
        return align_outputs(model)
