"""Runs in two processes: the same rows as in one process, the same predictions in order, and exact resuming."""

from __future__ import annotations

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
from machine_faults import refuse_on_the_second_process
from together import STEPS, bases_in, recipe, result, succeed, train, weights

from finetune import processes
from finetune.errors import BadOptions


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Return what writes, once, a tiny model of a family."""
    return bases_in(tmp_path_factory.mktemp("bases"))


@pytest.mark.parametrize("strategy", ["full", "lora"])
@pytest.mark.parametrize(
    "task", ["text-classification", "question-answering", "token-classification", "summarization", "sft", "dpo"]
)
def test_two_processes_train_on_the_rows_of_one_and_resume_to_the_bit(
    task: str, strategy: str, bases: Any, tmp_path: Path
) -> None:
    base = bases(case(task).family, case(task).words)
    one, two, resumed = tmp_path / "one", tmp_path / "two", tmp_path / "resumed"
    single = train(recipe(task, strategy, base, one, batch=8), 1)
    both = train(recipe(task, strategy, base, two, batch=4), 2)
    succeed(single)
    shown = succeed(both)
    assert all("find_unused_parameters" in line for line in shown[1].splitlines()), "the second process prints"
    alone, together = result(one), result(two)
    assert together["environment"]["processes"] == 2
    losses = [[entry["loss"] for entry in each["log"] if "loss" in entry] for each in (alone, together)]
    print(losses)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    moved = {name: tensor for name, tensor in weights(one / f"checkpoint-{STEPS // 2}").items() if name in first}
    distance, difference = (
        sum(float((tensor - others[name]).square().sum()) for name, tensor in first.items()) ** 0.5
        for others in ({**first, **moved}, second)
    )
    assert difference < 0.01 * distance, f"the weights moved by {distance}, and differ by {difference}"
    for split, scores in alone["scores"].items():
        assert together["scores"][split].keys() == scores.keys()
    lines = [(folder / "predictions.jsonl").read_text().splitlines() for folder in (one, two)]
    examples = [[json.loads(line)["example"] for line in each] for each in lines]
    assert examples[0] == examples[1] and len(examples[0]) == 21
    again = command.call(["evaluate", str(two), "--split", "test", "--json"])
    assert json.loads(again.output[again.output.index("{") :])["scores"] == pytest.approx(
        together["scores"]["test"], rel=1e-4
    )
    resumed.mkdir()
    shutil.copytree(two / f"checkpoint-{STEPS // 2}", resumed / f"checkpoint-{STEPS // 2}")
    shutil.copy(two / "recipe.yaml", resumed)
    succeed(train(recipe(task, strategy, base, resumed, batch=4), 2, "--resume"))
    for name, tensor in weights(two).items():
        assert torch.equal(weights(resumed)[name], tensor), name
    assert result(resumed)["scores"] == together["scores"]


@pytest.mark.parametrize("task", ["text-classification", "sft"])
def test_two_processes_train_one_model_after_the_base_model_is_scored(task: str, bases: Any, tmp_path: Path) -> None:
    base = bases(case(task).family, case(task).words)
    contents = [
        {**recipe(task, "full", base, tmp_path / str(count), batch=8 // count), "score_base_model": True}
        for count in (1, 2)
    ]
    for calls in [train(content, count) for count, content in enumerate(contents, start=1)]:
        succeed(calls)
    for name in ("loss", "grad_norm"):
        alone, together = (
            [entry[name] for entry in result(tmp_path / count)["log"] if name in entry] for count in "12"
        )
        assert len(alone) == STEPS and together == pytest.approx(alone, rel=1e-3), name


def test_the_best_model_is_chosen_by_scores_of_all_rows(bases: Any, tmp_path: Path) -> None:
    content = recipe(
        "text-classification", "full", bases("bert", "bert"), tmp_path / "run", batch=4, eval_strategy="steps",
        eval_steps=2, load_best_model_at_end=True, learning_rate=5e-2, metric_for_best_model="loss",
        greater_is_better=False,
    )  # fmt: skip
    succeed(train(content, 2))
    evaluated = [entry for entry in result(tmp_path / "run")["log"] if "eval_loss" in entry]
    assert len(evaluated) == 2
    alone = command.call(["evaluate", str(tmp_path / "run"), "--split", "validation", "--json"])
    scores = json.loads(alone.output[alone.output.index("{") :])["scores"]
    best = min(evaluated, key=lambda entry: entry["eval_loss"])
    assert {name: best[f"eval_{name}"] for name in scores} == pytest.approx(scores, rel=1e-4, nan_ok=True)


def test_two_processes_stop_early_at_the_same_step(bases: Any, tmp_path: Path) -> None:
    content = recipe(
        "text-classification", "full", bases("bert", "bert"), tmp_path / "run", batch=4, eval_strategy="steps",
        save_steps=1, max_steps=8, early_stopping_patience=2, early_stopping_threshold=1e9,
    )  # fmt: skip
    succeed(train(content, 2))
    stopped = result(tmp_path / "run")["early_stopping"]
    assert (stopped["stopped"], stopped["step"]) == (True, 3)


def test_an_error_of_one_process_ends_all_and_is_shown_once(bases: Any, tmp_path: Path) -> None:
    content = recipe("text-classification", "full", bases("bert", "bert"), tmp_path / "run", batch=4)
    ended = [call.wait(60) for call in train(content, 2, before=refuse_on_the_second_process)]
    assert [each.exit_code for each in ended] == [1, 2]
    assert [each.output for each in ended] == ["", "process 1: error: the second process refuses the model.\n"]
    content["training"] = {**content["training"], "output_dir": "elsewhere"}
    ended = [call.wait(60) for call in train(content, 2)]
    assert ended[0].exit_code == 2 and ended[0].output.count("error") == 1


@pytest.mark.parametrize("number", [0, 1])
def test_the_death_of_a_process_ends_the_run_which_can_go_on(number: int, bases: Any, tmp_path: Path) -> None:
    output = tmp_path / "run"
    content = recipe("text-classification", "full", bases("bert", "bert"), output, batch=4, max_steps=400, save_steps=5)
    calls = train(content, 2)
    while not list(output.glob("checkpoint-*/manifest.json")):
        assert calls[0].process.is_alive(), calls[0].wait()
        time.sleep(0.05)
    os.kill(calls[number].pid, signal.SIGKILL)
    ended = calls[1 - number].wait(60)
    calls[number].wait(60)
    assert ended.exit_code == 1 and not ended.is_traceback
    if number == 1:
        assert "another of the 2 processes of the run ended. checkpoint-" in ended.output
    newest = max(int(path.parent.name.rpartition("-")[2]) for path in output.glob("checkpoint-*/manifest.json"))
    content["training"] = {**content["training"], "max_steps": newest + 1}
    succeed(train(content, 2, "--resume", "--accept-changes"))
    assert result(output)["steps"] == newest + 1


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_to_one_process_stops_all_at_the_same_step(name: str, bases: Any, tmp_path: Path) -> None:
    output = tmp_path / "run"
    content = recipe("text-classification", "full", bases("bert", "bert"), output, batch=4, max_steps=400, save_steps=5)
    calls = train(content, 2)
    while not list(output.glob("checkpoint-*/manifest.json")):
        assert calls[0].process.is_alive(), calls[0].wait()
        time.sleep(0.05)
    os.kill(calls[1].pid, signal.Signals[name])
    ended = [call.wait(60) for call in calls]
    code = 128 + signal.Signals[name]
    assert [each.exit_code for each in ended] == [code, code], [each.output[-1500:] for each in ended]
    assert f"stopped by {name} at step" in ended[0].output and ended[1].output.count("error") == 0


LAUNCHERS = {
    "--processes": [sys.executable, "-m", "finetune", "train", "RECIPE", "--quiet", "--processes", "2"],
    "torchrun": [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "finetune",
        "train", "RECIPE", "--quiet",
    ],
    "accelerate": [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines",
        "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "finetune", "train", "RECIPE", "--quiet",
    ],
}  # fmt: skip


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_each_launcher_starts_two_processes(launcher: str, bases: Any, tmp_path: Path) -> None:
    output = tmp_path / "run"
    content = recipe("text-classification", "full", bases("bert", "bert"), output, batch=4)
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump(content))
    call = [str(file) if part == "RECIPE" else part for part in LAUNCHERS[launcher]]
    ended = subprocess.run(call, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert result(output)["environment"]["processes"] == 2
    assert ended.stdout.count("Run folder:") == 1
    if launcher == "--processes":
        assert ended.stderr == ""
        content["dataset"] = {"path": str(tmp_path / "absent.csv")}
        file.write_text(yaml.safe_dump(content))
        ended = subprocess.run([*call, "--overwrite"], capture_output=True, text=True, timeout=300, cwd=tmp_path)
        assert ended.returncode == 2 and ended.stderr.count("error: ") == 1 and "Traceback" not in ended.stderr


@pytest.mark.parametrize("engine", ["DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"])
def test_other_engines_of_accelerate_are_refused_by_name(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    with pytest.raises(BadOptions, match=r"the configuration of accelerate has .*, which is not supported: "):
        processes.join(timeout=10)
