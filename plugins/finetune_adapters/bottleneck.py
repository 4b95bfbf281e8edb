"""Adapters of a few units between the layers; the rest stays as it is."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from transformers.activations import ACT2FN

from finetune.errors import BadOptions, Incompatible, did_you_mean
from finetune.interfaces import Strategy, Task
from finetune_adapters import adapters, places
from finetune_adapters.checkpoint import KeepSmall


@dataclass(frozen=True, kw_only=True)
class BottleneckStrategy(Strategy):
    """Trains a narrow network behind attention and feed-forward network of each layer; the model stays as it is.

    Before the first step, every output is the base model's. What the base lacks, the head above all, trains whole. The
    adapters are saved alone, some hundredth of the model; they cannot be folded into it, because there is a
    non-linearity in them.

    Source: Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP".
    """

    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    """Behind attention and feed-forward network (`houlsby`), or behind the feed-forward network alone, which Pfeiffer
    et al. 2021 ("AdapterFusion") found to do as well with half the parameters (`pfeiffer`). The adapter is Houlsby's
    either way."""
    reduction_factor: float = 16
    """How many times narrower an adapter is than the hidden states: 16 gives 48 units where they have 768."""
    non_linearity: str = "gelu"
    """Between the two projections, by its name in transformers: `gelu`, `relu`, `silu`, `tanh`."""
    target_modules: tuple[str, ...] = ()
    """Linear layers to put an adapter behind, by the ends of their names, instead of those of `placement`:
    `["o_proj", "down_proj"]`."""
    train: tuple[str, ...] = ()
    """Further parameters to train, by name, with shell wildcards: `["*LayerNorm*"]`, which Houlsby trained as well."""

    def __post_init__(self) -> None:
        if self.reduction_factor <= 0:
            raise ValueError(f"reduction_factor={self.reduction_factor} must be more than 0")
        if self.non_linearity not in ACT2FN:
            known = sorted(ACT2FN)
            hint = did_you_mean(self.non_linearity, known)
            raise ValueError(f"non_linearity={self.non_linearity!r} is unknown.{hint} Known: {', '.join(known)}")

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Return the model itself, frozen, with adapters in it.

        Raises:
            Incompatible: The places of the adapters cannot be found.
            BadOptions: A name of `target_modules` or `train` fits nothing.
        """
        modules = self.modules(model)
        trains = {id(p) for name in newly_initialized for p in _parameters(model, name)} | {
            id(p) for p in self._chosen(model)
        }
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in trains)
        adapters.insert(model, modules, reduction_factor=self.reduction_factor, activation=self.non_linearity)
        return model

    def modules(self, model: Any) -> list[str]:
        """Return the paths of the linear layers that get an adapter.

        Raises:
            Incompatible: They cannot be found.
            BadOptions: A name of `target_modules` fits nothing.
        """
        return places.named(model, self.target_modules) if self.target_modules else places.find(model, self.placement)

    def _chosen(self, model: Any) -> list[Any]:
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for pattern in self.train:
            if not any(fnmatchcase(name, pattern) for name in parameters):
                raise BadOptions(
                    f"strategy: train: {pattern!r} matches no parameter of {type(model).__name__}. "
                    f"They are called like {next(iter(parameters))!r}."
                )
        return [p for name, p in parameters.items() if any(fnmatchcase(name, pattern) for pattern in self.train)]

    def callbacks(self) -> Sequence[Any]:
        """Return what keeps checkpoints small."""
        return [KeepSmall()]

    def notes(self, model: Any) -> Sequence[str]:
        """Return how many adapters there are, how wide, and where."""
        found = inserted(model)
        units = sorted({model.get_submodule(name).adapter.down.out_features for name in found})
        kinds = dict.fromkeys(re.sub(r"^.*\.\d+\.", "", name) for name in found)  # without the block's path
        return [f"{len(found)} adapters of {' or '.join(map(str, units))} units, behind {', '.join(kinds)}"]

    def save(self, model: Any, directory: Path) -> None:
        """Write the adapters, and what trained beside them, as `bottleneck_adapters.safetensors`."""
        settings = {
            "placement": None if self.target_modules else self.placement,
            "reduction_factor": self.reduction_factor,
            "non_linearity": self.non_linearity,
            "modules": inserted(model),
        }
        adapters.save(model, directory, settings)

    def load(self, directory: Path, *, model_class: Any, base: str, options: Mapping[str, Any]) -> Any:
        """Load the base model, and the adapters into it.

        Raises:
            Incompatible: The folder does not fit the base model.
        """
        model, info = model_class.from_pretrained(base, output_loading_info=True, **options)
        missing = [*info["missing_keys"], *(key for key, *_ in info.get("mismatched_keys", ()))]
        try:
            return adapters.attach(model, directory, missing=missing)
        except ValueError as error:
            raise Incompatible(f"strategy: {error}") from error


def inserted(model: Any) -> list[str]:
    """Return the paths of the linear layers that have an adapter."""
    end = f".{adapters.ADAPTER}"
    return [name.removesuffix(end) for name, m in model.named_modules() if isinstance(m, adapters.Bottleneck)]


def _parameters(model: Any, module: str) -> list[Any]:
    """Return the parameters of a module; of the model itself, those that stand in no module."""
    return list(model.get_submodule(module).parameters(recurse=bool(module)))
