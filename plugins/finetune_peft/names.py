"""Check that each name in a configuration of PEFT matches something in the model."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from finetune.errors import BadOptions, did_you_mean

ALL_LINEAR = "all-linear"
"""PEFT's word for every linear layer."""
SUFFIXES = ("target_modules", "modules_to_save", "exclude_modules", "feedforward_modules", "trainable_token_indices")
"""Fields that name modules by the ends of their names; a text instead of a list is a regular expression."""
PATTERNS = ("rank_pattern", "alpha_pattern")
"""Fields whose keys are regular expressions for the ends of names."""
EXAMPLES = 6
"""How many names a message shows if none is similar."""


def check_names(model: Any, config: Any) -> None:
    """Check each name in a configuration against a model.

    PEFT ignores a name that matches nothing, unless no name matches.

    Args:
        model: Before PEFT wraps it.
        config: A `peft.PeftConfig`.

    Raises:
        BadOptions: A pattern is not a regular expression, or a name matches nothing: one line for each, with the most
            similar name.
    """
    problems = list(_problems(model, config))
    if problems:
        raise BadOptions("\n".join(problems))


def _problems(model: Any, config: Any) -> Iterator[str]:
    modules = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    parameters = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    kind = type(model).__name__
    for field in SUFFIXES:
        value = getattr(config, field, None)
        if isinstance(value, str):
            if value.lower() != ALL_LINEAR and not any(_matches(value, name) for name in modules):
                yield _no_full_match(field, value, modules, kind)
        elif isinstance(value, Collection):
            names = [name for name in value if isinstance(name, str)]  # `trainable_token_indices` may hold numbers only
            for name in _unknown(names, modules, _ends_in):
                yield _unknown_name(field, name, modules, kind, model)
    for field in PATTERNS:
        for name in _unknown(getattr(config, field, None) or (), modules, _ends_in_pattern):
            yield _unknown_name(field, name, modules, kind, model)
    for name in _unknown(getattr(config, "target_parameters", None) or (), parameters, _ends_in):
        hint = did_you_mean(name, _endings(parameters, name))
        yield f"strategy: target_parameters {name!r} names no parameter of {kind}.{hint}"


def _unknown(names: Iterable[str], known: Collection[str], matches: Callable[[str, str], bool]) -> list[str]:
    """Return the names that match nothing, in alphabetical order, because PEFT keeps some fields as sets."""
    return sorted(name for name in names if not any(matches(each, name) for each in known))


def _unknown_name(field: str, name: str, modules: Collection[str], kind: str, model: Any) -> str:
    hint = did_you_mean(name, _endings(modules, name))
    if not hint:
        layers = [each for each, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
        examples = dict.fromkeys(each.rpartition(".")[2] for each in layers)
        hint = f" The names of its linear layers end in {', '.join(list(examples)[:EXAMPLES])}."
    return f"strategy: {field} {name!r} names no module of {kind}.{hint}"


def _no_full_match(field: str, pattern: str, modules: Collection[str], kind: str) -> str:
    problem = f"strategy: {field} {pattern!r} is a regular expression that matches no complete name in {kind}."
    if any(_ends_in(name, pattern) for name in modules):
        return f"{problem} To name modules by the ends of their names, write a list: [{pattern}]."
    return f"{problem}{did_you_mean(pattern, _endings(modules, pattern))}"


def _endings(names: Iterable[str], like: str) -> list[str]:
    """Return the ends of names, with as many parts as a given name has."""
    count = like.count(".") + 1
    endings = {".".join(name.split(".")[-count:]) for name in names}
    return sorted(ending for ending in endings if not ending.isdecimal())


def _ends_in(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")


def _ends_in_pattern(name: str, pattern: str) -> bool:
    return _matches(rf"(.*\.)?({pattern})", name)


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise BadOptions(f"strategy: {pattern!r} is not a regular expression: {error}.") from error
