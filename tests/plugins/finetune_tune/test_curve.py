"""`finetune curve`: nested subsets, runs that are kept, and a page that says what more labels are worth."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import toy
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from transformers import Trainer

import finetune
from finetune import failures
from finetune import recipe as recipes
from finetune.cli import main
from finetune.errors import BadData, BadOptions, OutputExists
from finetune.plugins import discover
from finetune.result import Result
from finetune_tune import curve as curves
from finetune_tune import curve_page

ROWS, SEEDS = 64, 2


def write_recipe(folder: Path, base: Path, **changes: Any) -> Path:
    """Write data and a recipe whose output is relative, so that the folder can be copied."""
    for split, size in (("train", ROWS), ("test", 40)):
        lines = [json.dumps(row) + "\n" for row in toy.rows(size, seed=size)]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    data = {"train": "train.jsonl", "test": "test.jsonl"}
    training = {"max_steps": -1, "num_train_epochs": 2, "save_strategy": "epoch", **changes.pop("training", {})}
    content = toy.recipe(base, Path("out"), training=training, **changes)
    path = folder / "recipe.yaml"
    path.write_text(recipes.dump({**content, "dataset": {"path": data, "validation_size": 0}}))
    return path


@pytest.fixture(scope="module")
def made(toy_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a recipe, and with its curve of two seeds in `out`."""
    folder = tmp_path_factory.mktemp("curve")
    write_recipe(folder, toy_base)
    before = Path.cwd()
    os.chdir(folder)
    try:
        called = CliRunner().invoke(main, ["curve", "recipe.yaml", "--seeds", str(SEEDS), "-q"], catch_exceptions=False)
    finally:
        os.chdir(before)
    assert called.exit_code == 0, called.output
    (folder / "printed.txt").write_text(called.stdout)
    return folder


@pytest.fixture(scope="module")
def content(made: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((made / "out" / "curve.json").read_text())
    return found


def texts(path: Path) -> list[str]:
    from datasets import Dataset

    return list(Dataset.from_parquet(str(path))["text"])


def test_each_subset_contains_the_smaller_ones_and_keeps_the_order_of_the_rows(made: Path) -> None:
    whole = [row["text"] for row in toy.rows(ROWS, seed=ROWS)]
    for seed in (42, 43):
        parts = [texts(made / "out" / "data" / f"train-{size}-seed-{seed}.parquet") for size in (8, 16, 32, 64)]
        assert [len(part) for part in parts] == [8, 16, 32, 64]
        assert parts[-1] == whole
        for small, large in pairwise(parts):
            assert set(small) <= set(large)
            assert [text for text in large if text in set(small)] == small
    first, other = (texts(made / "out" / "data" / f"train-16-seed-{seed}.parquet") for seed in (42, 43))
    assert first != other  # each seed draws its own


def test_the_runs_are_ordinary_runs_scored_on_the_same_rows(made: Path, content: dict[str, Any]) -> None:
    results = [Result.load(made / "out" / name) for name in content["runs"]]
    assert len(results) == 4 * SEEDS
    assert {result.fingerprints["test"] for result in results} == {results[0].fingerprints["test"]}
    assert [result.data_report["train"]["kept"] for result in results] == [8, 8, 16, 16, 32, 32, 64, 64]
    assert [result.recipe["seed"] for result in results] == [42, 43] * 4
    for point, pair in zip(content["points"], zip(results[::2], results[1::2], strict=True), strict=True):
        assert point["scores"] == [result.score("test") for result in pair]
        assert point["value"] == pytest.approx(sum(point["scores"]) / 2)
        assert point["low"] <= point["value"] <= point["high"]


def test_the_whole_of_train_is_the_run_of_the_recipe_itself(
    made: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    alone = finetune.train("recipe.yaml", output="alone", score_base_model=False)
    same = made / "out" / "rows-64-seed-42"
    assert alone.fingerprints == Result.load(same).fingerprints
    assert (made / "alone" / "model.safetensors").read_bytes() == (same / "model.safetensors").read_bytes()


def test_a_curve_that_was_killed_goes_on_and_ends_equal(
    made: Path, content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "copy"))
    monkeypatch.chdir(copy)
    last = copy / "out" / content["runs"][-1]
    shutil.rmtree(last)
    for name in ("curve.json", "report.html"):
        (copy / "out" / name).unlink()
    calls, real = [], Trainer.training_step

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(self.args.output_dir)
        if len(calls) == 20:  # of 32 steps; a checkpoint is made after 16
            raise failures.Stopped(signal.SIGTERM)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", step)
    arguments = ["curve", "recipe.yaml", "--seeds", str(SEEDS), "-q"]
    stopped = CliRunner().invoke(main, arguments)
    assert stopped.exit_code != 0
    assert not (copy / "out" / "curve.json").exists()
    assert set(calls) == {str(last.relative_to(copy))}  # the finished runs are kept
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    assert len(calls) == 20 + 16
    assert Result.load(last).resumed_from == "checkpoint-16"
    for name in ("curve.json", "report.html", f"{last.name}/model.safetensors"):
        assert (copy / "out" / name).read_bytes() == (made / "out" / name).read_bytes()


def test_the_terminal_has_a_table_and_the_sentence(made: Path, content: dict[str, Any]) -> None:
    printed = (made / "printed.txt").read_text()
    assert re.search(r"64 +100\.0% +32 ", printed)
    assert content["sentence"] in printed
    assert "a small subset gets fewer steps: 4 with 8 rows, 32 with 64." in printed


def test_the_page_shows_every_run_and_asks_nothing_of_the_net(made: Path, content: dict[str, Any]) -> None:
    page = (made / "out" / "report.html").read_text()
    assert content["sentence"] in page
    for name in content["runs"]:
        assert f'href="./{name}/report.html"' in page
        assert (made / "out" / name / "report.html").is_file()
    assert page.count("<circle") == 4 * (SEEDS + 1)
    assert "http" not in page.replace("http-equiv", "")


def test_the_picture_is_inside_its_frame(content: dict[str, Any]) -> None:
    drawn = curve_page.picture(content)
    assert drawn is not None
    for point in drawn["points"]:
        assert drawn["left"] <= point["x"] <= drawn["right"]
        for place in (point["y"], point["low"], point["high"], *point["each"]):
            assert 0 <= place <= drawn["bottom"]
    assert drawn["points"][0]["x"] < drawn["points"][-1]["x"]


def test_a_curve_without_an_extrapolation_still_has_its_scores(content: dict[str, Any]) -> None:
    silent = {**content, "doubling": None, "curve": [], "exponent": None, "sentence": "It cannot be said."}
    page = curve_page.page(silent)
    assert "<polygon" not in page
    assert page.count("<circle") == 4 * (SEEDS + 1)


def read(folder: Path, **changes: Any) -> Any:
    content = recipes.to_mapping(recipes.read(folder / "recipe.yaml"))
    return recipes.parse({**content, **changes})


def test_other_data_or_options_are_refused(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "copy"))
    monkeypatch.chdir(copy)
    with pytest.raises(OutputExists, match="the curve of another recipe or of other data"):
        curves.curve(read(copy, seed=7), discover(), seeds=SEEDS)
    (copy / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in toy.rows(ROWS, seed=9)))
    with pytest.raises(OutputExists, match="of other data"):
        curves.curve(read(copy), discover(), seeds=SEEDS)


