"""A recipe with several seeds: an ordinary run for each, on the same rows, and one result."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import typing
from pathlib import Path
from typing import Any

import pytest
import toy
from click.testing import CliRunner
from transformers import TrainerCallback

import finetune
from finetune import api, planning, recipe, seed_folders
from finetune.cli import main
from finetune.errors import BadOptions, BadRecipe, OutputExists
from finetune.evaluation import comparison, seed_verdicts
from finetune.folder import file_sha256
from finetune.planning import Measured, MeasuredBucket, Times
from finetune.recipe import Recipe
from finetune.result import Result
from finetune.seeds_result import SeedsResult

STEPS = 3
MODULES = ("--modules", str(Path(toy.__file__).parent))


def write(place: Path, output: Path, **changes: Any) -> Path:
    """Write a recipe whose validation rows are split off from train, and return its path."""
    place.mkdir(exist_ok=True)
    for split, size in (("train", 60), ("test", 20)):
        lines = "".join(json.dumps(row) + "\n" for row in toy.rows(size, seed=size))
        (place / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    base = place / "base"
    content = toy.recipe(base if base.exists() else toy.base(base), output)
    content["dataset"] = {"path": {split: str(place / f"{split}.jsonl") for split in ("train", "test")}}
    content["training"] |= {"max_steps": STEPS, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 10}
    content |= {"seeds": [0, 1, 2], "general_text": "none", **changes}
    path = place / "recipe.yaml"
    path.write_text(recipe.dump(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose three seeds were trained by the command, with its recipe next to it."""
    place = tmp_path_factory.mktemp("seeds") / "made"
    done = CliRunner().invoke(main, ["train", str(write(place, place / "runs"))])
    assert done.exit_code == 0, done.output
    (place / "printed.txt").write_text(done.output, encoding="utf-8")
    return place / "runs"


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder, with a recipe for it next to it."""
    shutil.copytree(folder, tmp_path / "runs")
    for path in tmp_path.glob("runs/**/*.*"):
        if path.name in ("recipe.yaml", "result.json"):
            path.write_text(path.read_text(encoding="utf-8").replace(str(folder), str(tmp_path / "runs")))
    shutil.copytree(folder.parent / "base", tmp_path / "base")
    write(tmp_path, tmp_path / "runs", model=str(folder.parent / "base"))
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").unlink()
    text = (tmp_path / "recipe.yaml").read_text(encoding="utf-8")
    for split in ("train", "test"):
        text = text.replace(str(tmp_path / f"{split}.jsonl"), str(folder.parent / f"{split}.jsonl"))
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "runs"


def call(*words: Any) -> Any:
    return CliRunner().invoke(main, [str(word) for word in words])


def weights(folder: Path) -> dict[int, str]:
    return {seed: file_sha256(folder / f"seed-{seed}" / "model.safetensors") for seed in seed_folders.seeds_of(folder)}


def test_each_seed_is_an_ordinary_run_on_the_same_rows(folder: Path) -> None:
    runs = [Result.load(folder / f"seed-{seed}") for seed in (0, 1, 2)]
    assert [run.recipe["seed"] for run in runs] == [0, 1, 2]
    assert all(run.fingerprints == runs[0].fingerprints and "validation" in run.fingerprints for run in runs)
    assert len(set(weights(folder).values())) == 3
    assert "seeds" not in recipe.load((folder / "seed-1" / "recipe.yaml").read_text(encoding="utf-8"))


def test_a_seed_gives_the_weights_that_it_gives_alone(folder: Path, tmp_path: Path) -> None:
    done = call("train", folder.parent / "recipe.yaml", "seed=1", "dataset.seed=42", f"output={tmp_path / 'alone'}")
    assert done.exit_code == 0, done.output
    assert file_sha256(tmp_path / "alone" / "model.safetensors") == weights(folder)[1]
    assert Result.load(tmp_path / "alone").scores == Result.load(folder / "seed-1").scores


def test_the_result_holds_means_and_deviations_of_the_runs(folder: Path) -> None:
    found = SeedsResult.load(folder)
    values = [Result.load(folder / f"seed-{seed}").score("test") for seed in (0, 1, 2)]
    assert found.seed_scores["test"]["accuracy"] == values
    assert found.score("test") == pytest.approx(statistics.mean(values))
    assert found.deviations["test"]["accuracy"] == pytest.approx(statistics.stdev(values))
    bounds = found.intervals["test"]["accuracy"]
    rows = found.row_intervals["test"]["accuracy"]
    assert bounds["low"] <= rows["low"] <= found.score("test") <= rows["high"] <= bounds["high"]
    base = [Result.load(folder / f"seed-{seed}").base_model_scores["test"]["accuracy"] for seed in (0, 1, 2)]
    difference = found.differences["test"]["base_model"]["accuracy"]
    assert difference["value"] == pytest.approx(statistics.mean(values) - statistics.mean(base))
    assert difference["low"] < difference["value"] < difference["high"]
    assert found.recipe["seeds"] == [0, 1, 2] and found.recipe["dataset"]["seed"] == 42
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["seed"] for line in lines] == [0, 1, 2]


def test_terminal_report_and_card_say_the_same(folder: Path) -> None:
    found = SeedsResult.load(folder)
    printed = (folder.parent / "printed.txt").read_text(encoding="utf-8")
    page, card = ((folder / name).read_text(encoding="utf-8") for name in ("report.html", "README.md"))
    sentences = seed_verdicts.all_verdicts(found)
    assert len(sentences) >= 5
    for sentence in sentences:
        assert sentence in printed and sentence in page
        assert sentence.split("(")[0].replace("_", "\\_") in card
    for seed in (0, 1, 2):
        assert f'href="./seed-{seed}/report.html"' in page and f"(seed-{seed}/README.md)" in card
    assert "rows alone" in page and "seeds alone" in page and "between seeds" in card


def test_the_page_is_made_of_the_result_alone(folder: Path, tmp_path: Path) -> None:
    done = call("report", folder, "--output", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    (run,) = {line for line in page.splitlines() if "seed-0/report.html" in line}
    assert "../" in run or "/made/runs/seed-0" in run


@pytest.mark.parametrize("words", [("predict", "x.csv"), ("evaluate",), ("push", "user/name"), ("merge",)])
def test_what_needs_one_run_names_one(folder: Path, words: tuple[str, ...]) -> None:
    command, *rest = words
    done = call(command, folder, *rest)
    message = f"{str(folder)!r} holds a run for each of 3 seeds. Name one of them: {folder / 'seed-0'}."
    assert done.exit_code == BadRecipe.exit_code and message in done.output
    with pytest.raises(BadRecipe, match="Name one of them"):
        finetune.load(folder)


def test_one_of_the_runs_predicts_and_is_compared_as_any_run(folder: Path) -> None:
    record = finetune.load(folder / "seed-2", trust_code=True).predict("the ship the wave")
    assert record["prediction"] in ("sea", "land")
    found = comparison.compare([folder / "seed-0", folder / "seed-1"])
    assert found.runs[1].basis == "" and found.runs[1].seeds == [1]


def test_the_same_seeds_are_paired_and_one_run_is_not(folder: Path, tmp_path: Path) -> None:
    same = comparison.compare([folder, folder]).runs[1]
    assert same.difference is not None and same.difference["value"] == 0
    assert same.basis == "The difference is paired over the rows and over the seeds 0, 1 and 2."
    alone = comparison.compare([folder, folder / "seed-0"]).runs
    assert alone[0].deviation == SeedsResult.load(folder).deviations["test"]["accuracy"]
    assert "seed-0 is one run: what another seed would change there is not known." in alone[1].basis
    done = call("compare", folder, folder / "seed-0", *MODULES, "--html", tmp_path / "page.html")
    assert done.exit_code == 0 and alone[1].basis in done.output and "the mean of 3 seeds" in done.output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert alone[1].basis in page and "3 seeds, standard deviation" in page


def test_a_plan_says_how_long_all_seeds_take(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times, bucket = Times(seconds=10.0), MeasuredBucket(name="all", tokens=8.0, longest=8, steps=1, times=Times())
    counts = ("steps", "steps_per_epoch", "evaluations", "checkpoints", "memory_before_model", "peak_memory")
    sizes = ("checkpoint_bytes", "model_bytes", "trainable_parameters", "total_parameters")
    phases = ("step", "epoch", "evaluation", "checkpoint", "training", "run")
    measured = Measured(
        device="CPU", buckets=[bucket], peak_gpu_memory=None, checkpoint_is_measured=True,
        **dict.fromkeys((*counts, *sizes), 1), **dict.fromkeys(phases, times),
    )  # fmt: skip
    asked: list[Recipe] = []

    def plan(read: Recipe, **given: Any) -> planning.RunPlan:
        asked.append(read)
        return planning.RunPlan(measured=measured)

    monkeypatch.setattr(planning, "plan", plan)
    done = call("plan", folder.parent / "recipe.yaml")
    assert done.exit_code == 0 and "the runs of 3 seeds, one after another  30 s" in done.output, done.output
    assert json.loads(call("plan", folder.parent / "recipe.yaml", "--json").output)["runs"] == 3
    assert asked[0].seeds == (0, 1, 2)


def test_check_reads_the_rows_of_the_runs(folder: Path) -> None:
    done = call("check", folder.parent / "recipe.yaml", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["fingerprints"] == SeedsResult.load(folder).fingerprints


def test_only_what_is_missing_is_trained_again_and_the_result_is_the_same(folder: Path, copied: Path) -> None:
    """A process that is killed in seed 1 leaves seed 0 finished, some checkpoints of seed 1, and no seed 2."""
    before = (copied / "seed-0" / "result.json").stat().st_mtime_ns
    for name in ("result.json", "report.html", "README.md"):
        (copied / name).unlink()
    broken = copied / "seed-1"
    for path in broken.iterdir():
        if path.name not in ("recipe.yaml", "log.jsonl", "checkpoint-1"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(copied / "seed-2")
    done = call("train", copied.parent / "recipe.yaml", "--auto-resume")
    assert done.exit_code == 0, done.output
    assert (copied / "seed-0" / "result.json").stat().st_mtime_ns == before
    assert Result.load(broken).resumed_from == "checkpoint-1"
    assert weights(copied) == weights(folder)
    again, straight = SeedsResult.load(copied), SeedsResult.load(folder)
    for name in ("scores", "seed_scores", "deviations", "intervals", "variances", "differences", "fingerprints"):
        assert getattr(again, name) == getattr(straight, name), name
    done = call("train", copied.parent / "recipe.yaml", "--auto-resume")
    assert done.exit_code == 0 and "nothing is trained" in done.output


def test_a_seed_is_added_and_none_is_left_out(copied: Path) -> None:
    path = copied.parent / "recipe.yaml"
    done = call("train", path, "--resume", "seeds=[0, 1]")
    assert done.exit_code == OutputExists.exit_code and "also holds seed 2, which `seeds` leaves out" in done.output
    done = call("train", path, "--resume", "seeds=[0, 1, 2, 7]")
    assert done.exit_code == 0, done.output
    assert SeedsResult.load(copied).seeds == seed_folders.seeds_of(copied) == [0, 1, 2, 7]
    assert "base_model" in SeedsResult.load(copied).differences["test"]


def test_a_finished_seed_with_another_recipe_is_refused(copied: Path) -> None:
    (copied / "result.json").unlink()
    done = call("train", copied.parent / "recipe.yaml", "--resume", "training.learning_rate=0.5")
    assert done.exit_code == OutputExists.exit_code and "has finished, with another recipe" in done.output


def test_a_recipe_with_one_seed_does_not_take_the_folder(copied: Path) -> None:
    kept = weights(copied)
    for flag in ("--auto-resume", "--resume"):
        done = call("train", copied.parent / "recipe.yaml", "seed=0", flag)
        assert done.exit_code == OutputExists.exit_code and "Name one of them" in done.output, done.output
    one = copied.with_name("one")
    shutil.copytree(copied / "seed-0", one)
    done = call("train", copied.parent / "recipe.yaml", f"output={one}", "--resume")
    assert done.exit_code == OutputExists.exit_code and "holds a run with one seed" in done.output
    assert weights(copied) == kept and (one / "result.json").is_file()


def test_bad_data_leave_an_earlier_folder_as_it_was(copied: Path) -> None:
    kept = weights(copied)
    done = call("train", copied.parent / "recipe.yaml", "--overwrite", "dataset.path.train=no.jsonl")
    assert done.exit_code != 0 and "no.jsonl" in done.output
    assert weights(copied) == kept and (copied / "result.json").is_file()


def test_a_call_that_was_killed_before_it_wrote_anything_starts_again(copied: Path) -> None:
    output = copied.with_name("begun")
    (output / "seed-0").mkdir(parents=True)
    for place in (output, output / "seed-0"):
        (place / ".lock").touch()
    path = copied.parent / "recipe.yaml"
    done = call("train", path, f"output={output}", "--auto-resume", "seeds=[0, 1]", "training.max_steps=1")
    assert done.exit_code == 0 and SeedsResult.load(output).seeds == [0, 1], done.output
    other = copied.with_name("other")
    other.mkdir()
    (other / "notes.txt").touch()
    done = call("train", path, f"output={other}", "--auto-resume")
    assert done.exit_code == OutputExists.exit_code and (other / "notes.txt").is_file()


def test_facts_of_the_card_are_set_in_the_folder_and_in_each_run(copied: Path) -> None:
    done = call("card", copied, "license=mit", *MODULES)
    assert done.exit_code == 0, done.output
    assert "mit, stated by the recipe" in (copied / "README.md").read_text(encoding="utf-8")
    assert "license: mit" in (copied / "seed-1" / "README.md").read_text(encoding="utf-8")
    assert SeedsResult.load(copied).recipe["card"] == {"license": "mit"}


def test_a_damaged_result_is_said_to_be_damaged(copied: Path) -> None:
    content = json.loads((copied / "result.json").read_text(encoding="utf-8"))
    for change, words in (({"steps": [1]}, "an entry for each run"), ({"scores": 3}, "scores"), ({"x": 1}, "unknown")):
        (copied / "result.json").write_text(json.dumps({**content, **change}), encoding="utf-8")
        with pytest.raises(BadRecipe, match=words):
            SeedsResult.load(copied)


def test_clean_lists_the_run_of_each_seed(copied: Path) -> None:
    done = call("clean", copied)
    assert done.exit_code == 0 and all(f"seed-{seed}" in done.output for seed in (0, 1, 2))


class Counts(TrainerCallback):
    """Counts its steps; a second run with the same object would go on counting."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.seen.append(state.global_step)
        assert self.seen == list(range(1, state.global_step + 1))


