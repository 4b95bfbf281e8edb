"""Bottleneck adapters: networks with few units after the layers of a frozen model."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from transformers.activations import ACT2FN

from finetune.errors import BadOptions, Incompatible, did_you_mean
from finetune.interfaces import Base, Strategy, Suggestion, Task
from finetune_adapters import adapters, places
from finetune_adapters.checkpoint import KeepSmall


@dataclass(frozen=True, kw_only=True)
class BottleneckStrategy(Strategy):
    """Trains a narrow network after the attention and the feed-forward network of each layer; the rest stays frozen.

    Before the first step, every output equals that of the base model. What the base model lacks, mainly the head,
    trains whole. Only the trained parameters are saved, about a hundredth of the model. They cannot be merged into the
    weights, because an adapter is not linear.

    Source: Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP".
    """

    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    """`houlsby`: after the attention and the feed-forward network. `pfeiffer`: only after the feed-forward network;
    Pfeiffer et al. 2021 ("AdapterFusion") found it to do as well with half the parameters. The adapter is Houlsby's in
    both cases."""
    reduction_factor: float = 16
    """Width of the hidden states divided by the units of an adapter: 16 gives 48 units for a width of 768."""
    non_linearity: str = "gelu"
    """The activation between the two projections, by its name in transformers: `gelu`, `relu`, `silu`, `tanh`."""
    target_modules: tuple[str, ...] = ()
    """Linear layers that get an adapter, by the ends of their names, instead of those of `placement`:
    `["o_proj", "down_proj"]`."""
    unfrozen_parameters: tuple[str, ...] = ()
    """Further parameters to train, by name, with shell wildcards. Houlsby et al. train the norms: `["*LayerNorm*"]`."""

    def __post_init__(self) -> None:
        if self.reduction_factor <= 0:
            raise ValueError(f"reduction_factor={self.reduction_factor} must be more than 0")
        if self.non_linearity not in ACT2FN:
            known = sorted(ACT2FN)
            hint = did_you_mean(self.non_linearity, known)
            raise ValueError(f"non_linearity={self.non_linearity!r} is unknown.{hint} Known: {', '.join(known)}")

    def suggest(self, task: Task, base: Base) -> Suggestion:
        """Return ten times the learning rate of full fine-tuning, at most the highest rate that was measured."""
        source = f"ten times that of full fine-tuning, at most 5e-3; full is {base.learning_rate:g}: {base.source}"
        return Suggestion(training={"learning_rate": min(10 * base.learning_rate, 5e-3)}, source=source)

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Return the model itself, frozen, with adapters in it.

        Raises:
            Incompatible: The places of the adapters are unknown.
            BadOptions: A name of `target_modules` or `unfrozen_parameters` matches nothing.
        """
        modules = self.modules(model)
        trainable = self._unfrozen(model)
        for name in newly_initialized:
            trainable.extend(_parameters(model, name))
        model.requires_grad_(False)
        for parameter in trainable:
            parameter.requires_grad_(True)
        adapters.insert(model, modules, reduction_factor=self.reduction_factor, activation=self.non_linearity)
        return model

    def modules(self, model: Any) -> list[str]:
        """Return the paths of the linear layers that get an adapter.

        Raises:
            Incompatible: They are unknown.
            BadOptions: A name of `target_modules` matches nothing.
        """
        if self.target_modules:
            return places.match_targets(model, self.target_modules)
        return places.find(model, self.placement)

    def _unfrozen(self, model: Any) -> list[Any]:
        """Return the parameters that match `unfrozen_parameters`."""
        parameters = dict(model.named_parameters(remove_duplicate=False))
        unfrozen: list[Any] = []
        for pattern in self.unfrozen_parameters:
            matches = [p for name, p in parameters.items() if fnmatchcase(name, pattern)]
            if not matches:
                raise BadOptions(
                    f"strategy.unfrozen_parameters: {pattern!r} matches no parameter of {type(model).__name__}. "
                    f"Their names look like {next(iter(parameters))!r}."
                )
            unfrozen.extend(matches)
        return unfrozen

    def callbacks(self) -> Sequence[Any]:
        """Return the callback that keeps checkpoints small."""
        return [KeepSmall()]

    def notes(self, model: Any) -> Sequence[str]:
        """Return how many adapters there are, their units, and their places."""
        names = inserted(model)
        units = sorted({model.get_submodule(name).adapter.down.out_features for name in names})
        kinds = dict.fromkeys(re.sub(r"^.*\.\d+\.", "", name) for name in names)  # without the path of the block
        return [f"{len(names)} adapters of {' or '.join(map(str, units))} units, after {', '.join(kinds)}"]

    def save(self, model: Any, directory: Path) -> None:
        """Write the adapters and the other trained parameters as `bottleneck_adapters.safetensors`."""
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
            Incompatible: The folder does not belong to the base model.
        """
        model, info = model_class.from_pretrained(base, output_loading_info=True, **options)
        missing = [*info["missing_keys"], *(key for key, *_ in info.get("mismatched_keys", ()))]
        try:
            return adapters.attach(model, directory, missing=missing)
        except ValueError as error:
            raise Incompatible(f"strategy: {error}") from error


def inserted(model: Any) -> list[str]:
    """Return the paths of the linear layers that have an adapter."""
    suffix = f".{adapters.ADAPTER}"
    found = [name for name, module in model.named_modules() if isinstance(module, adapters.Bottleneck)]
    return [name.removesuffix(suffix) for name in found]


def _parameters(model: Any, module: str) -> list[Any]:
    """Return the parameters of a module; for the module ``""``, those that are in no module."""
    return list(model.get_submodule(module).parameters(recurse=bool(module)))
