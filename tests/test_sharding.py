"""Runs whose weights are divided among two processes (FSDP2): real parts, the losses of DDP, exact resuming."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import command
import pytest
import torch
import yaml
from cases import case
from together import STEPS, bases_in, break_a_gradient, recipe, result, succeed, train, watch_parts, weights

FSDP = {"fsdp": True, "optim": "adamw_torch", "learning_rate": 1e-3}
DDP = {**FSDP, "fsdp": False}

WITHOUT_GRADIENT = ("qa_outputs.bias",)
"""Adding a number to all logits changes no probability, so the true gradient of this bias is 0, and Adam follows
rounding errors."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Return what writes, once, a tiny model of a family."""
    return bases_in(tmp_path_factory.mktemp("bases"))


def logged(folder: Path, name: str) -> list[float]:
    return [entry[name] for entry in result(folder)["log"] if name in entry]


def compare_with_ddp(task: str, strategy: str, base: Path, folder: Path) -> None:
    """Train with DDP and with FSDP2, resume the latter, and compare."""
    whole, divided, resumed = folder / "whole", folder / "divided", folder / "resumed"
    succeed(train({**recipe(task, strategy, base, whole, batch=4, **DDP), "score_base_model": True}, 2))
    content = {**recipe(task, strategy, base, divided, batch=4, **FSDP), "score_base_model": True}
    shown = succeed(train(content, 2, before=functools.partial(watch_parts, str(folder / "parts"))))
    assert shown[1] == "", "the second process prints"

    parts = [json.loads((folder / f"parts-{number}.json").read_text()) for number in (0, 1)]
    assert parts[0].keys() == parts[1].keys()
    for name in parts[0]:
        (kind, size, first, gradient), (_, _, second, _) = parts[0][name], parts[1][name]
        assert kind == "(Shard(dim=0),)" and first + second == size, name
        assert gradient in (None, kind), name
    held = [sum(part for _, _, part, _ in each.values()) for each in parts]
    assert max(held) < 0.6 * sum(held)

    figures = {}
    for name in ("loss", "grad_norm"):
        then, now = logged(whole, name), logged(divided, name)
        assert len(now) == STEPS and now == pytest.approx(then, rel=1e-5), name
        figures[name] = max(abs(one - two) for one, two in zip(then, now, strict=True))
    first_weights, second_weights = weights(whole), weights(divided)
    assert first_weights.keys() == second_weights.keys()
    figures["weights"] = max(
        float((tensor - second_weights[name]).abs().max())
        for name, tensor in first_weights.items()
        if name not in WITHOUT_GRADIENT
    )
    print(f"{task}, {strategy}: largest differences between DDP and FSDP2: {figures}")
    assert figures["weights"] < 5e-5  # of a learning rate of 1e-3
    one, two = result(whole), result(divided)
    assert two["trainable_parameters"] == one["trainable_parameters"]
    for section in ("scores", "base_model_scores"):
        for split, scores in one[section].items():
            assert two[section][split] == pytest.approx(scores, rel=1e-4, nan_ok=True), (section, split)
    lines = [(each / "predictions.jsonl").read_text().splitlines() for each in (whole, divided)]
    examples = [[json.loads(line)["example"] for line in each] for each in lines]
    assert examples[0] == examples[1] and len(examples[0]) == 21

    resumed.mkdir()
    shutil.copytree(divided / f"checkpoint-{STEPS // 2}", resumed / f"checkpoint-{STEPS // 2}")
    shutil.copy(divided / "recipe.yaml", resumed)
    succeed(train({**content, "output": str(resumed)}, 2, "--resume"))
    for name, tensor in second_weights.items():
        assert torch.equal(weights(resumed)[name], tensor), name
    assert result(resumed)["scores"] == two["scores"]


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_divided_weights_train_as_whole_ones_and_resume_to_the_bit(strategy: str, bases: Any, tmp_path: Path) -> None:
    compare_with_ddp("text-classification", strategy, bases("bert", "bert"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["full", "lora"])
@pytest.mark.parametrize("task", ["question-answering", "token-classification", "summarization", "sft", "dpo"])
def test_each_kind_of_trainer_divides_weights(task: str, strategy: str, bases: Any, tmp_path: Path) -> None:
    compare_with_ddp(task, strategy, bases(case(task).family, case(task).words), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["discriminative", "ia3", "layernorm"])
def test_other_strategies_train_divided_weights(strategy: str, bases: Any, tmp_path: Path) -> None:
    compare_with_ddp("text-classification", strategy, bases("bert", "bert"), tmp_path)


def wait_for_checkpoint(output: Path, calls: list[command.Call]) -> None:
    while not list(output.glob("checkpoint-*/manifest.json")):
        assert all(call.process.is_alive() for call in calls), [call.wait().output for call in calls]
        time.sleep(0.05)


def test_a_signal_stops_all_at_a_step_and_the_run_resumes_to_the_bit(bases: Any, tmp_path: Path) -> None:
    stopped, straight = tmp_path / "stopped", tmp_path / "straight"
    options: dict[str, Any] = {"max_steps": 40, "save_steps": 5, **FSDP}
    contents = [
        recipe("text-classification", "full", bases("bert", "bert"), output, batch=4, **options)
        for output in (stopped, straight)
    ]
    calls = train(contents[0], 2)
    wait_for_checkpoint(stopped, calls)
    os.kill(calls[1].pid, signal.SIGTERM)
    ended = [call.wait(120) for call in calls]
    assert [each.exit_code for each in ended] == [128 + signal.SIGTERM] * 2
    assert "stopped by SIGTERM at step" in ended[0].output and ended[1].output.count("error") == 0
    newest = max(stopped.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    listed = json.loads((newest / "manifest.json").read_text())["files"]
    assert {"model.safetensors", "optimizer.bin", "pytorch_model_fsdp.bin", "rng_state_1.pth"} <= set(listed)
    assert set(listed) == {path.name for path in newest.iterdir()} - {"manifest.json"}

    whole = {**contents[0], "training": {**contents[0]["training"], "fsdp": False}}
    ended = [call.wait(120) for call in train(whole, 2, "--resume", "--accept-changes")]
    assert (
        ended[0].exit_code == 2 and "was written with training.fsdp, and cannot be read without it" in ended[0].output
    )
    succeed(train(contents[0], 2, "--resume"))
    succeed(train(contents[1], 2))
    for name, tensor in weights(straight).items():
        assert torch.equal(weights(stopped)[name], tensor), name


def test_a_gradient_that_one_process_holds_stops_all(bases: Any, tmp_path: Path) -> None:
    content = recipe("text-classification", "full", bases("bert", "bert"), tmp_path / "run", batch=4, **FSDP)
    calls = train(content, 2, before=functools.partial(break_a_gradient, 1, 2))
    ended = [call.wait(120) for call in calls]
    assert [each.exit_code for each in ended] == [3, 3]
    assert "step 3: a gradient is not a finite number" in ended[0].output
    assert not list((tmp_path / "run").glob("checkpoint-3"))


@pytest.mark.slow
def test_the_best_model_is_read_back_and_another_number_of_processes_goes_on(bases: Any, tmp_path: Path) -> None:
    output = tmp_path / "run"
    content = recipe(
        "text-classification", "full", bases("bert", "bert"), output, batch=4, eval_strategy="steps", eval_steps=2,
        load_best_model_at_end=True, metric_for_best_model="loss", greater_is_better=False,
        activation_checkpointing=True, **FSDP,
    )  # fmt: skip
    succeed(train(content, 2))
    evaluated = [entry for entry in result(output)["log"] if "eval_loss" in entry]
    alone = command.call(["evaluate", str(output), "--split", "validation", "--json"])
    scores = json.loads(alone.output[alone.output.index("{") :])["scores"]
    best = min(evaluated, key=lambda entry: entry["eval_loss"])
    assert {name: best[f"eval_{name}"] for name in scores} == pytest.approx(scores, rel=1e-4, nan_ok=True)

    (output / "result.json").unlink()
    content["training"]["max_steps"] = STEPS + 1
    ended = [call.wait(120) for call in train(content, 3, "--resume")]
    assert ended[0].exit_code == 2 and "processes: 2 then, 3 now" in ended[0].output
    succeed(train(content, 3, "--resume", "--accept-changes"))
    assert result(output)["steps"] == STEPS + 1


ACCELERATE = {
    "compute_environment": "LOCAL_MACHINE", "distributed_type": "FSDP", "num_machines": 1, "num_processes": 2,
    "mixed_precision": "no", "machine_rank": 0, "rdzv_backend": "static", "same_network": True, "main_process_port": 0,
    "fsdp_config": {"fsdp_version": 2, "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                    "fsdp_reshard_after_forward": True, "fsdp_state_dict_type": "FULL_STATE_DICT",
                    "fsdp_cpu_ram_efficient_loading": False, "fsdp_offload_params": False},
}  # fmt: skip
"""As ``accelerate config`` writes it."""


@pytest.mark.slow
def test_accelerate_says_that_weights_are_divided(bases: Any, tmp_path: Path) -> None:
    output, file, config = tmp_path / "run", tmp_path / "r.yaml", tmp_path / "fsdp.yaml"
    content = recipe("text-classification", "full", bases("bert", "bert"), output, batch=4, optim="adamw_torch")
    file.write_text(yaml.safe_dump(content))
    config.write_text(yaml.safe_dump(ACCELERATE))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), "-m", "finetune"]
    ended = subprocess.run(
        [*launch, "train", str(file), "--quiet"], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    recorded = yaml.safe_load((output / "recipe.yaml").read_text())["training"]
    assert recorded["fsdp"] is True and recorded["fsdp_config"] == {
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "reshard_after_forward": True,
    }  # fmt: skip
    assert (output / f"checkpoint-{STEPS}" / "pytorch_model_fsdp.bin").is_file()
    config.write_text(yaml.safe_dump({**ACCELERATE, "fsdp_config": {"fsdp_version": 1}}))
    ended = subprocess.run(
        [*launch, "train", str(file), "--quiet", "--overwrite"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert ended.returncode and "error: the configuration of accelerate: 'fsdp_version' cannot be 1" in ended.stderr
