"""Any method of PEFT by its type, with the options of its configuration."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from peft import PeftConfig

from finetune.interfaces import Base, Suggestion, Task
from finetune_peft import types
from finetune_peft.heads import head_modules
from finetune_peft.influence import check_influence
from finetune_peft.rates import ten_times
from finetune_peft.targets import has_transposed_weights, ia3_targets, lora_targets, norm_modules
from finetune_peft.values import check_values
from finetune_peft.whole_checkpoint import WholeCheckpoint


@dataclass(frozen=True, kw_only=True)
class AnyPeftStrategy(WholeCheckpoint):
    """Trains what a method of PEFT adds, and the head: any type of adapter, such as MISS, VERA, OFT or LOHA.

    All other options of the section are those of PEFT's configuration of the type: ``{name: peft, type: MISS, r: 16}``.
    Their names and types are checked against it. A method that the model or the task cannot have is refused before the
    first step, and so is one that would change no output.
    """

    further_options: ClassVar[str] = "config"

    type: str = "LORA"
    """PEFT's type of adapter, such as `MISS`; the page "PEFT's types" has all."""
    modules_to_save: tuple[str, ...] = ()
    """Further modules to train whole, besides the head and what the base model lacks."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Options of PEFT's configuration of the type. They can also be written in the section itself."""

    def config_class(self) -> builtins.type[PeftConfig]:  # `type` is a field here
        """Return PEFT's configuration of the type."""
        return types.config_class(self.kind)

    @property
    def kind(self) -> str:
        """The type in PEFT's spelling."""
        return types.named(self.type)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self.config_class(), self.config)
        if self.config.get("boft_n_butterfly_factor", 1) != 1:
            raise ValueError(
                "config: 'boft_n_butterfly_factor' must be 1. More needs a kernel that PEFT compiles on a machine with "
                "CUDA; on others, PEFT would take 1 instead."
            )

    def suggest(self, task: Task, base: Base) -> Suggestion:
        """Return the learning rate of `lora`, which is a first guess for the others."""
        return ten_times(base)

    @classmethod
    def for_adapter(cls, settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the type of an adapter and its settings that are no defaults; None if another strategy has it."""
        kind = settings.get("peft_type")
        if kind not in types.trainable() or kind in types.ALSO:
            return None
        defaults = types.config_class(kind)()
        options = {}
        for each in fields(types.config_class(kind)):
            value = settings.get(each.name)
            if each.name not in NOT_OPTIONS and value is not None and value != getattr(defaults, each.name):
                options[each.name] = value
        return {"type": kind, "config": options, "modules_to_save": tuple(settings.get("modules_to_save") or ())}

    def peft_options(self, model: Any, task: Task, *, whole: Collection[str]) -> dict[str, Any]:
        """Return fields of PEFT's configuration that depend on the model: targets, heads, how weights are stored."""
        known = {each.name for each in fields(self.config_class())}
        excluded = {*whole, *head_modules(model, task.peft_type)}
        options = {} if "target_modules" in self.config else self._targets(model, excluded)
        if "exclude_modules" in known:
            options["exclude_modules"] = sorted(excluded) or None
        if "fan_in_fan_out" in known:
            options["fan_in_fan_out"] = has_transposed_weights(model)
        return options

    def _targets(self, model: Any, excluded: Collection[str]) -> dict[str, Any]:
        """Return the modules to adapt if the recipe names none; nothing if PEFT knows them."""
        if self.kind == "IA3":
            return ia3_targets(model)
        if self.kind == "LN_TUNING":
            return {"target_modules": norm_modules(model, exclude=excluded)}
        mapping = getattr(types.tuner_class(self.kind), "target_module_mapping", None)
        if not mapping or model.config.model_type in mapping or "target_parameters" in self.config:
            return {}
        return {"target_modules": lora_targets(model)}

    def patch(self, model: Any) -> Any:
        """Return the wrapped model; for FROD, torch is asked not to warn that it does not check sparse matrices."""
        if self.kind == "FROD":
            disable: Any = torch.sparse.check_sparse_tensor_invariants.disable  # upstream leaves it without types
            disable()
        return model

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Return the model wrapped by PEFT, after a check that what was added changes an output and can train.

        Raises:
            Incompatible: The type cannot wrap the model, or would train nothing or change nothing.
            BadOptions: PEFT refuses a value, or a name matches no module.
        """
        wrapped = super().prepare(model, task, newly_initialized=newly_initialized)
        check_influence(wrapped, kind=self.kind)
        return wrapped


NOT_OPTIONS = frozenset(
    {
        "peft_type", "task_type", "inference_mode", "base_model_name_or_path", "revision", "auto_mapping",
        "peft_version", "modules_to_save",
    }
)  # fmt: skip
"""Fields of PEFT's configurations that say where an adapter comes from, and those that the strategy has itself."""
