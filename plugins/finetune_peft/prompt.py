"""Prompt tuning: learned embeddings before those of the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from peft import PromptTuningConfig

from finetune.interfaces import Base, Suggestion, Task
from finetune_peft.rates import by_size
from finetune_peft.virtual import VirtualTokensStrategy, align_outputs


@dataclass(frozen=True, kw_only=True)
class PromptStrategy(VirtualTokensStrategy):
    """Trains the embeddings of virtual tokens, which stand before the text, and the head.

    It trains the fewest parameters, and it needs a large model more than any other method. Use a high learning rate
    (1e-2 to 0.3).

    Source: Lester et al. 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning".
    """

    method: ClassVar[type[PromptTuningConfig]] = PromptTuningConfig

    prompt_tuning_init: Literal["RANDOM", "SAMPLE_VOCAB", "TEXT"] = "SAMPLE_VOCAB"
    """Initial embeddings: random, those of tokens drawn from the vocabulary, or those of a text."""
    prompt_tuning_init_text: str | None = None
    """That text, for `TEXT`; it is repeated or cut to the number of virtual tokens."""

    def suggest(self, task: Task, base: Base) -> Suggestion:
        """Return a learning rate by the size of the model."""
        return by_size(base, measured=0.3, published=0.3, source="Lester et al. 2021, section 3")

    def method_options(self, model: Any) -> dict[str, Any]:
        """Return fields of `peft.PromptTuningConfig`."""
        options = {
            "prompt_tuning_init": self.prompt_tuning_init,
            "prompt_tuning_init_text": self.prompt_tuning_init_text,
        }
        if self.prompt_tuning_init == "TEXT":
            options["tokenizer_name_or_path"] = model.config._name_or_path
        return options

    def patch(self, model: Any) -> Any:
        """Make the model return outputs for the tokens of the text only."""
        return align_outputs(model)
