"""Options of TRL with a few values, and those that would be ignored, are refused before data is read."""

from __future__ import annotations

import dataclasses
import inspect
from importlib import import_module
from typing import Any

import pytest

from finetune.errors import BadOptions
from finetune.plugins import discover, resolve
from finetune_trl.refused_options import CHOICES, check_training

TASKS = {name: discover().find("tasks", name) for name in ("sft", "dpo", "kto", "reward", "rloo", "grpo")}


def defaults_of(config: Any) -> dict[str, Any]:
    """Return the defaults of options, without building the class: it would warn."""
    found = {}
    for field in dataclasses.fields(config):
        made = field.default_factory
        found[field.name] = field.default if made is dataclasses.MISSING else made()
    return found


@pytest.mark.parametrize("name", TASKS)
def test_the_values_are_those_that_the_trainer_knows(name: str) -> None:
    config = resolve(TASKS[name].arguments)
    defaults = defaults_of(config)
    source = inspect.getsource(import_module(f"trl.trainer.{name}_trainer"))
    for option, choices in CHOICES[config.__name__].items():
        assert all(f'"{choice}"' in source for choice in choices), (option, choices)
        default = defaults[option]
        assert ({default} if isinstance(default, str) else set(default)) <= set(choices)


@pytest.mark.parametrize("name", TASKS)
def test_another_value_is_refused_with_the_nearest(name: str) -> None:
    config = resolve(TASKS[name].arguments)
    for option, choices in CHOICES[config.__name__].items():
        for choice in choices:
            check_training(TASKS[name], {option: choice})
            with pytest.raises(
                BadOptions, match=f"training: '{option}' cannot be '{choice}x'. Did you mean '{choice}'"
            ):
                check_training(TASKS[name], {option: f"{choice}x"})
    if name == "dpo":
        check_training(TASKS[name], {"loss_type": ["sigmoid", "sft"]})
        with pytest.raises(BadOptions, match=r"'loss_type' cannot be 'stf'. Did you mean 'sft'"):
            check_training(TASKS[name], {"loss_type": ["sigmoid", "stf"]})
    if name == "grpo":
        check_training(TASKS[name], {"scale_rewards": False})


@pytest.mark.parametrize("name", TASKS)
def test_an_option_that_would_be_ignored_is_refused_before_data_is_read(name: str) -> None:
    check_training(TASKS[name], TASKS[name].training)
    with pytest.raises(BadOptions, match="'model_init_kwargs' would be ignored"):
        check_training(TASKS[name], {"model_init_kwargs": {"x": 1}})
    with pytest.raises(BadOptions, match="'activation_checkpointing'"):
        check_training(TASKS[name], {"gradient_checkpointing": True})
