"""Bottleneck adapters: insert them into a model, save and load them.

This file needs only torch, transformers and safetensors. Copy it next to a saved model to load the model without this
library.
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
"""Name of the adapter inside the module whose output it changes."""


class Bottleneck(nn.Module):
    """Adds an update to the hidden states, computed by a network with few units.

    The up-projection starts at zero, so the update is exactly zero before the first step. (Houlsby et al. initialize
    both projections near zero; training then starts from a slightly changed model.)

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
        """Return the updated states, in their own precision."""
        # always in float32: with bfloat16 weights, small optimizer steps would be lost by rounding
        compressed = self.activation(self.down(hidden.to(self.down.weight.dtype)))
        updated: Tensor = hidden + self.up(compressed).to(hidden.dtype)
        return updated


def width_of(module: nn.Module) -> int | None:
    """Return the output width of a linear layer; None for any other module."""
    # `nf` is the name in Conv1D, GPT-2's linear layer
    width = getattr(module, "out_features", getattr(module, "nf", None))
    return width if isinstance(width, int) else None


def units_of(width: int, reduction_factor: float) -> int:
    """Return the number of units of an adapter.

    >>> units_of(768, 16), units_of(32, 64)
    (48, 1)
    """
    return max(1, int(width / reduction_factor))


def insert(model: Any, modules: Sequence[str], *, reduction_factor: float, activation: str) -> None:
    """Add an adapter after each of some linear layers; no module of the model is replaced or renamed."""
    device = next(model.parameters()).device
    for name in modules:
        module = model.get_submodule(name)
        width = width_of(module)
        assert width is not None, f"{name} is not a linear layer"
        adapter = Bottleneck(width, units_of(width, reduction_factor), activation)
        module.add_module(ADAPTER, adapter.to(device))
        module.register_forward_hook(_apply_adapter)


def _apply_adapter(module: Any, arguments: Any, output: Tensor) -> Tensor:
    updated: Tensor = module.adapter(output)
    return updated


def trainable_parameters(model: Any) -> dict[str, Tensor]:
    """Return the trainable parameters, by name."""
    return {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}


def save(model: Any, directory: Path, settings: Mapping[str, Any]) -> None:
    """Write the trained parameters, the settings of the adapters, and the model's configuration with its labels."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file(trainable_parameters(model), directory / WEIGHTS, metadata={"format": "pt"})
    content = {
        "base_model_name_or_path": model.config._name_or_path,
        "model_class": type(model).__name__,
        **settings,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / CONFIG).write_text(text + "\n", encoding="utf-8")
    model.config.save_pretrained(directory)


def attach(model: Any, directory: str | Path, *, missing: Sequence[str] = ()) -> Any:
    """Return a base model with the adapters and the other trained parameters of a folder.

    Args:
        model: The base model with its head.
        directory: The folder that `save` wrote.
        missing: Names of weights that the base model lacks; the folder must have them.

    Raises:
        ValueError: The folder does not belong to the model.
    """
    config = json.loads((Path(directory) / CONFIG).read_text(encoding="utf-8"))
    weights = load_file(Path(directory) / WEIGHTS)
    unknown = set(config["modules"]) - {name for name, _ in model.named_modules()}
    if unknown:
        raise ValueError(
            f"{directory} has an adapter for {min(unknown)!r}, which {type(model).__name__} lacks. Was it trained on "
            "another base model?"
        )
    insert(model, config["modules"], reduction_factor=config["reduction_factor"], activation=config["non_linearity"])
    _check_weights(model, weights, directory, missing=missing)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)
    return model.requires_grad_(False).eval()


def _check_weights(model: Any, weights: Mapping[str, Tensor], directory: str | Path, *, missing: Sequence[str]) -> None:
    """Check that the saved weights include each adapter and all that the base model lacks, and nothing unknown."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    # by identity, because a tied parameter may be saved under any of its names
    saved = {id(parameters[name]) for name in weights if name in parameters}
    lacking: list[str] = []
    for name, parameter in parameters.items():
        is_needed = f".{ADAPTER}." in name or name in missing
        if is_needed and id(parameter) not in saved:
            lacking.append(name)
    unknown = sorted(set(weights) - set(parameters))
    if lacking or unknown:
        raise ValueError(
            f"{directory} does not fit {type(model).__name__}: it lacks {sorted(lacking)[:3]} and has "
            f"{unknown[:3]}, which are not in the model. Was it trained on another base model?"
        )


def load(directory: str | Path, base: str | Path | None = None, **options: Any) -> Any:
    """Return the model that a run saved, ready to use: base model, adapters and head.

    Args:
        directory: The run folder.
        base: The base model, if it is in another place than during training.
        **options: Further arguments of `from_pretrained`.
    """
    config = json.loads((Path(directory) / CONFIG).read_text(encoding="utf-8"))
    model_class = getattr(transformers, config["model_class"])
    model, info = model_class.from_pretrained(
        base or config["base_model_name_or_path"],
        config=transformers.AutoConfig.from_pretrained(directory),
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # a head of another size; the folder holds the trained one
        **options,
    )
    missing = [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])]
    return attach(model, directory, missing=missing)
