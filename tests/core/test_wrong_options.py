"""Each option of each class refuses a value of another kind, and names itself."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments
from transformers.training_args import OptimizerNames

from finetune.errors import BadOptions, MissingLibrary
from finetune.plugins import discover, resolve
from finetune.recipe import options
from finetune.training.arguments import (
    NEUTRAL,
    OPTIMIZERS,
    check_arguments,
    check_installed,
    choices_of,
)
from finetune.training.training_names import OURS

FOUND = discover()
WRONG: tuple[Any, ...] = ({"no": {"such": ["value"]}}, [[["no"]]], "no such value", -1.5)
"""Values of four kinds; each option refuses one of them."""


def classes() -> list[type]:
    """Return every class whose options a recipe can set."""
    found = []
    for hook in ("strategies", "preprocessors", "evaluators"):
        found += [FOUND.find(hook, name) for name in FOUND.catalogues[hook].available]
    for name in FOUND.catalogues["tasks"].available:
        task = FOUND.find("tasks", name)
        found += [resolve(task.preprocessor), resolve(task.evaluator)]
    return [cls for cls in dict.fromkeys(found) if dataclasses.is_dataclass(cls)]


def trainer_options() -> Iterator[tuple[type, dataclasses.Field[Any], Any]]:
    """Yield the class, the field and the annotation of each option of each class of training options."""
    seen = set()
    for name in FOUND.catalogues["tasks"].available:
        cls = resolve(FOUND.find("tasks", name).arguments)
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            if field.init and field.name not in OURS and (field.name, str(hints[field.name])) not in seen:
                seen.add((field.name, str(hints[field.name])))
                yield cls, field, hints[field.name]


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_an_option_of_a_class_refuses_a_value_of_another_kind(cls: type) -> None:
    for option in options.document(cls):
        refusals = []
        for value in WRONG:
            try:
                options.build(cls, {option.name: value}, where="section")
            except BadOptions as error:
                refusals += [str(error)] if f"{option.name}" in str(error) else []
        assert refusals, f"{cls.__name__}.{option.name} takes everything"
        assert all("\n" not in message for message in refusals), refusals


def test_an_option_of_a_trainer_refuses_a_value_of_another_kind() -> None:
    for cls, field, _ in trainer_options():
        refusals = []
        for value in WRONG:
            try:
                check_arguments(cls, {field.name: value})
            except BadOptions as error:
                refusals.append(str(error))
        assert refusals, f"{cls.__name__}.{field.name} takes everything"
        assert all(f"'{field.name}'" in message and "\n" not in message for message in refusals), refusals


def test_an_option_with_a_few_values_names_the_nearest() -> None:
    found = {}
    for cls, field, hint in trainer_options():
        choices = choices_of(field, hint)
        if not choices:
            continue
        found[field.name] = choices
        for choice in choices:
            if field.name not in NEUTRAL:
                check_arguments(cls, {field.name: choice, **({"save_strategy": "no"} if field.name == "optim" else {})})
        with pytest.raises(BadOptions, match=f"'{field.name}' cannot be 'x{choices[0]}'. Did you mean '"):
            check_arguments(cls, {field.name: f"x{choices[0]}"})
    assert {"optim", "lr_scheduler_type", "eval_strategy", "save_strategy", "log_level"} <= found.keys()


@pytest.mark.parametrize("optimizer", [each.value for each in OptimizerNames])
def test_an_optimizer_that_transformers_cannot_make_here_is_refused_with_the_command(optimizer: str) -> None:
    arguments = TrainingArguments(output_dir="x", optim=optimizer, optim_target_modules=["0"], report_to="none")
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    try:
        Trainer.get_optimizer_cls_and_kwargs(arguments, model)  # type: ignore[arg-type]
    except (ImportError, ValueError):
        with pytest.raises(MissingLibrary, match=f"'optim': '{optimizer}' needs .* pip install "):
            check_installed({"optim": optimizer})
    else:
        check_installed({"optim": optimizer})


def test_a_library_of_an_option_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.training.arguments.find_spec", lambda _: SimpleNamespace())
    for optimizer in OPTIMIZERS:
        check_installed({"optim": optimizer, "use_liger_kernel": True})
    monkeypatch.setattr("finetune.training.arguments.find_spec", lambda _: None)
    with pytest.raises(MissingLibrary, match=r"'use_liger_kernel' needs liger_kernel, .* pip install liger-kernel; or"):
        check_installed({"use_liger_kernel": True})
