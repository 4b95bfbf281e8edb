"""A whole study of the toy task: what it leaves, and that stops and pauses change nothing."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
import studies
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file

import finetune
from finetune.cli import main
from finetune.errors import BadOptions, BadRecipe, OutputExists
from finetune.evaluation.comparison import compare
from finetune_tune import worker
from finetune_tune.summary import sentences
from finetune_tune.tune import Tuned, tune
from finetune_tune.worker import TooManyFailed


def weights(directory: Path) -> dict[str, Any]:
    return {name: tensor.tolist() for name, tensor in load_file(directory / "model.safetensors").items()}


def folder_of_winner(study: Tuned) -> Path:
    claim = study.conclusion.claim
    assert claim is not None
    return Path(claim.folders[0])


def test_a_study_ends_each_trial_and_completes_one(study: Tuned) -> None:
    states = [trial.state for trial in study.trials]
    assert len(states) == 4 and "complete" in states
    assert set(states) <= {"complete", "stopped", "dropped"}
    best = study.trials[study.conclusion.winner]
    assert best.state == "complete" and len(best.rungs) == 3
    assert [rung.step for rung in best.rungs] == [1, 3, 9]


def test_the_first_trial_has_the_values_of_the_recipe(study: Tuned) -> None:
    assert study.trials[0].chosen == {"training.learning_rate": 1e-2}


def test_no_trial_reads_the_test_split(study: Tuned) -> None:
    for trial in study.trials:
        recipe = yaml.safe_load((study.output / "trials" / trial.name / "recipe.yaml").read_text())
        assert recipe["dataset"]["splits"] == {"test": None}
    winner = study.output / "trials" / study.trials[study.conclusion.winner].name
    assert set(json.loads((winner / "result.json").read_text())["scores"]) == {"validation", "train"}


def test_the_winner_and_the_recipe_are_trained_with_the_same_new_seeds(study: Tuned) -> None:
    claim = study.conclusion.claim
    assert claim is not None and list(claim.seeds) == [43, 44]
    winner = f"winner-{study.trials[study.conclusion.winner].name}"
    assert claim.folders == [str(study.output / winner), str(study.output / "as-written")]
    for folder, scores in zip(claim.folders, (claim.winner, claim.as_written), strict=True):
        for seed, score in zip(claim.seeds, scores, strict=True):
            result = json.loads((Path(folder) / f"seed-{seed}" / "result.json").read_text())
            assert result["scores"]["test"]["accuracy"] == score and result["recipe"]["seed"] == seed


def test_compare_says_the_same_as_the_study(study: Tuned) -> None:
    claim = study.conclusion.claim
    assert claim is not None
    winner, written = claim.folders
    call = CliRunner(catch_exceptions=False).invoke(main, ["compare", written, winner, "--json"])
    found = json.loads(call.output)["runs"][1]
    assert found["difference"] == {"value": claim.difference, "low": claim.low, "high": claim.high}
    assert found["verdict"] == claim.verdict and found["seeds"] == claim.seeds
    assert found["basis"] == "The difference is paired over the rows and over the seeds 43 and 44."


def test_seeds_can_be_added_at_the_end_and_not_left_out(study: Tuned, tmp_path: Path) -> None:
    copied = shutil.copytree(study.output.parent, tmp_path / "copy")
    override = f"output={copied / 'study'}"
    storage = copied / "study" / "study.db"
    with sqlite3.connect(storage) as database:
        database.execute("UPDATE studies SET study_name = ?", [str(copied / "study")])
    shutil.copytree(folder_of_winner(study), copied / "study" / "winner-0009")  # as if another trial had won before
    more = tune(copied / "recipe.yaml", [override], trials=4, seeds=3)
    assert more.conclusion.earlier == [9]
    assert "trial 9 won and was scored on" in " ".join(sentences(more.conclusion, more.trials, more.settings))
    first, claim = study.conclusion.claim, more.conclusion.claim
    assert first is not None and claim is not None
    assert claim.winner[:2] == list(first.winner) and list(claim.seeds) == [43, 44, 45]
    with pytest.raises(OutputExists, match=r"trained with 3 seeds at its end, and --seeds is 2.*Use --seeds 3"):
        tune(copied / "recipe.yaml", [override], trials=4, seeds=2)
    alone = tune(copied / "recipe.yaml", [override], trials=4, seeds=1).conclusion.claim
    assert alone is not None and alone.winner == [first.winner[0]]
    assert alone.folders[1] == str(copied / "study" / "as-written-seed-43")


def test_a_trial_that_has_ended_keeps_no_checkpoint(study: Tuned) -> None:
    assert not list((study.output / "trials").glob("*/checkpoint-*"))
    assert (study.output / "trials" / study.trials[study.conclusion.winner].name / "model.safetensors").is_file()


def test_best_yaml_is_the_recipe_of_the_winner(study: Tuned) -> None:
    best = yaml.safe_load((study.output / "best.yaml").read_text())
    assert best["training"]["learning_rate"] == study.trials[study.conclusion.winner].chosen["training.learning_rate"]
    assert best["dataset"]["splits"] == {} and "search" not in best
    trained = json.loads((folder_of_winner(study) / "seed-43" / "result.json").read_text())["recipe"]
    for key in ("training", "strategy", "dataset"):
        assert set(best[key]) <= set(trained[key])
        assert all(trained[key][name] == value for name, value in best[key].items() if value is not None)


def test_optuna_reads_the_storage(study: Tuned) -> None:
    storage = f"sqlite:///{study.output / 'study.db'}"
    loaded = optuna.load_study(study_name=None, storage=storage)
    assert loaded.direction.name == "MAXIMIZE"
    assert [trial.params for trial in loaded.trials] == [dict(trial.chosen) for trial in study.trials]
    assert loaded.best_trial.number == study.conclusion.winner
    assert not [trial for trial in loaded.trials if trial.state.name == "RUNNING"]


def test_complete_trials_are_ordinary_runs(study: Tuned) -> None:
    winner = study.output / "trials" / study.trials[study.conclusion.winner].name
    found = compare([winner, folder_of_winner(study) / "seed-44"], split="validation")
    assert found.size == 30 and found.recipes["seed"] == [42, 44]


def test_a_trial_that_was_paused_equals_one_that_was_not(study: Tuned, tmp_path: Path) -> None:
    winner = study.output / "trials" / study.trials[study.conclusion.winner].name
    recipe = yaml.safe_load((winner / "recipe.yaml").read_text())
    finetune.train(**{**recipe, "output": str(tmp_path / "run")})
    assert weights(tmp_path / "run") == weights(winner)
    logs = [
        [json.loads(line) for line in (each / "log.jsonl").read_text().splitlines()]
        for each in (tmp_path / "run", winner)
    ]
    for log in logs:
        for entry in log:
            for key in [name for name in entry if "runtime" in name or "per_second" in name]:
                del entry[key]
    assert logs[0] == logs[1]


class Killed(BaseException):
    """What stands for the death of a process."""


def test_a_study_that_is_killed_again_and_again_equals_one_that_is_not(
    study: Tuned, toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each segment of a trial is killed once: before, within, or after its training."""
    path = studies.recipe(tmp_path, toy_base)
    real, calls, kills = worker.run, iter(range(10**6)), []

    def within(plan: Any) -> None:
        """Let the process die at a step of its training."""

        class Dies(worker.PauseAfter):
            def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if state.global_step == max(state.max_steps // 2, 1):
                    raise Killed

        plan.objects.callbacks.append(Dies(2.0))

    def dying(plan: Any, **options: Any) -> Any:
        call = next(calls)
        if call % 2:
            return real(plan, **options)
        kills.append(call)
        if call % 6 == 0:
            raise Killed
        if call % 6 == 2:
            within(plan)
        try:
            return real(plan, **options)
        finally:
            raise Killed

    monkeypatch.setattr(worker, "run", dying)
    for _ in range(40):
        try:
            tune(path, trials=4, seeds=0)
            break
        except Killed:
            continue
    assert len(kills) >= 5
    assert studies.trials_of(tmp_path / "study") == studies.trials_of(study.output)
    name = study.trials[study.conclusion.winner].name
    assert weights(tmp_path / "study" / "trials" / name) == weights(study.output / "trials" / name)


def test_a_finished_study_is_only_shown(study: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("nothing is left to train")

    monkeypatch.setattr(worker, "run", never)
    again = tune(study.output.parent / "recipe.yaml", trials=4, seeds=2)
    assert again.conclusion == study.conclusion


def test_more_trials_continue_those_that_had_ended(toy_base: Path, tmp_path: Path) -> None:
    """Rates so small leave all scores equal, and of equal trials the first continues."""
    space = {"training.learning_rate": {"low": 1e-9, "high": 1e-8, "log": True}}
    path = studies.recipe(tmp_path, toy_base, training={"learning_rate": 1e-9}, search=space)
    first = tune(path, trials=2, seeds=0)
    assert [trial.state for trial in first.trials] == ["complete", "stopped"]
    assert len(first.trials[1].rungs) == 1 and not list((first.output / "trials").glob("*/checkpoint-*"))
    (evaluation,) = (first.output / "evaluations" / "0001").glob("*.json")
    before, written = evaluation.read_text(), evaluation.stat().st_mtime_ns
    more = tune(path, trials=4, seeds=0)
    assert [len(trial.rungs) for trial in more.trials] == [3, 2, 1, 1]
    assert [trial.repeated for trial in more.trials] == [0, 1, 0, 0]
    assert [[rung.step for rung in trial.rungs] for trial in more.trials[:2]] == [[1, 3, 9], [1, 3]]
    assert evaluation.read_text() == before and evaluation.stat().st_mtime_ns > written
    assert more.conclusion.steps == 9 + 3 + 1 + 1 + 1
    assert "1 of the steps were repeated" in " ".join(sentences(more.conclusion, more.trials, more.settings))
    loaded = optuna.load_study(study_name=None, storage=f"sqlite:///{more.output / 'study.db'}")
    assert [trial.user_attrs.get("continues") for trial in loaded.trials] == [None, None, None, None, 1]
    assert not [trial for trial in loaded.trials if trial.state.name == "RUNNING"]


def test_another_space_is_another_study(study: Tuned) -> None:
    path = study.output.parent / "recipe.yaml"
    wider = "search={training.learning_rate: {low: 1e-4, high: 1e-1, log: true}}"
    with pytest.raises(OutputExists, match=r"space\.training\.learning_rate\.low: 0\.001 then, 0\.0001 now"):
        tune(path, [wider], trials=4, seeds=2)


def test_failed_and_incompatible_trials_are_named(toy_base: Path, tmp_path: Path) -> None:
    space = {"preprocessor.poison": [None, 1], "strategy": ["full", "studies:Never"]}
    path = studies.recipe(tmp_path, toy_base, search=space, training={"max_steps": 2})
    found = tune(path, trials=7, seeds=0)
    by_state = {trial.state: trial for trial in found.trials}
    assert {"failed", "incompatible"} <= set(by_state)
    assert "Diverged: step 1: the loss is not a finite number" in by_state["failed"].reason
    assert "it trains no model" in by_state["incompatible"].reason
    assert found.conclusion.claim is None


def test_the_runs_at_the_end_have_the_rows_of_the_trials(toy_base: Path, tmp_path: Path) -> None:
    paths = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}
    dataset = {"path": paths, "validation_size": 0.25, "limit": {"test": 20}}
    path = studies.recipe(tmp_path, toy_base, dataset=dataset, training={"max_steps": 2})
    found = tune(path, trials=1, seeds=2)
    assert found.conclusion.claim is not None and found.conclusion.claim.rows == 20
    results = [
        json.loads((found.output / run / "result.json").read_text())
        for run in ("trials/0000", "winner-0000/seed-43", "winner-0000/seed-44", "as-written/seed-43")
    ]
    assert len({each["fingerprints"]["train"] for each in results}) == 1
    assert {each["recipe"]["seed"] for each in results} == {42, 43, 44}


def test_a_study_whose_trials_fail_is_stopped(toy_base: Path, tmp_path: Path) -> None:
    path = studies.recipe(tmp_path, toy_base, search={"preprocessor.poison": [1, 2]}, training={"max_steps": 2})
    with pytest.raises(TooManyFailed, match=r"4 of \d trials failed.*\n  Diverged: step"):
        tune(path, trials=9, seeds=0)


@pytest.mark.parametrize(
    ("command", "advice"), [("tune", "For several GPUs, give --workers"), ("curve", "Call `finetune curve` without it")]
)
def test_processes_of_torchrun_are_refused_in_one_line(
    command: str, advice: str, toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = studies.recipe(tmp_path, toy_base)
    monkeypatch.setenv("WORLD_SIZE", "2")
    call = CliRunner(catch_exceptions=False).invoke(main, [command, str(path), "-q"])
    assert call.exit_code == 2
    assert f"error: finetune {command} makes its runs one after another" in call.stderr and advice in call.stderr
    assert len(call.stderr.splitlines()) == 1 and not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"training.lerning_rate": [1.0]}}, "'lerning_rate' is not an option of TrainingArguments"),
        ({"search": {"strategy": ["full", "lroa"]}}, "search: with strategy=lroa: unknown strategy 'lroa'"),
        ({"search": {"seed": [1, 2]}}, "search: seed: seed cannot be searched: a seed that is chosen"),
        ({"seeds": [1, 2], "seed": None}, "seeds: the trials of a study have one seed"),
        ({"training": {"load_best_model_at_end": False}}, "load_best_model_at_end: a study compares the best"),
        ({"training": {"metric_for_best_model": "loss", "greater_is_better": False}}, "'accuracy', and this is 'loss'"),
    ],
)
def test_a_wrong_study_is_refused_before_the_first_trial(
    changes: dict[str, Any], message: str, toy_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadRecipe, match=message):
        tune(studies.recipe(tmp_path, toy_base, **changes))
    assert not (tmp_path / "study").exists()


def test_a_recipe_that_cannot_be_trained_stops_the_study_and_can_be_mended(
    toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise BadOptions("preprocessor: features have up to 256 tokens, but the model has 128 positions.")

    with monkeypatch.context() as patched:
        patched.setattr(worker, "run", refuse)
        with pytest.raises(BadOptions, match="the model has 128 positions"):
            tune(studies.recipe(tmp_path, toy_base), trials=1, seeds=0)
    found = tune(studies.recipe(tmp_path, toy_base, training={"max_steps": 2}), trials=1, seeds=0)
    assert [trial.state for trial in found.trials] == ["complete"]