def test_seeds_are_given_in_python_with_callbacks_and_rows(folder: Path, tmp_path: Path) -> None:
    given = Counts()
    content = toy.recipe(folder.parent / "base", tmp_path / "run", general_text="none", score_base_model=False)
    rows = content.pop("dataset")
    rows["train"] = (row for row in rows["train"])
    found = finetune.train({**content, "seed": 7}, dataset=rows, seeds=range(2), callbacks=[given])
    assert isinstance(found, SeedsResult) and found.seeds == [0, 1] and given.seen == []
    assert "With two seeds, the interval of the mean is too narrow" in (tmp_path / "run" / "README.md").read_text()


def test_all_signatures_of_train_are_those_of_the_function() -> None:
    """Without a recipe, the type of the result follows from `seeds`. A recipe can have `seeds` itself."""
    whole = typing.get_type_hints(api.train)
    alone, with_recipe, with_seeds = (typing.get_type_hints(each) for each in typing.get_overloads(api.train))
    for hints in (alone, with_recipe, with_seeds):
        assert list(hints) == list(whole)
        assert {name for name in hints if hints[name] != whole[name]} <= {"recipe", "seeds", "return"}
    assert (alone["recipe"], alone["seeds"], alone["return"]) == (type(None), type(None), api.Trained)
    assert (with_recipe["seeds"], with_recipe["return"]) == (type(None), api.Trained | Any)
    assert with_recipe["recipe"] | None == whole["recipe"]
    assert (with_seeds["recipe"], with_seeds["return"]) == (whole["recipe"], SeedsResult)


