"""What all strategies of PEFT have in common: a configuration, a wrapped model, an adapter on the disk."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import PeftConfig, PeftModel, get_peft_model

from finetune.errors import BadOptions, Incompatible, did_you_mean
from finetune.interfaces import Strategy, Task
from finetune_peft.heads import trained_whole

OURS: Mapping[str, str] = {
    "task_type": "the task tells it",
    "peft_type": "the strategy's name tells it",
    "inference_mode": "a run trains, and what is loaded from it predicts",
    "base_model_name_or_path": "it is the recipe's `model`",
    "revision": "it is the recipe's `model.revision`",
}
"""Fields of PEFT's configurations that a recipe may not set, and why."""


class PeftStrategy(Strategy):
    """Wraps the model by PEFT, trains what the method adds and what was newly initialized, and saves both as an adapter.

    A method is a frozen dataclass with the fields `modules_to_save` and `config` beside its own.
    """

    method: ClassVar[type[PeftConfig]]
    """PEFT's configuration of the method."""
    modules_to_save: tuple[str, ...]
    config: Mapping[str, Any]

    @abstractmethod
    def options(self, model: Any, task: Task, *, whole: Collection[str]) -> dict[str, Any]:
        """Return fields of PEFT's configuration: those of the strategy, and what the model asks for.

        Args:
            model: As loaded.
            task: What is learned.
            whole: Modules that train whole, because they were newly initialized.

        Raises:
            Incompatible: The model or the task cannot be trained in this way.
        """

    def wrapped(self, model: Any) -> Any:
        """Return a model that PEFT has just wrapped, as it must be before it is used."""
        return model

    def __post_init__(self) -> None:
        known = [f.name for f in fields(self.method) if f.init]
        own = {f.name for f in fields(self)} & set(known)  # type: ignore[arg-type]
        for name in self.config:
            if name not in known:
                raise ValueError(
                    f"config: {name!r} is not a field of {self.method.__name__}.{did_you_mean(name, known)}"
                )
            if name in OURS:
                raise ValueError(f"config: {name!r} cannot be set here: {OURS[name]}.")
            if name in own:
                raise ValueError(f"config: {name!r} is an option of the strategy itself; set it there.")

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Return the model wrapped by PEFT.

        What was newly initialized is trained whole and saved with the adapter: else its random weights would be lost, and
        every prediction after a reload be noise.

        Raises:
            Incompatible: The model cannot be wrapped, or the task cannot be trained in this way.
            BadOptions: A field of `config` has a value that PEFT refuses.
        """
        whole = trained_whole(model, newly_initialized)
        options = self.options(model, task, whole=whole)
        options |= {"modules_to_save": sorted({*whole, *self.modules_to_save}) or None, "task_type": task.peft_type}
        try:
            config = self.method(**{**options, **self.config})
        except (TypeError, ValueError) as error:
            raise BadOptions(f"strategy: {error}") from error
        try:
            with suppress_warnings():
                return self.wrapped(get_peft_model(model, config))
        except (ValueError, TypeError, NotImplementedError) as error:
            asked = options.get("target_modules")
            told = f" target_modules was {asked!r}." if asked else ""
            raise Incompatible(f"strategy: PEFT says of {type(model).__name__}: {error}{told}") from error

    def save(self, model: Any, directory: Path) -> None:
        """Write the adapter, and what trained whole, as `adapter_model.safetensors`."""
        training = model.training
        with torch.no_grad():  # with gradients, an LSTM that makes virtual tokens gives other last bits
            model.eval().save_pretrained(directory, save_embedding_layers=False)
        model.train(training)
        (directory / "README.md").unlink(missing_ok=True)  # PEFT's form, not filled in: a card that says nothing

    def load(self, directory: Path, *, model_class: Any, base: str, options: Mapping[str, Any]) -> Any:
        """Load the base model, and the adapter onto it."""
        model = model_class.from_pretrained(base, **options)
        with suppress_warnings():
            return self.wrapped(PeftModel.from_pretrained(model, directory))


@contextmanager
def suppress_warnings() -> Iterator[None]:
    """Silence PEFT 0.21's use of a name that transformers 5.23 deprecates, and its surprise at norms."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Unsupported layer type .*Norm", category=UserWarning)
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield
