"""The learning rate of a recipe that states none, and what `finetune init` prints: by model, task and strategy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from finetune import models
from finetune.errors import BadRecipe
from finetune.interfaces import Base, Strategy, Suggestion, Task
from finetune.recipe import Model, Recipe

Kind = Literal["encoder", "encoder-decoder", "decoder"]

MILLION = 10**6
_DEVLIN = "Devlin et al. 2019, appendix A.3"
_LIU = "Liu et al. 2019 (RoBERTa), table 10"
_T5 = "documentation of T5 in transformers"
_TOUVRON = "Touvron et al. 2023 (Llama 2), section 3.1"


@dataclass(frozen=True)
class Family:
    """Models that learn at the same rates."""

    key: str
    kind: Kind
    name: str
    """What messages call one."""


ENCODER = Family("encoder", "encoder", "an encoder")
T5 = Family("t5", "encoder-decoder", "a T5")
ENCODER_DECODER = Family("encoder-decoder", "encoder-decoder", "an encoder-decoder")
DECODER = Family("decoder", "decoder", "a decoder")


@dataclass(frozen=True)
class Level:
    """A learning rate for all models of a kind below a size."""

    below: float
    """Number of parameters."""
    rate: float
    source: str
    """Where the rate comes from."""


LEVELS: Mapping[str, tuple[Level, ...]] = {
    "encoder": (
        Level(5 * MILLION, 1e-3, "half of the rate at which the sample encoder was pretrained"),
        Level(50 * MILLION, 1.5e-4, "measured on MiniLM, see the page “Which strategy”"),
        Level(200 * MILLION, 5e-5, f"{_DEVLIN}: 2e-5 to 5e-5 for BERT-base"),
        Level(float("inf"), 2e-5, f"{_LIU}: 1e-5 to 3e-5 for RoBERTa-large"),
    ),
    "t5": (
        Level(5 * MILLION, 3e-3, "the rate of the recipes for the sample T5"),
        Level(float("inf"), 3e-4, f"{_T5}: 1e-4 to 3e-4"),
    ),
    "encoder-decoder": (
        Level(5 * MILLION, 3e-3, "the rate of the recipes for the sample T5"),
        Level(200 * MILLION, 5e-5, "default of transformers' examples for BART, Marian and Pegasus"),
        Level(float("inf"), 3e-5, "Lewis et al. 2020 (BART): 3e-5 for BART-large"),
    ),
    "decoder": (
        Level(5 * MILLION, 2e-3, "a rate at which the sample decoder learns instructions"),
        Level(500 * MILLION, 1e-4, "a cautious choice for little data; SmolLM2 was tuned at 1e-3 on much"),
        Level(float("inf"), 2e-5, f"{_TOUVRON}: 2e-5"),
    ),
}
"""Key of a family → learning rates of full fine-tuning with AdamW, by size."""

TYPICAL: Mapping[str, int] = {
    "encoder": 110 * MILLION, "t5": 220 * MILLION, "encoder-decoder": 400 * MILLION, "decoder": 1000 * MILLION,
}  # fmt: skip
"""Key of a family → parameters of a model about which nothing else is known."""
NAMED: Mapping[str, int] = {"tiny": 14, "mini": 22, "small": 60, "distil": 66, "base": 110, "large": 335}
"""Part of a model's name → its millions of parameters."""
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-z])")
"""A size in the name of a model: `SmolLM2-135M`, `Qwen2.5-0.5B`."""


def suggest(
    model: Model, task: Task, strategy: Strategy, *, folder: str | None = None, offline: bool = False
) -> Suggestion | None:
    """Return the training options that suit a model, a task and a strategy; None if nothing is known of the model.

    Args:
        model: The model of a recipe.
        task: What it learns.
        strategy: How it is trained.
        folder: Where the model is, if the recipe names it by the scheme of a plugin.
        offline: Whether only files of this machine may be read. Without them, the name of the model counts.
    """
    base = describe(model, task, folder=folder, offline=offline)
    if base is None:
        return None
    found = strategy.suggest(task, base)
    rate, factor = found.training.get("learning_rate"), task.learning_rate_factor
    if rate is None:
        return found
    source = found.source if factor == 1 else f"{found.source}; this task takes {factor:g} of it"
    return replace(found, training={**found.training, "learning_rate": _rounded(rate * factor)}, source=source)