@pytest.mark.parametrize(
    "seeds", [[1], [1, 1], [0, -1], [0, True], ["0", "1"], "0", 3, [0, 2**32]], ids=lambda seeds: str(seeds)
)
def test_wrong_seeds_are_refused(seeds: Any, tmp_path: Path) -> None:
    content = {"task": "toy:TASK", "model": "m", "dataset": "d", "strategy": "full", "output": str(tmp_path)}
    with pytest.raises(BadRecipe, match="seeds: must be a list of two or more different whole numbers"):
        recipe.from_mapping({**content, "seeds": seeds})


def small(**changes: Any) -> dict[str, Any]:
    return {"task": "t", "model": "m", "dataset": "d.csv", "strategy": "full", "output": "runs/r", **changes}


def test_a_recipe_has_either_seed_or_seeds() -> None:
    with pytest.raises(BadRecipe, match="give either `seed` or `seeds`, not both"):
        recipe.from_mapping(small(seed=1, seeds=[1, 2]))
    assert "seed" not in recipe.to_mapping(recipe.from_mapping(small(seeds=[1, 2])))
    assert "seeds" not in recipe.to_mapping(recipe.from_mapping(small()))


def test_an_override_replaces_the_other_key_and_keeps_the_rows() -> None:
    several = recipe.parse(small(seed=7), ["seeds=[0, 1]"])
    assert several.seeds == (0, 1) and several.data_seed == 7 and several.with_seed(1).data_seed == 7
    assert recipe.parse(small(seed=7, dataset={"path": "d", "seed": 3}), ["seeds=[0, 1]"]).data_seed == 3
    one = recipe.parse(small(seeds=[0, 1]), ["seed=5"])
    assert (one.seed, one.seeds, one.data_seed) == (5, (), 5)