def test_a_folder_with_a_run_is_refused(made: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    output = f"out/{content['runs'][0]}"
    with pytest.raises(OutputExists, match=rf"holds a run, .*output={output}-curve"):
        curves.curve(read(made, output=output), discover())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"streaming": True}, "subsets are drawn of rows that are read once"),
        ({"path": "", "mixture": {"a": "train.jsonl"}}, "a learning curve has one data set"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    changes: Any, problem: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    given = recipes.to_mapping(recipes.read(made / "recipe.yaml"))
    recipe = recipes.parse({**given, "output": "new", "dataset": {**given["dataset"], **changes}})
    with pytest.raises(BadOptions, match=problem):
        curves.curve(recipe, discover())


def test_data_without_held_out_rows_are_refused(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    dataset = {"path": {"train": "train.jsonl"}, "validation_size": 0}
    with pytest.raises(BadData, match="no test or validation split, so nothing can be scored"):
        curves.curve(read(made, output="new", dataset=dataset), discover())
    assert not (made / "new").exists()


def test_few_rows_are_refused() -> None:
    with pytest.raises(BadData, match=r"train has 50 rows, .* would have 6\. At least 64 rows are needed"):
        curves.sizes_of(50)
    assert curves.sizes_of(64) == {8: 0.125, 16: 0.25, 32: 0.5, 64: 1.0}


@given(st.integers(64, 10**6))
def test_each_size_is_half_of_the_next(rows: int) -> None:
    sizes = list(curves.sizes_of(rows))
    assert sizes[-1] == rows
    for small, large in pairwise(sizes):
        assert abs(2 * small - large) <= 1


def test_a_recipe_with_max_steps_keeps_its_steps() -> None:
    import numpy as np

    said = curves.how_long({"max_steps": 1200}, [8, 64], np.array([[1200], [1200]]))
    assert said.startswith("Each run makes the 1,200 steps of the recipe (max_steps)")
