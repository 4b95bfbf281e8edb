"""`finetune train --auto-resume`: one call that starts a run, continues it, and does nothing once it has finished."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import small
from click.testing import CliRunner

from finetune import run as runs
from finetune.cli import launch, main

STEPS = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> small.Recipes:
    """Return what writes recipes, and a run of `STEPS` steps that was never stopped, in the folder `whole`."""
    recipes = small.Recipes(tmp_path_factory.mktemp("auto"))
    whole = recipes.folder / "whole"
    assert train(recipes.write("full", whole, steps=STEPS, save_total_limit=10)).exit_code == 0
    return recipes


@pytest.fixture
def recipe(made: small.Recipes, tmp_path: Path) -> Path:
    """Return a recipe whose run folder, `run` next to it, does not exist."""
    return made.write("full", tmp_path / "run", steps=STEPS, save_total_limit=10)


def train(recipe: Path, *flags: str) -> Any:
    return CliRunner().invoke(main, ["train", str(recipe), *(flags or ("--auto-resume",))])


def equal(run: Path, made: small.Recipes) -> bool:
    whole = made.folder / "whole"
    return small.digests(run) == small.digests(whole) and small.scores(run) == small.scores(whole)


def leave(run: Path, made: small.Recipes, *checkpoints: int) -> None:
    """Leave a run folder as one that was killed after some checkpoints."""
    run.mkdir()
    for name in ("recipe.yaml", "log.jsonl"):
        shutil.copy(made.folder / "whole" / name, run)
    for step in checkpoints:
        shutil.copytree(made.folder / "whole" / f"checkpoint-{step}", run / f"checkpoint-{step}")


def resumed_from(run: Path) -> Any:
    return json.loads((run / "result.json").read_text())["resumed_from"]


def test_the_first_start_trains_and_one_after_the_end_changes_nothing(recipe: Path, made: small.Recipes) -> None:
    run = recipe.with_name("run")
    assert train(recipe).exit_code == 0
    assert equal(run, made) and resumed_from(run) is None
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    again = train(recipe)
    assert again.exit_code == 0 and "has finished already; nothing is trained" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert again.stdout.splitlines()[-1] == f"Run folder: {run}"


@pytest.mark.parametrize("change", ["training.max_steps=3", "seed=7", "training.learning_rate=0.5", "strategy=frozen"])
def test_a_finished_run_of_another_recipe_is_not_taken_for_this_one(
    change: str, recipe: Path, made: small.Recipes
) -> None:
    assert train(recipe).exit_code == 0
    again = train(recipe, change, "--auto-resume")
    assert again.exit_code == 2 and "has finished, with another recipe" in again.stderr
    assert change.partition("=")[0] in again.stderr and "then, " in again.stderr


@pytest.mark.parametrize(("left", "origin"), [((), None), ((1, 2), "checkpoint-2")])
def test_a_run_that_was_killed_goes_on_or_starts_again(
    left: tuple[int, ...], origin: str | None, recipe: Path, made: small.Recipes
) -> None:
    run = recipe.with_name("run")
    leave(run, made, *left)
    (run / "checkpoint-9").mkdir()  # one that was being written has no manifest
    assert train(recipe).exit_code == 0
    assert equal(run, made) and resumed_from(run) == origin


def test_a_checkpoint_that_comes_while_the_data_are_prepared_is_not_lost(
    recipe: Path, made: small.Recipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, prepare = recipe.with_name("run"), runs.prepare_once

    def prepare_slowly(*args: Any, **options: Any) -> Any:
        prepared = prepare(*args, **options)
        leave(run, made, 2)
        return prepared

    monkeypatch.setattr(runs, "prepare_once", prepare_slowly)
    assert train(recipe).exit_code == 0
    assert equal(run, made) and resumed_from(run) == "checkpoint-2"


def test_a_damaged_checkpoint_is_kept_and_the_run_is_not_started_again(recipe: Path, made: small.Recipes) -> None:
    run = recipe.with_name("run")
    leave(run, made, 2)
    (run / "checkpoint-2" / "model.safetensors").write_bytes(b"damaged")
    for name in ("checkpoint-2", "invalid-checkpoint-2"):
        if not (run / name).exists():
            (run / "checkpoint-2").rename(run / name)
        ended = train(recipe)
        assert ended.exit_code == 2 and "has no checkpoint to resume from" in ended.stderr
        assert (run / name / "manifest.json").exists()


def test_a_recipe_that_changed_is_refused_unless_it_is_accepted(recipe: Path, made: small.Recipes) -> None:
    run = recipe.with_name("run")
    leave(run, made, 2)
    refused = train(recipe, "--auto-resume", "training.learning_rate=0.5")
    assert refused.exit_code == 2 and "training.learning_rate: 0.001 then, 0.5 now" in refused.stderr
    assert train(recipe, "--auto-resume", "--accept-changes", "training.learning_rate=0.5").exit_code == 0


def test_the_launcher_waits_for_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.launcher import api

    configs = []
    monkeypatch.setattr(api, "elastic_launch", lambda config, program: lambda *words: configs.append(config))
    assert launch.again(["train", "recipe.yaml"], count=2, go_on=str) == 0
    assert configs[0].shutdown_timeout == 3600
