"""The base of all PEFT strategies: a configuration, a wrapped model, an adapter on the disk."""

from __future__ import annotations

import json
import warnings
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import PeftConfig, PeftModel, PeftType, get_peft_model
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME

from finetune.errors import BadOptions, BadRecipe, Incompatible, did_you_mean
from finetune.interfaces import Strategy, Task
from finetune.kit import base_model_of, evaluation_mode
from finetune_peft.heads import newly_initialized_modules
from finetune_peft.influence import check_influence
from finetune_peft.initialization import OPTION, check_initialization
from finetune_peft.names import check_names

RESERVED: Mapping[str, str] = {
    "task_type": "the task sets it",
    "peft_type": "the strategy sets it",
    "inference_mode": "it is off in training and on after loading",
    "base_model_name_or_path": "the recipe sets it under `model`",
    "revision": "the recipe sets it under `model.revision`",
}
"""Fields of PEFT's configurations that a recipe may not set, and why."""


class PeftStrategy(Strategy):
    """Wraps the model with PEFT, trains what the method adds and what was newly initialized, saves both as an adapter.

    A method is a frozen dataclass with the fields `modules_to_save` and `config` and its own fields.
    """

    method: ClassVar[type[PeftConfig]]
    """PEFT's configuration of the method."""
    modules_to_save: tuple[str, ...]
    config: Mapping[str, Any]

    def config_class(self) -> type[PeftConfig]:
        """Return PEFT's configuration of the method; by default, `method`."""
        return self.method

    @abstractmethod
    def peft_options(self, model: Any, task: Task, *, whole: Collection[str]) -> dict[str, Any]:
        """Return fields of PEFT's configuration: the strategy's own, and those that depend on the model.

        Args:
            model: As loaded.
            task: What is learned.
            whole: Modules that train whole, because they were newly initialized.

        Raises:
            Incompatible: The model or the task cannot be trained in this way.
        """

    def patch(self, model: Any) -> Any:
        """Return a model that PEFT has just wrapped, with corrections of PEFT's behaviour."""
        return model

    def __post_init__(self) -> None:
        method = self.config_class()
        known = [f.name for f in fields(method) if f.init]
        own = {f.name for f in fields(self)} & set(known)  # type: ignore[arg-type]  # a subclass is a dataclass
        place = "" if hasattr(self, "further_options") else "config: "  # where the user writes it
        for name in self.config:
            if name not in known:
                hint = did_you_mean(name, known)
                raise ValueError(f"{place}{name!r} is not a field of {method.__name__}.{hint}")
            if name in RESERVED:
                raise ValueError(f"config: {name!r} cannot be set here: {RESERVED[name]}.")
            if name in own:
                raise ValueError(f"config: {name!r} is an option of the strategy itself; set it there.")
        check_initialization(self.config)

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Return the model wrapped by PEFT.

        Newly initialized modules train whole and are saved with the adapter. Otherwise their random weights would be
        lost, and every prediction after reloading would be noise.

        Raises:
            Incompatible: The model cannot be wrapped, or the task cannot be trained in this way.
            BadOptions: PEFT refuses the value of a field of `config`, or a name matches no module.
        """
        whole = newly_initialized_modules(model, newly_initialized)
        options = self.peft_options(model, task, whole=whole)
        saved = sorted({*whole, *self.modules_to_save})
        if "modules_to_save" in {f.name for f in fields(self.config_class())}:
            options["modules_to_save"] = saved or None
        elif saved:
            raise Incompatible(
                f"strategy: {self.config_class().__name__} cannot save modules that train whole, such as {saved[0]!r} "
                "here. Use another method."
            )
        options["task_type"] = task.peft_type
        try:
            config = self.config_class()(**{**options, **self.config})
        except (TypeError, ValueError) as error:
            raise BadOptions(f"strategy: {error}") from error
        check_names(model, config)
        try:
            with suppress_warnings():
                wrapped = self.patch(get_peft_model(model, config))
        except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
            targets = options.get("target_modules")
            suffix = f" target_modules was {targets!r}." if targets else ""
            raise Incompatible(f"strategy: PEFT cannot wrap {type(model).__name__}: {error}{suffix}") from error
        if isinstance(getattr(config, OPTION, True), str):
            check_influence(wrapped, kind=str(getattr(config, OPTION)))
        return wrapped

    @classmethod
    def for_adapter(cls, settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return those settings of an adapter of this method that are options of the strategy; None for another."""
        if settings.get("peft_type") != PeftType(cls.method().peft_type).value:
            return None
        own = {f.name for f in fields(cls)} - {"config"}  # type: ignore[arg-type]  # a subclass is a dataclass
        return {name: value for name, value in settings.items() if name in own and value is not None}

    def whole(self, model: Any) -> Any:
        """Return the base model with the adapter merged into its weights, in float32.

        Raises:
            Incompatible: The adapter cannot be merged, or its base model is quantized.
        """
        from finetune_peft import merging  # it also needs what loads merged models

        merging.check_mergeable(self, model)
        if merging.is_quantized(base_model_of(model)):
            raise Incompatible(
                "strategy: the base model is quantized. Merge first (finetune merge RUN), and take the merged folder."
            )
        return merging.merge_adapter(model.float())

    def save(self, model: Any, directory: Path) -> None:
        """Write the adapter and the modules that train whole as `adapter_model.safetensors`."""
        # with gradients, an LSTM that makes virtual tokens gives other last bits
        with torch.no_grad(), evaluation_mode(model):
            model.save_pretrained(directory, save_embedding_layers=False)
        (directory / "README.md").unlink(missing_ok=True)  # PEFT's empty template of a card

    def load(self, directory: Path, *, model_class: Any, base: str, options: Mapping[str, Any]) -> Any:
        """Load the base model, and the adapter onto it.

        Raises:
            BadRecipe: The folder holds no adapter of this method as safetensors.
        """
        check_adapter(directory, self.config_class())
        model = model_class.from_pretrained(base, **options)
        with suppress_warnings():
            return self.patch(PeftModel.from_pretrained(model, directory))


