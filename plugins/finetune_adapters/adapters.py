"""The adapters themselves, and how to put them into a model, save and load them.

This file needs torch, transformers and safetensors, and nothing of ours: copy it beside a model that was saved here,
and the model can be loaded without this library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.activations import ACT2FN

WEIGHTS = "bottleneck_adapters.safetensors"
CONFIG = "bottleneck_config.json"
ADAPTER = "adapter"
"""Name of the adapter inside the module whose output it corrects."""


class Bottleneck(nn.Module):
    """Adds to what it is given a correction that has to pass through a few units.

    The upward projection begins at zero, so that the correction does too, exactly. (Houlsby drew both projections
    nearly zero; then the first step starts from a slightly disturbed model.)

    Source: Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP", section 2.1 and figure 2.
    """

    def __init__(self, width: int, units: int, activation: str) -> None:
        super().__init__()
        self.down = nn.Linear(width, units)
        self.activation = ACT2FN[activation]
        self.up = nn.Linear(units, width)
        nn.init.normal_(self.down.weight, std=0.01)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, hidden: Tensor) -> Tensor:  # (…, width) → (…, width)
        """Return the corrected states, in the precision that they came in."""
        # In float32 whatever the model's own precision: small updates of bfloat16 weights are rounded away.
        correction = self.up(self.activation(self.down(hidden.to(self.down.weight.dtype))))
        corrected: Tensor = hidden + correction.to(hidden.dtype)
        return corrected


def width_of(module: nn.Module) -> int | None:
    """Return how many numbers a linear layer puts out for a token; None if it is no linear layer.

    GPT-2 has a class of its own for them.
    """
    width = getattr(module, "out_features", getattr(module, "nf", None))
    return width if isinstance(width, int) else None


def units_of(width: int, reduction_factor: float) -> int:
    """Return how many units an adapter has.

    >>> units_of(768, 16), units_of(32, 64)
    (48, 1)
    """
    return max(1, int(width / reduction_factor))


def insert(model: Any, modules: Sequence[str], *, reduction_factor: float, activation: str) -> None:
    """Put an adapter behind each of some linear layers; no module of the model is replaced or renamed."""
    device = next(model.parameters()).device
    for name in modules:
        module = model.get_submodule(name)
        width = width_of(module)
        assert width is not None, f"{name} is no linear layer"
        adapter = Bottleneck(width, units_of(width, reduction_factor), activation)
        module.add_module(ADAPTER, adapter.to(device))
        module.register_forward_hook(_correct)


def _correct(module: Any, arguments: Any, output: Tensor) -> Tensor:
    corrected: Tensor = module.adapter(output)
    return corrected


def trained(model: Any) -> dict[str, Tensor]:
    """Return the parameters that train, by name."""
    return {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}


def save(model: Any, directory: Path, settings: Mapping[str, Any]) -> None:
    """Write what was trained, what it belongs to, and the model's configuration, labels and all."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file(trained(model), directory / WEIGHTS, metadata={"format": "pt"})
    content = {
        "base_model_name_or_path": model.config._name_or_path,
        "model_class": type(model).__name__,
        **settings,
    }
    (directory / CONFIG).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    model.config.save_pretrained(directory)


def attach(model: Any, directory: str | Path, *, missing: Sequence[str] = ()) -> Any:
    """Return a base model with the adapters of a folder in their places, and all that was trained beside them.

    Args:
        model: The base model with its head.
        directory: What `save` wrote.
        missing: Weights that the base lacks, which therefore must be in the folder.

    Raises:
        ValueError: The folder does not fit the model.
    """
    config = json.loads((Path(directory) / CONFIG).read_text(encoding="utf-8"))
    weights = load_file(Path(directory) / WEIGHTS)
    known = {name for name, _ in model.named_modules()}
    if not known.issuperset(config["modules"]):
        lost = min(set(config["modules"]) - known)
        raise ValueError(
            f"{directory} has an adapter for {lost!r}, which {type(model).__name__} lacks. Is it the base model that "
            "was trained on?"
        )
    insert(model, config["modules"], reduction_factor=config["reduction_factor"], activation=config["non_linearity"])
    adapters = {name for name, _ in model.named_parameters() if f".{ADAPTER}." in name}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    covered = {id(parameters[name]) for name in weights if name in parameters}  # under whichever name, if tied
    needed = {*adapters, *missing} & set(parameters)
    lacking = sorted(name for name in needed if id(parameters[name]) not in covered)
    strange = sorted(set(weights) - set(parameters))
    if lacking or strange:
        raise ValueError(
            f"{directory} does not fit {type(model).__name__}: it lacks {lacking[:3]}, and brings {strange[:3]}, which "
            "the model has no place for. Is it the base model that was trained on?"
        )
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)
    return model.requires_grad_(False).eval()


def load(directory: str | Path, base: str | Path | None = None, **options: Any) -> Any:
    """Return the model that a run saved, ready to use: base, adapters, head.

    Args:
        directory: The run folder.
        base: The base model, if it is no longer where it was.
        **options: Further arguments of `from_pretrained`.
    """
    config = json.loads((Path(directory) / CONFIG).read_text(encoding="utf-8"))
    model_class = getattr(transformers, config["model_class"])
    model, info = model_class.from_pretrained(
        base or config["base_model_name_or_path"],
        config=transformers.AutoConfig.from_pretrained(directory),
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # a head of another size: ours comes with the adapters
        **options,
    )
    missing = [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])]
    return attach(model, directory, missing=missing)
