"""A model of a million parameters learns all that these tasks teach, by the recipes that `finetune init` writes.

Slow: minutes on two cores, and as many more where the base is not made yet. What the test splits ask is new: what an
answer depends on (which ship, which load) stands in no two rows, though kinds of question and names are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import finetune
from finetune.result import Result
from finetune_trl import tasks

pytestmark = pytest.mark.slow

Run = Callable[..., Result]


def begun(task: str, folder: Path, **sections: Any) -> Result:
    """Train by the task's starter, with some options of each section changed."""
    starter = tasks()[task].starter
    both = {name: {**starter.get(name, {}), **given} for name, given in sections.items() if isinstance(given, Mapping)}
    return finetune.train(
        task=task, strategy="full", output=str(folder / task), **{"dataset": starter["dataset"], **sections, **both}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of all runs."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def instructed(folder: Path) -> Result:
    """Teach the base to answer: instructions, and the office's replies of either manner."""
    mixture = {"instructions": "sample:harbour-instructions", "replies": "sample:harbour-replies"}
    return finetune.train(
        task="sft",
        model="sample:decoder",
        dataset={"mixture": mixture},
        strategy="full",
        preprocessor={**tasks()["sft"].starter["preprocessor"], "chat_template": "plain"},
        training={
            **tasks()["sft"].starter["training"],
            "num_train_epochs": 3,
            "learning_rate": 2e-3,  # twenty times a large model's
            "per_device_train_batch_size": 16,
            "per_device_eval_batch_size": 100,
        },
        generation={"max_new_tokens": 48},
        output=str(folder / "sft"),
    )


@pytest.fixture(scope="module")
def reward_model(folder: Path, instructed: Result) -> Result:
    """Learn a reward model from pairs."""
    return begun("reward", folder, model=instructed.directory, training={"max_steps": 60, "learning_rate": 3e-4})


def reinforced(folder: Path, name: str, model: str, reward: str) -> Result:
    """Train a model with RLOO on a reward."""
    starter = tasks()["rloo"].starter
    return finetune.train(
        task="rloo",
        model=model,
        dataset=starter["dataset"],
        strategy="full",
        preprocessor={**starter["preprocessor"], "reward": reward},
        training={
            **starter["training"],
            "max_steps": 20,
            "learning_rate": 3e-4,
            "per_device_train_batch_size": 32,
            "per_device_eval_batch_size": 100,
            "max_completion_length": 48,
        },
        output=str(folder / name),
    )


def test_supervised_fine_tuning_answers_four_of_five_new_instructions_to_the_letter(instructed: Result) -> None:
    before, after = instructed.base_model_scores["test"], instructed.scores["test"]
    assert before["exact_match@instructions"] < 0.05
    assert after["exact_match@instructions"] >= 0.8
    assert after["stopped"] > 0.98


def test_preferences_are_learned_from_there_with_an_accuracy_above_nine_tenths(
    folder: Path, instructed: Result
) -> None:
    result = begun("dpo", folder, model=instructed.directory, training={"max_steps": 80, "learning_rate": 2e-4})
    before, after = result.base_model_scores["test"], result.scores["test"]
    assert before["accuracy"] == 0.5 and before["margin"] == 0  # the base model is the reference
    assert after["accuracy"] > 0.9
    assert result.intervals["test"]["accuracy"]["low"] > 0.85
    assert after["chosen_reward"] > after["rejected_reward"]


def test_a_reward_model_is_learned_from_there_that_finds_the_better_answer(reward_model: Result) -> None:
    after = reward_model.scores["test"]
    assert after["accuracy"] > 0.9
    assert reward_model.intervals["test"]["accuracy"]["low"] > 0.85


def test_reinforcement_by_that_reward_model_raises_its_mean(
    folder: Path, instructed: Result, reward_model: Result
) -> None:
    result = reinforced(folder, "polite", instructed.directory, reward_model.directory)
    assert result.differences["test"]["base_model"]["reward"]["low"] > 0


@pytest.mark.parametrize("reward", ["finetune_samples.rewards:courtesy", "finetune_trl.reinforcement.rewards:brevity"])
def test_reinforcement_by_a_function_raises_its_mean(folder: Path, instructed: Result, reward: str) -> None:
    result = reinforced(folder, reward.rpartition(":")[2], instructed.directory, reward)
    assert result.differences["test"]["base_model"]["reward"]["low"] > 0
