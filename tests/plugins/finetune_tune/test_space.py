"""The search space of a study, its storage, and the values that are drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import studies
import yaml

from finetune.errors import BadRecipe
from finetune.plan import make
from finetune.plugins import discover
from finetune.recipe import read
from finetune.recipe.search import parse
from finetune_tune import sampling
from finetune_tune.space import as_written, combinations, recipe_of_trial, space_of, with_evaluations, without_test
from finetune_tune.storage import Trials, open_storage, quiet
from finetune_tune.trial import Rung, Settings, Trial
from finetune_tune.workers import environment

SETTINGS = Settings(trials=9, seed=42, greater_is_better=True, primary="accuracy")
SPACE = parse(
    {
        "strategy": ["lora", {"name": "full"}],
        "strategy.r": {"values": [4, 8], "when": {"strategy": "lora"}},
        "training.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
        "training.num_train_epochs": {"low": 1, "high": 3},
    }
)


def test_without_a_section_the_rate_and_the_options_of_the_strategy_are_searched(
    toy_base: Path, tmp_path: Path
) -> None:
    path = studies.recipe(tmp_path, toy_base, search=None, strategy="lora", training={"learning_rate": 2e-4})
    plan = make(read(path), discover())
    space = space_of(plan)
    assert space.section["training.learning_rate"] == {"low": 6.7e-5, "high": 6e-4, "log": True}
    assert space.section["strategy.r"] == [4, 8, 16, 32]
    assert "the recipe's own" in space.source
    assert as_written(plan, space) == {"training.learning_rate": 2e-4, "strategy.r": "8"}


def test_a_recipe_outside_of_its_space_is_no_trial(toy_base: Path, tmp_path: Path) -> None:
    plan = make(read(studies.recipe(tmp_path, toy_base), ["training.learning_rate=1.0"]), discover())
    assert as_written(plan, space_of(plan)) is None


def test_a_trial_keeps_its_best_evaluation_and_saves_at_each(toy_base: Path, tmp_path: Path) -> None:
    plan = make(read(studies.recipe(tmp_path, toy_base)), discover())
    made = recipe_of_trial(plan.recipe, space_of(plan), {"training.learning_rate": 0.05}, output="x")
    assert made.training["learning_rate"] == 0.05 and made.output == "x" and not made.search
    assert made.training["load_best_model_at_end"] is True and made.training["eval_steps"] == 1 / 9
    assert made.dataset.splits == {"test": None}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"eval_strategy": "steps", "eval_steps": 1 / 9}),
        ({"eval_strategy": "epoch", "save_strategy": "no"}, {"eval_strategy": "epoch"}),
        ({"eval_steps": 5}, {"eval_strategy": "steps", "eval_steps": 5}),
        ({"eval_strategy": "no", "save_steps": 3}, {"eval_strategy": "steps", "eval_steps": 1 / 9}),
    ],
)
def test_evaluations_and_checkpoints_come_together(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert with_evaluations(given) == {**expected, "load_best_model_at_end": True}


def test_the_test_split_of_each_part_of_a_mixture_is_left_out() -> None:
    dataset: dict[str, Any] = {"mixture": {"a": "a.csv", "b": {"path": "b", "splits": {"validation": "dev"}}}}
    without_test(dataset)
    assert dataset["mixture"]["a"] == {"path": "a.csv", "splits": {"test": None}}
    assert dataset["mixture"]["b"]["splits"] == {"validation": "dev", "test": None}


def test_each_value_and_each_end_is_checked() -> None:
    every = list(combinations(SPACE))
    assert len(every) == (2 + 1) * 2 * 2
    assert all(("strategy.r" in chosen) == (chosen["strategy"] == "lora") for chosen in every)
    many = parse({f"training.x{number}": [1, 2, 3] for number in range(7)})
    some = list(combinations(many))
    assert {(key, value) for chosen in some for key, value in chosen.items()} == {
        (each.key, label) for each in many for label in each.labels
    }


def test_values_depend_on_the_trials_before_and_on_nothing_else() -> None:
    trials: list[Trial] = []
    for number in range(14):
        chosen = sampling.draw(SPACE, trials, SETTINGS, number=number)
        assert chosen == sampling.draw(SPACE, trials, SETTINGS, number=number)
        rung = Rung(step=1, score=float(number % 5), best_step=1, seconds=0.0)
        trials.append(Trial(number=number, chosen=chosen, state="paused", rungs=(rung,)))
    assert len({str(trial.chosen) for trial in trials}) > 7
    other = replace(SETTINGS, seed=43)
    assert sampling.draw(SPACE, trials, other, number=14) != sampling.draw(SPACE, trials, SETTINGS, number=14)


@pytest.mark.parametrize("place", [None, "study.journal", "sqlite:///other.db"])
def test_trials_come_back_from_each_storage(place: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rung = Rung(step=3, score=0.1 + 0.2, best_step=2, seconds=1.5)
    first = Trial(number=0, chosen={"strategy": "full", "training.learning_rate": 1 / 3e4}, state="running")
    with quiet():
        trials = Trials.open(open_storage(place, tmp_path), "s", SPACE, SETTINGS)
        assert trials.all() == [] and trials.facts() == {}
        trials.set_facts({"a": [1]})
        trials.add(replace(first, chosen={"strategy": "full", "training.learning_rate": 5e-5}))
        paused = replace(first, chosen={"strategy": "full", "training.learning_rate": 5e-5}, rungs=(rung,))
        trials.update(replace(paused, state="paused"))
        again = Trials.open(open_storage(place, tmp_path), "s", SPACE, SETTINGS)
        assert again.facts() == {"a": [1]} and again.all() == [replace(paused, state="paused")]
        again.update(replace(paused, state="complete"))
        assert trials.all() == [replace(paused, state="complete")]
        assert again.begun_again(SETTINGS).all() == []


def test_a_storage_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=r"--storage: 'nonsense://x' cannot be opened: "):
        open_storage("nonsense://x", tmp_path)


def test_workers_share_the_cores_and_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    found = [environment(number, 3) for number in range(3)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == ["3", "5", "3"]
    assert {each["OMP_NUM_THREADS"] for each in found} == {"2"}


def test_the_page_shows_a_section_that_can_be_read() -> None:
    page = (Path(__file__).parents[3] / "docs/how-to/tune-a-recipe.md").read_text(encoding="utf-8")
    block = page.split("```yaml\n")[1].split("```")[0].replace("1.0e-5", "1.0e-05").replace("1.0e-3", "1.0e-03")
    assert len(parse(yaml.safe_load(block)["search"])) == 3
