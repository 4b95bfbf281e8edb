"""Reinforcement learning: rewards are what the function says, and a reward that says nothing is not trained on."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import finetune
from finetune.errors import BadData, BadOptions
from finetune.testing.laws import check_finding
from finetune.testing.tokenizers import tokenizer
from finetune_trl.chat import templates
from finetune_trl.reinforcement.evaluator import RLEvaluator
from finetune_trl.reinforcement.prompts import RLPreprocessor
from finetune_trl.reinforcement.rewards import load_reward
from finetune_trl.reinforcement.trainer import ConstantRewardWarning

PROMPTS = [
    {"prompt": f"Who keeps {what}?", "vowel": vowel}
    for what in ("the pier", "the ledger", "the nets", "the quay", "the boats", "salt")
    for vowel in "ae"
]


# --- rewards, named in recipes below as test_rl:… ---------------------------------------------------------------------


def vowels(completions: Sequence[Any], completion_ids: Sequence[Any], **_: Any) -> list[float]:
    """Reward every a."""
    assert all(completion_ids) and len(completion_ids) == len(completions)
    return [float(str(completion).count("a")) for completion in completions]


def vowel(completions: Sequence[Any], vowel: Sequence[str], **_: Any) -> list[float]:
    """Reward every letter that the row names."""
    return [float(text.count(letter)) for text, letter in zip(completions, vowel, strict=True)]


def nothing(completions: Sequence[Any], **_: Any) -> list[float]:
    """Reward nothing."""
    return [0.0] * len(completions)


def silence(completions: Sequence[Any], **_: Any) -> list[None]:
    """Have no opinion."""
    return [None] * len(completions)


def by_prompt(prompts: Sequence[Any], **_: Any) -> list[float]:
    """Reward the prompt, whatever the answer."""
    return [float(len(prompt)) for prompt in prompts]


def unclear(completions: Sequence[Any], **_: Any) -> list[str]:
    """Return words where numbers are wanted."""
    return ["good"] * len(completions)


@pytest.fixture(scope="module")
def base(llama_base: Callable[..., Path]) -> Path:
    return llama_base("llama")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def recipe(task: str, strategy: str, base: Path, output: Path, **sections: Any) -> dict[str, Any]:
    training = {"max_steps": 4, "per_device_train_batch_size": 8, "learning_rate": 5e-3, "logging_steps": 1,
                "save_steps": 2, "save_strategy": "steps", "eval_strategy": "no",
                "max_completion_length": 8}  # fmt: skip
    return {
        "task": task,
        "model": str(base),
        "dataset": {"train": PROMPTS[:8], "test": PROMPTS[8:]},
        "strategy": strategy,
        "output": str(output),
        **sections,
        "preprocessor": {"reward": "test_rl:vowels", **sections.get("preprocessor", {})},
        "training": {**training, **sections.get("training", {})},
    }


@pytest.fixture(scope="module")
def runs(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Path, Any]]:
    """Return a function that gives the folder and the result of a finished run of four steps."""
    made: dict[tuple[str, str], tuple[Path, Any]] = {}

    def run(task: str, strategy: str) -> tuple[Path, Any]:
        if (task, strategy) not in made:
            folder = tmp_path_factory.mktemp("runs") / f"{task}-{strategy}"
            made[task, strategy] = folder, finetune.train(**recipe(task, strategy, base, folder))
        return made[task, strategy]

    return run


# --- whole runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["full", "lora"])
@pytest.mark.parametrize("task", ["rloo", "grpo"])
def test_a_run_trains_scores_and_reloads(task: str, strategy: str, runs: Any) -> None:
    folder, result = runs(task, strategy)
    rewards = [entry["reward"] for entry in result.log if "reward" in entry]
    assert len(rewards) == 4 and result.steps == 4
    moved = [entry["grad_norm"] for entry in result.log if "grad_norm" in entry]
    assert max(moved) > 0
    assert not [path for path in folder.rglob("*") if path.name == "ref"]
    model = finetune.load(folder)
    records = model.predict([{"prompt": row["prompt"]} for row in PROMPTS[8:]])
    assert [record["reward"] for record in records] == [record["prediction"].count("a") for record in records]
    mean = sum(record["reward"] for record in records) / len(records)
    assert result.scores["test"]["reward"] == pytest.approx(mean)
    alike = {"low": mean, "high": mean}  # two prompts with equal rewards have no interval
    interval = result.intervals["test"].get("reward", alike)
    assert interval["low"] <= mean <= interval["high"]
    assert max(record["length"] for record in records) <= 8


def test_enough_steps_raise_the_reward_significantly(base: Path, tmp_path: Path) -> None:
    training = {"max_steps": 25, "learning_rate": 1e-2, "per_device_train_batch_size": 32, "num_generations": 8,
                "save_strategy": "no", "lr_scheduler_type": "constant"}  # fmt: skip
    result = finetune.train(**recipe("rloo", "full", base, tmp_path / "run", training=training,
                                     generation={"do_sample": True}))  # fmt: skip
    difference = result.differences["test"]["base_model"]["reward"]
    assert difference["low"] > 0


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_a_resumed_run_ends_with_the_same_bits(strategy: str, base: Path, runs: Any, tmp_path: Path) -> None:
    folder, _ = runs("rloo", strategy)
    cut = shutil.copytree(folder, tmp_path / "cut")
    shutil.rmtree(cut / "checkpoint-4")
    (cut / "result.json").unlink()
    resumed = finetune.train(**recipe("rloo", strategy, base, cut), resume=True)
    assert resumed.resumed_from == "checkpoint-2"
    name = "adapter_model.safetensors" if strategy == "lora" else "model.safetensors"
    ours, theirs = load_file(cut / name), load_file(folder / name)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    ("task", "cut_at", "again"),
    [
        ("rloo", 5, {"num_iterations": 2}),
        ("grpo", 3, {"num_iterations": 2, "num_generations": 4, "gradient_accumulation_steps": 2,
                  "steps_per_generation": 4, "per_device_train_batch_size": 4}),
    ],
)  # fmt: skip
def test_a_run_that_uses_answers_again_resumes_with_them(
    task: str, cut_at: int, again: dict[str, Any], base: Path, tmp_path: Path
) -> None:
    again = {**again, "max_steps": 7, "save_steps": 1, "save_total_limit": 9}
    whole = tmp_path / "whole"
    result = finetune.train(**recipe(task, "full", base, whole, training=again), score_base_model=False)
    assert result.log[-1]["epoch"] > 1  # the order of the second epoch is another
    cut = shutil.copytree(whole, tmp_path / "cut")
    for step in range(cut_at + 1, 8):
        shutil.rmtree(cut / f"checkpoint-{step}")
    (cut / "result.json").unlink()
    finetune.train(**recipe(task, "full", base, cut, training=again), score_base_model=False, resume=True)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (cut, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_validation_prompts_are_scored_while_training(base: Path, tmp_path: Path) -> None:
    given = recipe("grpo", "full", base, tmp_path / "run",
                   training={"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True})  # fmt: skip
    given["dataset"] = {**given["dataset"], "validation": PROMPTS[:3]}
    result = finetune.train(**given)
    scored = [entry["eval_reward"] for entry in result.log if "eval_reward" in entry]
    assert len(scored) == 2 and result.scores["validation"]["reward"] == pytest.approx(max(scored))


def test_rewards_are_given_the_columns_that_they_ask_for(base: Path, tmp_path: Path) -> None:
    asked = {"reward": ["test_rl:vowels", "test_rl:vowel"], "conversational": False}
    weighted = {"max_steps": 1, "reward_weights": [0.0, 2.0], "save_strategy": "no"}
    result = finetune.train(**recipe("rloo", "full", base, tmp_path / "run", preprocessor=asked, training=weighted))
    lines = [line for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines() if '"test"' in line]
    assert len(lines) == 4
    for line in map(json.loads, lines):
        assert line["reward"] == 2.0 * line["prediction"].count(line["example"]["vowel"])
    assert "rewards/vowel/mean" in result.log[0]


def test_prompts_without_the_columns_of_a_reward_are_answered_and_have_no_reward(base: Path, tmp_path: Path) -> None:
    asked = {"reward": "test_rl:vowel", "reward_columns": ["vowel"], "allow_constant": True}
    training = {"max_steps": 1, "save_strategy": "no"}
    finetune.train(**recipe("rloo", "full", base, tmp_path / "run", preprocessor=asked, training=training))
    model = finetune.load(tmp_path / "run")
    records = model.predict([{"prompt": row["prompt"]} for row in PROMPTS[8:]])
    assert [record["reward"] for record in records] == [None] * 4
    assert all(isinstance(record["prediction"], str) for record in records)


@pytest.mark.parametrize("task", ["rloo", "grpo"])
def test_the_reference_is_the_runs_own_base(
    task: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("TRL loads the reference by itself")

    module = importlib.import_module(f"trl.trainer.{task}_trainer")
    monkeypatch.setattr(module, "create_model_from_path", never)
    result = finetune.train(**recipe(task, "full", base, tmp_path / "run", training={"beta": 0.1, "max_steps": 2}))
    assert module.create_model_from_path is never
    first, second = (entry["kl"] for entry in result.log if "kl" in entry)
    assert first == pytest.approx(0, abs=1e-6) and abs(second) > 1e-6


def test_a_reward_model_rewards_as_it_predicts(base: Path, tmp_path: Path) -> None:
    pairs = [{"prompt": row["prompt"], "chosen": f" Aye, {number}.", "rejected": f" No {number} here."}
             for number, row in enumerate(PROMPTS)]  # fmt: skip
    finetune.train(task="reward", model=str(base), dataset={"train": pairs}, strategy="lora",
                   output=str(tmp_path / "reward-model"), training={"max_steps": 2, "save_strategy": "no"})  # fmt: skip
    with_reward_model = recipe(
        "rloo", "lora", base, tmp_path / "run", preprocessor={"reward": str(tmp_path / "reward-model")}
    )
    result = finetune.train(**with_reward_model)
    assert "rewards/reward-model/mean" in result.log[0]
    answers = [" Aye.", "", " Nobody knows who keeps it."]
    asked = [{"prompt": "Who keeps the pier?", "completion": answer} for answer in answers if answer]
    wanted = [record["prediction"] for record in finetune.load(tmp_path / "reward-model").predict(asked)]
    scores = load_reward(str(tmp_path / "reward-model"))(prompts=["Who keeps the pier?"] * 3, completions=answers)
    assert [scores[0], scores[2]] == pytest.approx(wanted, rel=1e-5) and len(set(scores)) == 3


# --- a reward that says nothing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("test_rl:nothing", r"test_rl:nothing is 0 for every answer that the base model writes to 6 prompts"),
        ("test_rl:by_prompt", r"is the same for all answers to one prompt"),
        ("test_rl:silence", r"test_rl:silence gives no number to any answer"),
    ],
)
def test_a_constant_reward_is_refused_before_the_first_step(
    reward: str, message: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadOptions, match=message):
        finetune.train(**recipe("rloo", "full", base, tmp_path / "run", preprocessor={"reward": reward}))
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_an_allowed_constant_reward_gives_a_warning_while_training(base: Path, tmp_path: Path) -> None:
    allowed = {"reward": "test_rl:nothing", "allow_constant": True}
    with pytest.warns(UserWarning, match="step 3: in the last 3 entries of the log"):
        result = finetune.train(**recipe("rloo", "full", base, tmp_path / "run", preprocessor=allowed))
    assert result.scores["test"]["reward"] == 0.0


def test_the_watch_warns_once_a_stretch() -> None:
    watch, state = ConstantRewardWarning(), SimpleNamespace(global_step=7)
    for share in (1.0, 1.0, 0.5, 1.0, 1.0):
        watch.on_log(None, state, None, logs={"frac_reward_zero_std": share, "reward": 1.0})
    with pytest.warns(UserWarning, match="its mean is 1"):
        watch.on_log(None, state, None, logs={"frac_reward_zero_std": 1.0, "reward": 1.0})
    watch.on_log(None, state, None, logs={"frac_reward_zero_std": 1.0, "reward": 1.0})  # no second warning


@pytest.mark.parametrize(
    ("sections", "error", "message"),
    [
        ({"preprocessor": {"reward": ""}}, BadOptions, "reward is missing. Name a Python function"),
        ({"preprocessor": {"reward": "test_rl:unclear"}}, BadOptions, "returned the text 'good' for completion 0"),
        ({"preprocessor": {"reward": "brevity"}}, BadOptions, "neither a folder nor a Python function"),
        ({"preprocessor": {"reward": "test_rl:brevety"}}, BadOptions, r"test_rl\.py has no 'brevety'"),
        ({"preprocessor": {"reward": "no_such_rewards:any"}}, BadOptions, "there is no module 'no_such_rewards'"),
        (
            {"preprocessor": {"reward": "test_rl:PROMPTS"}},
            BadOptions,
            "'test_rl:PROMPTS' is not a function; it is a value of the type list",
        ),
        ({"training": {"per_device_train_batch_size": 6}}, BadOptions, "must hold whole groups of num_generations"),
        ({"training": {"num_generations_eval": 2}}, BadOptions, "'num_generations_eval' would be ignored"),
        ({"training": {"sync_ref_model": True}}, BadOptions, "'sync_ref_model' would move the reference"),
        ({"training": {"chat_template_kwargs": {"a": 1}}}, BadOptions, "Set preprocessor.chat_template instead"),
        ({"evaluator": {"primary": "length"}}, BadOptions, "primary: Input should be 'reward'"),
        ({"training": {"num_generations": 3}}, BadOptions, "or num_generations to a divisor of 8"),
        ({"training": {"steps_per_generation": 2, "num_generations": 5}}, BadOptions, "divisible by num_generations"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_what_to_do(
    sections: dict[str, Any], error: type[Exception], message: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        finetune.train(**recipe("grpo", "full", base, tmp_path / "run", **sections))


def test_a_folder_that_holds_no_reward_model_is_refused(base: Path, runs: Any, tmp_path: Path) -> None:
    folder, _ = runs("rloo", "full")
    with pytest.raises(BadOptions, match="holds a run of the task 'rloo', and a run of the task 'reward' is needed"):
        finetune.train(**recipe("rloo", "full", base, tmp_path / "run", preprocessor={"reward": str(folder)}))


# --- prompts and scores -----------------------------------------------------------------------------------------------


def test_prompts_are_read_as_text_as_messages_or_made_into_turns() -> None:
    tokens = tokenizer("llama")
    templates.set_template(tokens, "plain")
    turn = [{"role": "user", "content": "Who?"}]
    text = RLPreprocessor(reward="test_rl:vowels").fit([{"prompt": "Who?"}]).features({"prompt": ["Who?"]}, tokens)
    assert text == {"prompt": ["Who?"], "input_ids": [tokens("Who?")["input_ids"]]}
    chats = RLPreprocessor(reward="test_rl:vowels").fit([{"prompt": turn}]).features({"prompt": [turn]}, tokens)
    made = (
        RLPreprocessor(reward="test_rl:vowels", conversational=True)
        .fit([{"prompt": "Who?"}])
        .features({"prompt": ["Who?"]}, tokens)
    )
    assert made == chats and chats["input_ids"] == [templates.encode_messages(tokens, turn, add_generation_prompt=True)]


@pytest.mark.parametrize(
    ("code", "row"),
    [
        ("prompt-missing", {"prompt": None}),
        ("prompt-empty", {"prompt": " "}),
        ("last-not-user", {"prompt": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I."}]}),
        ("neither-text-nor-messages", {"prompt": 7}),
        ("duplicate-rows", {"prompt": "Who?"}),
    ],
)
def test_a_bad_prompt_is_named_with_its_row(code: str, row: dict[str, Any]) -> None:
    rows = [{"prompt": "Who?"}, row]
    (found,) = RLPreprocessor(reward="test_rl:vowels").fit(rows).check(rows)
    check_finding(found)
    assert (found.code, found.row) == (code, 1)


def test_answers_without_a_reward_do_not_count_and_are_not_taken_for_zero() -> None:
    records = [{"prediction": "a", "reference": None, "reward": reward, "length": 2} for reward in (1.0, None, 3.0)]
    assert RLEvaluator().scores(records)["reward"] == 2.0
    with pytest.raises(BadData, match="no answer has a reward"):
        RLEvaluator().scores(records[1:2])
