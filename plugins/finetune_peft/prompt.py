"""Learned word vectors before those of the text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from peft import PromptTuningConfig

from finetune.interfaces import Task
from finetune_peft.strategy import PeftStrategy
from finetune_peft.virtual import refuse_typeless, unshifted


@dataclass(frozen=True, kw_only=True)
class PromptStrategy(PeftStrategy):
    """Trains the vectors of virtual tokens, which stand before the text, and the head.

    The fewest parameters, and the method that needs a large model most. It wants a high learning rate (1e-2 to 0.3).

    Source: Lester et al. 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning".
    """

    method: ClassVar[type[PromptTuningConfig]] = PromptTuningConfig

    num_virtual_tokens: int = 20
    """How many virtual tokens."""
    prompt_tuning_init: Literal["RANDOM", "SAMPLE_VOCAB", "TEXT"] = "SAMPLE_VOCAB"
    """What they are at first: random, those of words drawn from the vocabulary, or those of a text."""
    prompt_tuning_init_text: str | None = None
    """That text, for `TEXT`; it is repeated or cut to the number of tokens."""
    modules_to_save: tuple[str, ...] = ()
    """Modules to train whole, beside the head and whatever the base model lacks."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `peft.PromptTuningConfig`, verbatim."""

    def options(self, model: Any, task: Task, *, whole: Collection[str]) -> dict[str, Any]:
        """Return fields of `peft.PromptTuningConfig`.

        Raises:
            Incompatible: PEFT has no type for the task.
        """
        refuse_typeless(task)
        tokenizer = {"tokenizer_name_or_path": model.config._name_or_path} if self.prompt_tuning_init == "TEXT" else {}
        return {
            "num_virtual_tokens": self.num_virtual_tokens,
            "prompt_tuning_init": self.prompt_tuning_init,
            "prompt_tuning_init_text": self.prompt_tuning_init_text,
            **tokenizer,
        }

    def wrapped(self, model: Any) -> Any:
        """Return the model with outputs for the text's tokens alone."""
        return unshifted(model)