def describe(model: Model, task: Task, *, folder: str | None = None, offline: bool = False) -> Base | None:
    """Return what is known of a model, with its learning rate of full fine-tuning; None if nothing is known.

    A rate that the task states comes first: that of its ``training``, or of its ``starter`` for the same model.

    Args:
        model: The model of a recipe.
        task: What it learns.
        folder: Where the model is, if the recipe names it by the scheme of a plugin.
        offline: Whether only files of this machine may be read. Without them, the name of the model counts.
    """
    stated = task.training.get("learning_rate")
    if stated is None and model.path == task.starter.get("model", {}).get("path"):
        stated = task.starter.get("training", {}).get("learning_rate")
    located = replace(model, path=folder or model.path)
    has_scheme = ":" in located.path and not located.path.startswith(models.PACKAGE)
    if has_scheme and stated is None:
        return None
    config = None if has_scheme else _config(located, offline=offline)
    if config is None:
        family, size, about = _family_by_name(model.path, task), _size_by_name(model.path), ", as its name says"
    else:
        family, size, about = _family(config), _size(config), ""
    if size is None:
        size, about = TYPICAL[family.key], ", a guess"
    level = next(level for level in LEVELS[family.key] if size < level.below)
    rate, source = level.rate, f"{level.source} (this is {family.name} of {_written(size)} parameters{about})"
    if stated is not None:
        rate, source = stated / task.learning_rate_factor, "the rate of this task's own recipe for this model"
    return Base(kind=family.kind, parameters=size, learning_rate=rate, source=source)


def choose(recipe: Recipe, task: Task, strategy: Strategy, *, folder: str) -> Suggestion | None:
    """Return the learning rate of a run whose recipe states none, and its source; None if the recipe states one.

    The rates are those of AdamW. With another optimizer, upstream's default stays.

    Args:
        recipe: What to do.
        task: What the model learns.
        strategy: How it is trained.
        folder: Where the model is.
    """
    if "learning_rate" in recipe.training or "adamw" not in str(recipe.training.get("optim") or "adamw"):
        return None
    found = suggest(recipe.model, task, strategy, folder=folder)
    if found is None or "learning_rate" not in found.training:
        return None
    return replace(found, training={"learning_rate": found.training["learning_rate"]})


def _config(model: Model, *, offline: bool) -> Any:
    """Return the configuration of a model; None if it cannot be read, which loading the model reports."""
    try:
        return models.config_of(model, local_files_only=offline)
    except (OSError, ValueError, BadRecipe):
        return None


def _family(config: Any) -> Family:
    """Return the family of a model by its configuration."""
    if config.is_encoder_decoder:
        return T5 if "t5" in config.model_type else ENCODER_DECODER
    return DECODER if models.is_decoder(config) else ENCODER


def _family_by_name(path: str, task: Task) -> Family:
    """Return the family of a model by its name and the class that the task loads."""
    if "Seq2SeqLM" in task.model_class:
        return T5 if "t5" in path.lower() else ENCODER_DECODER
    return DECODER if "CausalLM" in task.model_class else ENCODER


def _rounded(rate: float) -> float:
    """Return a rate with two significant digits.

    >>> _rounded(0.05 * 1e-4), _rounded(3 * 1.5e-4)
    (5e-06, 0.00045)
    """
    return float(f"{rate:.1e}")


def _size(config: Any) -> int | None:
    """Return the number of parameters of a model, without a head; None if the model cannot be built."""
    return _counted(config.to_json_string(use_diff=False))


@lru_cache(maxsize=8)
def _counted(text: str) -> int | None:
    import torch
    from transformers import AutoConfig, AutoModel

    make: Callable[..., torch.nn.Module] = AutoModel.from_config  # upstream leaves it without types
    try:
        config = AutoConfig.for_model(**json.loads(text))
        with torch.device("meta"):
            model = make(config, trust_remote_code=False)
    except (ValueError, ImportError):  # a class that `AutoModel` does not have, or a library that is not installed
        return None
    return sum(parameter.numel() for parameter in model.parameters())


def _size_by_name(path: str) -> int | None:
    """Return the number of parameters that the name of a model states; None if it states nothing.

    >>> _size_by_name("HuggingFaceTB/SmolLM2-135M"), _size_by_name("Qwen/Qwen2.5-0.5B-Instruct")
    (135000000, 500000000)
    >>> _size_by_name("google-bert/bert-base-uncased"), _size_by_name("me/model")
    (110000000, None)
    """
    name = path.rpartition("/")[2].lower()
    if found := _SIZE.search(name):
        return round(float(found[1]) * (MILLION if found[2] == "m" else 1000 * MILLION))
    return next((millions * MILLION for part, millions in NAMED.items() if part in name), None)


def _written(size: int) -> str:
    """Return a number of parameters for people.

    >>> _written(22_713_216), _written(1_100_000), _written(7_000_000_000)
    ('23M', '1M', '7B')
    """
    return f"{size / MILLION:.0f}M" if size < 1000 * MILLION else f"{size / MILLION / 1000:.2g}B"
