"""Early stopping as a key of a recipe: what it sets up, what it refuses, and what the result says about it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toy
import yaml
from cases import case
from hypothesis import given
from hypothesis import strategies as st
from together import TASKS, bases_in
from transformers import TrainingArguments

import finetune
from finetune import recipe as recipes
from finetune.errors import BadOptions
from finetune.evaluation import verdicts
from finetune.result import Result
from finetune.training import early_stopping
from finetune.training.arguments import arguments, check_arguments

PATIENCE = early_stopping.PATIENCE
NEVER = {PATIENCE: 2, "early_stopping_threshold": 1e9, "eval_strategy": "steps", "eval_steps": 1, "logging_steps": 1}
"""No improvement is large enough, so the run stops at its third evaluation."""


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"early_stopping_threshold": 0.1}, "has an effect with 'early_stopping_patience' only"),
        ({PATIENCE: 2, "load_best_model_at_end": False}, "'load_best_model_at_end' cannot be false"),
        ({PATIENCE: 2, "eval_strategy": "no"}, "needs evaluations, so 'eval_strategy' cannot be 'no'"),
        ({PATIENCE: 2, "save_strategy": "no"}, "needs checkpoints, so 'save_strategy' cannot be 'no'"),
        ({PATIENCE: 2, "eval_strategy": "steps", "save_strategy": "epoch"}, "save_strategy is 'epoch'"),
        ({PATIENCE: 2, "eval_strategy": "steps", "eval_steps": 5, "save_steps": 10}, "eval_steps is 5 and save_steps"),
        ({PATIENCE: 3}, "3 cannot stop this run before its end, because it is evaluated 3 times"),
        ({PATIENCE: 3, "num_train_epochs": 4}, "it is evaluated 4 times"),
        ({PATIENCE: 3, "max_steps": 40, "eval_strategy": "steps", "eval_steps": 10}, "it is evaluated 4 times"),
        ({PATIENCE: 9, "eval_strategy": "steps", "eval_steps": 0.1}, "it is evaluated 10 times"),
        ({PATIENCE: 0}, "cannot be 0. Write at least 1"),
        ({PATIENCE: "three"}, "early_stopping_patience"),
        ({PATIENCE: 2, "early_stopping_threshold": -1}, "cannot be -1"),
        ({"early_stoping_patience": 2}, "Did you mean 'early_stopping_patience'"),
    ],
)
def test_what_cannot_stop_is_refused_while_planning(training: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOptions) as raised:
        _check(training)
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "training",
    [
        {PATIENCE: 3, "num_train_epochs": 5},
        {PATIENCE: 3, "max_steps": 50, "eval_strategy": "steps", "eval_steps": 10},
        {PATIENCE: 8, "eval_strategy": "steps", "eval_steps": 0.1},
        {PATIENCE: 3, "max_steps": 50},
        {PATIENCE: None},
    ],
)
def test_what_can_stop_is_allowed(training: dict[str, Any]) -> None:
    _check(training)


def _check(training: dict[str, Any]) -> None:
    check_arguments(TrainingArguments, training)
    early_stopping.check(training, {})


_CHOICES = {
    "eval_strategy": st.sampled_from(["no", "steps", "epoch"]),
    "save_strategy": st.sampled_from(["no", "steps", "epoch", "best"]),
    "eval_steps": st.sampled_from([2, 5, 0.1]),
    "save_steps": st.sampled_from([2, 5, 0.1]),
    "logging_steps": st.sampled_from([3, 10]),
    "load_best_model_at_end": st.booleans(),
    "max_steps": st.sampled_from([-1, 100]),
    "num_train_epochs": st.sampled_from([1, 9]),
}


@given(st.fixed_dictionaries({PATIENCE: st.integers(1, 3)}, optional=_CHOICES), st.booleans())
def test_upstream_takes_whatever_is_not_refused(training: dict[str, Any], streaming: bool) -> None:
    try:
        early_stopping.check(training, {})
    except BadOptions:
        return
    recipe: Any = SimpleNamespace(training=training, dataset=SimpleNamespace(streaming=streaming))
    evaluator: Any = SimpleNamespace(primary="accuracy", greater_is_better=True)
    task: Any = SimpleNamespace(training={}, training_on_accelerator={})
    strategy: Any = SimpleNamespace(trains_with_activation_checkpointing=True)
    made = arguments(recipe, task, strategy, evaluator=evaluator, validation=True)
    args = TrainingArguments("x", use_cpu=True, **early_stopping.without(made))
    assert args.load_best_model_at_end and args.eval_strategy != "no" and args.metric_for_best_model == "accuracy"
    if args.save_strategy != "best":
        assert args.eval_strategy == args.save_strategy
    if args.eval_strategy == args.save_strategy == "steps":
        assert args.eval_steps == args.save_steps, "an evaluation without a checkpoint cannot be the best one"


def test_a_run_stops_with_the_best_weights_and_says_so(toy_base: Path, tmp_path: Path) -> None:
    recipe = toy.recipe(toy_base, tmp_path / "run", training={**NEVER, "max_steps": 30, "save_strategy": "steps"})
    result = finetune.train(**recipe)
    assert (result.steps, result.early_stopping["stopped"]) == (3, True)
    scores = {entry["step"]: entry["eval_accuracy"] for entry in result.log if "eval_accuracy" in entry}
    best = result.early_stopping["best_step"]
    assert scores[best] == max(scores.values()) == result.early_stopping["best"]
    assert result.scores["validation"]["accuracy"] == scores[best]
    (said,) = [text for text in verdicts.all_verdicts(result) if text.startswith("Stopped early")]
    assert said.startswith("Stopped early after step 3 of 30: accuracy did not improve by more than 1e+09 in 2 evalu")
    assert f"The weights are those of step {best} (accuracy" in said
    written = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["training"]
    assert written[PATIENCE] == 2 and written["load_best_model_at_end"] is True and written["save_steps"] == 1
    assert recipes.read(tmp_path / "run" / "recipe.yaml").training[PATIENCE] == 2
    assert "Stopped early after step 3 of 30" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("stopped", [True, False])
def test_a_run_that_was_stopped_is_not_advised_to_train_longer(stopped: bool, toy_run: Path) -> None:
    result = Result.load(toy_run, trust_code=True)
    enough = {"low": -0.1, "high": 0.1, "value": 0.0}
    split, score = verdicts.report_split(result) or "", result.primary
    stop = {"patience": 2, "threshold": 0.0, "score": score, "stopped": stopped, "step": 3, "max_steps": 30}
    falling = [{"step": step, "loss": 1 - step / 25} for step in range(1, 21)]
    for log in (falling, [{**entry, "loss": 0.7} for entry in falling]):
        made = replace(
            result, log=log, newly_initialized=["classifier.weight"], scores={split: {score: 0.5}},
            baselines={split: {"majority": {score: 0.5}}}, differences={split: {"majority": {score: enough}}},
            units={split: {"size": 100}}, early_stopping={**stop, "best_step": 1, "best": 0.5},
        )  # fmt: skip
        sentences = list(verdicts.fit(made))
        assert any("is not clearly better than that of the baseline “majority”" in text for text in sentences)
        assert any("train longer" in text.lower() for text in sentences) is not stopped, sentences


def test_a_run_that_does_not_stop_says_so(toy_base: Path, tmp_path: Path) -> None:
    recipe = toy.recipe(toy_base, tmp_path / "run", training={PATIENCE: 3, "max_steps": -1, "num_train_epochs": 5})
    del recipe["training"]["save_strategy"]
    recipe["training"]["learning_rate"] = 1e-7
    recipe["dataset"]["train"] = recipe["dataset"]["train"][:4]
    result = finetune.train(**recipe, evaluator={"name": "test_early_stopping:Improving"})
    assert result.steps == 5 and not result.early_stopping["stopped"]
    assert any(text.startswith("Early stopping did not end the run") for text in verdicts.all_verdicts(result))


class Improving(toy.Accuracy):
    """A score that is better each time."""

    calls = 0.0

    def scores(self, records: Any) -> dict[str, float]:
        Improving.calls += 1
        return {"accuracy": Improving.calls}


def test_without_validation_it_is_refused_before_the_model_is_loaded(
    toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = toy.recipe(toy_base, tmp_path / "run", training={**NEVER, "max_steps": 30, "save_strategy": "steps"})
    recipe["dataset"] = {"path": "test_early_stopping:only_train", "validation_size": 0}
    monkeypatch.setattr("finetune.models.load", lambda *_: pytest.fail("a model is loaded"))
    with pytest.raises(BadOptions, match="'early_stopping_patience' needs a validation split"):
        finetune.train(**recipe)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("*"))


def only_train() -> dict[str, Any]:
    return {"train": toy.rows(24)}


@pytest.mark.parametrize("task", ["text-classification", "summarization", "sft", "dpo"])
def test_every_kind_of_trainer_stops(task: str, tmp_path: Path) -> None:
    of = case(task)
    base = bases_in(tmp_path / "base")(of.family, of.words)
    result = finetune.train(
        task=task,
        model=base,
        dataset={**TASKS[task].starter["dataset"], "limit": {"train": 24, "validation": 4, "test": 4}},
        strategy="lora",
        preprocessor=dict(of.preprocessor),
        training={**of.training, **NEVER, "max_steps": 8, "per_device_train_batch_size": 2},
        generation=dict(of.generation),
        score_base_model=False,
        general_text="none",
        output=tmp_path / "run",
    )
    assert (result.steps, result.early_stopping["stopped"]) == (3, True)


def test_a_stream_stops(tmp_path: Path) -> None:
    base = bases_in(tmp_path / "base")("bert", "bert")
    for split, size in (("train", 60), ("validation", 12)):
        lines = [json.dumps(row) + "\n" for row in toy.rows(size, seed=size)]
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    result = finetune.train(
        task="text-classification",
        model=base,
        dataset={"path": str(tmp_path), "streaming": True, "shuffle_buffer": 8},
        strategy="full",
        training={PATIENCE: 2, "early_stopping_threshold": 1e9, "max_steps": 30, "per_device_train_batch_size": 2},
        score_base_model=False,
        general_text="none",
        output=tmp_path / "run",
    )
    assert (result.steps, result.early_stopping["stopped"]) == (9, True)  # it is evaluated ten times
