"""The greedy average of a run's best checkpoints, against one that is computed by brute force."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from safetensors.torch import load_file
from transformers import TrainingArguments

import finetune
from finetune.errors import BadCheckpoint, BadOptions, FinetuneError
from finetune.evaluation import verdicts
from finetune.result import Result
from finetune.training import averaging
from finetune.training.arguments import check_arguments

AVERAGE = {"average": "greedy", "max_steps": 10, "eval_strategy": "steps", "eval_steps": 1, "logging_steps": 1,
           "save_strategy": "steps", "learning_rate": 1e-2, "lr_scheduler_type": "constant"}  # fmt: skip


def recipe(base: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Return the recipe of a run whose scores go up and down, so that an average can help."""
    training = {**AVERAGE, **changes.pop("training", {})}
    content = toy.recipe(base, output, score_base_model=False, general_text="none", training=training, **changes)
    content["dataset"] = {"train": noisy(24), "validation": noisy(60), "test": noisy(20)}
    return content


def noisy(size: int) -> list[dict[str, str]]:
    """Return rows of which every fifth has the wrong label."""
    rows = toy.rows(size, seed=size)
    other = {"sea": "land", "land": "sea"}
    return [{**row, "label": other[row["label"]]} if number % 5 == 0 else row for number, row in enumerate(rows)]


def by_brute_force(run: Path, result: Result, rows: list[dict[str, str]]) -> tuple[list[int], dict[str, torch.Tensor]]:
    """Return the steps and the weights of the greedy average, from the checkpoints on the disk alone."""
    scores = {entry["step"]: entry["eval_accuracy"] for entry in result.log if "eval_accuracy" in entry}
    steps = [int(path.name.rpartition("-")[2]) for path in run.glob("checkpoint-*")]
    first = min(step for step in scores if scores[step] == max(scores.values()))
    steps.sort(key=lambda step: (step != first, -scores[step], -step))
    saved = {step: load_file(run / f"checkpoint-{step}" / "model.safetensors") for step in steps}
    loaded = finetune.load(run, trust_code=True)

    def mean(chosen: list[int]) -> dict[str, torch.Tensor]:
        parts = {name: [saved[step][name].double() for step in chosen] for name in saved[steps[0]]}
        return {name: (sum(tensors) / len(chosen)).float() for name, tensors in parts.items()}

    def score(chosen: list[int]) -> float:
        loaded.model.load_state_dict(mean(chosen), strict=False)
        records = loaded.predict([{"text": row["text"]} for row in rows])
        return sum(one["prediction"] == row["label"] for one, row in zip(records, rows, strict=True)) / len(rows)

    kept = [steps[0]]
    best = reached = score(kept)
    for step in steps[1:]:
        tried = score([*kept, step])
        if tried >= reached:
            kept, reached = [*kept, step], tried
    kept = kept if reached > best else steps[:1]
    return sorted(kept), mean(kept)


@pytest.fixture(scope="module")
def runs(toy_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, Result]]:
    """Return runs with two seeds: in one of them an average helps."""
    folder, made = tmp_path_factory.mktemp("averages"), {}
    for seed in SEEDS:
        output = folder / f"run-{seed}"
        made[seed] = output, finetune.train(**recipe(toy_base, output, seed=seed))
    return made


SEEDS = (0, 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_the_average_that_brute_force_finds(seed: int, runs: dict[int, tuple[Path, Result]]) -> None:
    run, result = runs[seed]
    steps, weights = by_brute_force(run, result, noisy(60))
    assert result.average["steps"] == steps
    saved = load_file(run / "model.safetensors")
    assert saved.keys() == weights.keys() and all(torch.equal(saved[name], weights[name]) for name in saved)
    assert result.scores["validation"]["accuracy"] == result.average["value"]


def test_in_one_run_an_average_is_better_and_in_the_other_the_best_checkpoint_stands(
    runs: dict[int, tuple[Path, Result]],
) -> None:
    found = {len(result.average["steps"]) > 1: result for _, result in runs.values()}
    assert set(found) == {True, False}
    better, alone = found[True].average, found[False].average
    assert better["value"] > better["best"] and alone["value"] == alone["best"]
    assert alone["steps"] == [alone["best_step"]]
    (said,) = verdicts.averaged(found[True])
    assert said.startswith("The weights are the mean of those of steps ") and "5 checkpoints were tried" in said
    (said,) = verdicts.averaged(found[False])
    assert said.startswith("No mean of checkpoints was better than the best one: the weights are those of step ")
    assert found[True].selection_split == "validation"


def test_the_best_checkpoints_and_the_newest_stay(runs: dict[int, tuple[Path, Result]]) -> None:
    for run, result in runs.values():
        kept = {int(path.name.rpartition("-")[2]) for path in run.glob("checkpoint-*")}
        order = averaging.best_first(result.log, metric="accuracy", greater_is_better=True)
        always = {10, result.average["best_step"]}
        others = [step for step, _ in order if step not in always]
        assert kept == always | set(others[: averaging.CHECKPOINTS - len(always)])
        assert {each["step"] for each in result.average["tried"]} | {result.average["best_step"]} == kept


def test_a_run_that_was_killed_ends_with_the_same_average(
    runs: dict[int, tuple[Path, Result]], toy_base: Path, tmp_path: Path
) -> None:
    seed = next(seed for seed, (_, result) in runs.items() if len(result.average["steps"]) > 1)
    run, straight = runs[seed]
    killed = shutil.copytree(run, tmp_path / "killed")
    (killed / "result.json").unlink()
    (killed / "model.safetensors").unlink()
    content = recipe(toy_base, killed, seed=seed)
    other = {**content, "training": {**content["training"], "save_total_limit": 3}}
    with pytest.raises(BadCheckpoint, match="save_total_limit"):
        finetune.train(**other, resume=True)
    resumed = finetune.train(**content, resume=True)
    assert resumed.average == straight.average and resumed.scores == straight.scores
    ones, others = (load_file(folder / "model.safetensors") for folder in (run, killed))
    assert all(torch.equal(ones[name], others[name]) for name in ones)


def test_a_damaged_checkpoint_is_left_out_and_named(
    runs: dict[int, tuple[Path, Result]], toy_base: Path, tmp_path: Path
) -> None:
    run, straight = runs[SEEDS[0]]
    damaged = shutil.copytree(run, tmp_path / "damaged")
    (damaged / "result.json").unlink()
    worst = min(each["step"] for each in straight.average["tried"] if each["step"] != 10)
    weights = damaged / f"checkpoint-{worst}" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    result = finetune.train(**recipe(toy_base, damaged, seed=SEEDS[0]), resume=True)
    assert [each["step"] for each in result.average["tried"]] == [
        each["step"] for each in straight.average["tried"] if each["step"] != worst
    ]
    (said,) = result.average["left_out"]
    assert f"checkpoint-{worst} is damaged" in said


def test_an_option_alone_sets_up_what_it_needs(toy_base: Path, tmp_path: Path) -> None:
    content = toy.recipe(
        toy_base, tmp_path / "run", score_base_model=False, general_text="none",
        training={"average": "greedy", "max_steps": -1, "num_train_epochs": 2},
    )  # fmt: skip
    del content["training"]["save_strategy"]
    result = finetune.train(**content)
    assert (result.arguments["save_strategy"], result.arguments["save_total_limit"]) == ("epoch", 5)
    assert result.average["best_step"] in (6, 12) and len(result.average["tried"]) == 1


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"average": "uniform"}, "average"),
        ({"average": "greedy", "save_strategy": "no"}, "'save_strategy' cannot be 'no'"),
        ({"average": "greedy", "eval_strategy": "no"}, "'eval_strategy' cannot be 'no'"),
        ({"average": "greedy", "load_best_model_at_end": False}, "'load_best_model_at_end' cannot be false"),
        ({"average": "greedy", "save_total_limit": 2}, "save_total_limit cannot be 2. Write 3 or more"),
        ({"average": "greedy", "fsdp": True}, "weights that are divided"),
        ({"average": "greedy", "eval_strategy": "steps", "eval_steps": 5, "save_steps": 10}, "eval_steps is 5"),
    ],
)
def test_what_cannot_be_averaged_is_refused_while_planning(training: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOptions) as raised:
        _check(training)
    assert message in str(raised.value)


def _check(training: dict[str, Any]) -> None:
    check_arguments(TrainingArguments, {name: value for name, value in training.items() if name != "fsdp"})
    averaging.check(training)


def test_without_validation_it_is_refused(toy_base: Path, tmp_path: Path) -> None:
    content = recipe(toy_base, tmp_path / "run")
    content["dataset"] = {"path": {"train": noisy(24)}, "validation_size": 0}
    with pytest.raises(FinetuneError, match="'average' needs a validation split"):
        finetune.train(**content)