def test_the_recipe_of_a_seed_says_everything() -> None:
    one = recipe.from_mapping(small(seeds=[3, 4])).with_seed(4)
    assert (one.seed, one.seeds, one.output, one.data_seed) == (4, (), "runs/r/seed-4", 42)
    again = recipe.from_mapping(recipe.to_mapping(one))
    assert again == one and isinstance(again, Recipe)


def test_the_data_sets_of_a_mixture_have_one_seed() -> None:
    mixture = {"mixture": {"a": {"path": "a.csv", "seed": 1}, "b": "b.csv"}}
    with pytest.raises(BadRecipe, match=r"dataset.mixture.a.seed: one seed draws the rows of all data sets"):
        recipe.from_mapping(small(dataset=mixture))
    whole = {"mixture": {"a": "a.csv", "b": "b.csv"}, "seed": 1}
    assert recipe.from_mapping(small(dataset=whole)).data_seed == 1


def test_a_callback_that_cannot_be_copied_is_named(folder: Path, tmp_path: Path) -> None:
    class Open(TrainerCallback):
        def __init__(self) -> None:
            self.file = (row for row in ())

    content = toy.recipe(folder.parent / "base", tmp_path / "run")
    rows = content.pop("dataset")
    with pytest.raises(BadOptions, match="one of them cannot be copied"):
        finetune.train(content, dataset=rows, seeds=[0, 1], callbacks=[Open()])


@pytest.mark.slow
def test_a_call_that_is_killed_in_the_second_seed_goes_on(folder: Path, tmp_path: Path) -> None:
    path = write(tmp_path, tmp_path / "runs", model=str(folder.parent / "base"))
    words = [sys.executable, "-m", "finetune", "train", str(path), "--auto-resume", "training.max_steps=3"]
    found = os.pathsep.join([str(Path(toy.__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": found}
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    while not (tmp_path / "runs" / "seed-1" / "checkpoint-1" / "manifest.json").is_file():
        assert running.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    running.kill()
    running.wait()
    assert not (tmp_path / "runs" / "result.json").exists()
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    again, straight = SeedsResult.load(tmp_path / "runs"), SeedsResult.load(folder)
    assert again.seed_scores == straight.seed_scores and weights(tmp_path / "runs") == weights(folder)
    assert again.intervals == straight.intervals and again.differences == straight.differences
