"""Which options of training a device gives a run, asked of the function that decides: no test needs a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune import models
from finetune.interfaces import Strategy, Task
from finetune.plugins import discover
from finetune.recipe import parse, starter
from finetune.training import arguments, device_defaults
from finetune.training.device_defaults import Device, this_device

CPU = Device(is_accelerator=False)
GPU = Device(is_accelerator=True, has_bf16=True)
OLD_GPU = Device(is_accelerator=True)
FOUND = discover()
FULL: Strategy = FOUND.find("strategies", "full")()
TASK = Task(
    summary="", model_class="", peft_type=None, features=frozenset(), labels=frozenset(), preprocessor="", evaluator="",
    training={"bf16": False, "max_length": None},
    training_on_accelerator={"bf16": True, "activation_checkpointing": True},
)  # fmt: skip


def defaults(device: Device, strategy: Strategy = FULL, **training: Any) -> dict[str, Any]:
    return device_defaults.device_defaults(TASK, strategy, training, device=device)


def test_a_cpu_changes_nothing() -> None:
    assert defaults(CPU) == {}


def test_a_gpu_gives_what_the_task_says() -> None:
    assert defaults(GPU) == {"bf16": True, "activation_checkpointing": True}


def test_a_gpu_without_bfloat16_computes_in_float32() -> None:
    assert defaults(OLD_GPU) == {"bf16": False, "activation_checkpointing": True}


def test_half_precision_of_the_recipe_takes_the_place_of_bfloat16() -> None:
    assert defaults(GPU, fp16=True)["bf16"] is False


@pytest.mark.parametrize("name", sorted(FOUND.catalogues["strategies"].targets))
def test_checkpointing_is_on_where_the_strategy_can_train_with_it(name: str) -> None:
    strategy = FOUND.find("strategies", name)
    if not isinstance(strategy, type):
        pytest.skip("a strategy that is made by a function")
    on = defaults(GPU, strategy.__new__(strategy))["activation_checkpointing"]
    assert on is (name not in {"prefix", "gradual", "frozen"})


@given(training=st.dictionaries(st.sampled_from(["bf16", "activation_checkpointing"]), st.booleans()))
def test_the_recipe_has_the_last_word(training: dict[str, bool]) -> None:
    content = {"task": "sft", "model": "x", "dataset": "rows.jsonl", "strategy": "full", "output": "run"}
    recipe = parse({**content, "training": training})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arguments, "this_device", lambda _: GPU)
        made = arguments.arguments(recipe, TASK, FULL, evaluator=None, validation=False)  # type: ignore[arg-type]
    assert made["max_length"] is None
    for name in ("bf16", "activation_checkpointing"):
        assert made[name] is training.get(name, True)


def test_the_device_is_the_one_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(models, "gpu_has_bf16", lambda: True)
    assert this_device({}) == GPU
    assert this_device({"use_cpu": True}) == CPU
    monkeypatch.setattr(models, "gpu_has_bf16", lambda: False)
    assert this_device({}) == OLD_GPU
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert this_device({}) == CPU


def test_emulated_bfloat16_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not models.gpu_has_bf16()


def test_a_note_names_what_the_device_chose_and_not_what_the_recipe_says() -> None:
    made = {"bf16": True, "activation_checkpointing": True}
    (note,) = device_defaults.notes(TASK, {"bf16": True}, made, device=GPU)
    assert note.startswith("training: activation_checkpointing: true, the default of this task on a GPU")
    assert device_defaults.notes(TASK, made, made, device=GPU) == []
    assert device_defaults.notes(TASK, {}, made, device=CPU) == []


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("name", sorted(FOUND.catalogues["tasks"].targets))
def test_a_new_recipe_leaves_to_the_device_what_follows_it(name: str, full: bool) -> None:
    task = FOUND.find("tasks", name)
    if not task.training_on_accelerator:
        return
    written = parse(_loaded(starter.write(name, FOUND, strategy="full", output="run", full=full)))
    assert not task.training_on_accelerator.keys() & written.training.keys()


def _loaded(text: str) -> Any:
    from finetune import recipe

    return recipe.load(text)