def check_adapter(directory: Path, method: type[PeftConfig]) -> None:
    """Check that a folder holds an adapter of a method, as safetensors.

    PEFT 0.21 would read pickled weights instead, or ask the Hub for them under the path of the folder. Its
    configuration would choose another method.

    Raises:
        BadRecipe: It does not.
    """
    remedy = "Restore the file as the run wrote it."
    if not (directory / SAFETENSORS_WEIGHTS_NAME).is_file():
        pickled = f" {WEIGHTS_NAME} is a pickle, and is not read." if (directory / WEIGHTS_NAME).exists() else ""
        raise BadRecipe(
            f"{str(directory)!r} has no {SAFETENSORS_WEIGHTS_NAME}. Adapters are loaded from safetensors only."
            f"{pickled} {remedy}"
        )
    path = directory / CONFIG_NAME
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        found = config["peft_type"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise BadRecipe(f"{str(path)!r} is no configuration of an adapter. {remedy}") from error
    expected = PeftType(method().peft_type).value
    if found != expected:
        raise BadRecipe(f"{str(path)!r} has peft_type {found!r}, and the strategy of the run is {expected!r}. {remedy}")


@contextmanager
def suppress_warnings() -> Iterator[None]:
    """Suppress warnings of PEFT 0.21 that the user cannot act on.

    They are about norms as targets, about a name that transformers 5.23 deprecates, about tied embeddings, which are
    saved and merged correctly here, about biases that cannot be merged, which a merge says, and about BOFT's kernel for
    GPUs, without which it computes the same.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Unsupported layer type .*Norm", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*a tied layer is part of the adapter", category=UserWarning)
        warnings.filterwarnings("ignore", message="Detected that the base layer has no bias", category=UserWarning)
        warnings.filterwarnings("ignore", message="Failed to load the CUDA extension", category=UserWarning)
        warnings.filterwarnings("ignore", message="Setting boft_n_butterfly_factor to 1", category=UserWarning)
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield
