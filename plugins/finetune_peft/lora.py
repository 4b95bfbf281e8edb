"""Low-rank updates beside frozen weights."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model

from finetune.errors import BadOptions, Incompatible
from finetune.interfaces import Strategy, Task
from finetune_peft.heads import born_outside_lora

ALL_LINEAR = "all-linear"


@dataclass(frozen=True, kw_only=True)
class Lora(Strategy):
    """Trains two thin matrices beside each chosen weight, and the head; the rest stays as it is.

    The options are those of `peft.LoraConfig`, by its names.

    Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
    """

    r: int = 8
    """Rank of the update: columns of the thin matrices."""
    lora_alpha: float = 16
    """Scale of the update: it is multiplied by `lora_alpha / r`."""
    lora_dropout: float = 0.0
    """Dropout before the update."""
    target_modules: str | tuple[str, ...] | None = None
    """Modules to update: ends of their names, a regular expression, or `all-linear`; None for PEFT's choice for the
    model (queries and values of the attention, mostly)."""
    modules_to_save: tuple[str, ...] = ()
    """Modules to train whole, beside the head and whatever the base model lacks."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `peft.LoraConfig`, verbatim: `{bias: lora_only}`."""

    def prepare(self, model: Any, task: Task, *, fresh: Collection[str] = ()) -> Any:
        """Return the model wrapped by PEFT.

        What was born random is trained whole and saved with the adapter: with low-rank updates beside it, its random
        weights would be lost, and every prediction after a reload be noise.

        Raises:
            Incompatible: The model has no modules of the names to target.
            BadOptions: A field is unknown to `peft.LoraConfig`.
        """
        born = born_outside_lora(model, fresh)
        given = self.target_modules
        options: dict[str, Any] = {
            "r": self.r,
            "lora_alpha": self.lora_alpha,
            "lora_dropout": self.lora_dropout,
            "target_modules": list(given) if isinstance(given, tuple) else given,
            "modules_to_save": sorted({*born, *self.modules_to_save}) or None,
            "exclude_modules": sorted(born) or None,
            "task_type": task.peft_type,
        }
        try:
            config = LoraConfig(**{**options, **self.config})
        except TypeError as error:
            raise BadOptions(f"strategy: config: {error}") from error
        try:
            with without_deprecations():
                return get_peft_model(model, config)
        except ValueError as error:
            raise Incompatible(f"strategy: {error} Name modules of {type(model).__name__}.") from error

    def save(self, model: Any, directory: Path) -> None:
        """Write the adapter, and what trained whole, as `adapter_model.safetensors`."""
        model.save_pretrained(directory, save_embedding_layers=False)
        (directory / "README.md").unlink(missing_ok=True)  # PEFT's form, not filled in: a card that says nothing

    def load(self, directory: Path, *, model_class: Any, base: str, options: Mapping[str, Any]) -> Any:
        """Load the base model, and the adapter onto it."""
        with without_deprecations():
            return PeftModel.from_pretrained(model_class.from_pretrained(base, **options), directory)


@contextmanager
def without_deprecations() -> Iterator[None]:
    """Silence PEFT 0.21's use of a name that transformers 5.23 deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield
