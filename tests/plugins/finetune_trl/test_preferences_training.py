"""Whole runs of preference learning: what they score is true, and they save, reload and resume to the bit."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, GRPOConfig, KTOConfig, RewardConfig, RLOOConfig

import finetune
from finetune import data
from finetune.errors import BadData, BadOptions, Incompatible
from finetune_trl.preference.collate import PadKTO
from finetune_trl.preference.kto import KTOPreprocessor
from finetune_trl.preference.kto_trainer import collator_with_spare
from finetune_trl.refused_options import DPO, GRPO, KTO, REWARD, RL, refuse_options

PAIRS = [
    {"prompt": f"Who keeps {what}?", "chosen": f" Old Tomás keeps {what}.", "rejected": f" Nobody {does} {what} here."}
    for what in ("the pier", "the ledger", "the nets", "the lighthouse", "a café", "the quay", "the boats", "salt")
    for does in ("keeps", "knows")
]
THUMBS = [
    {"prompt": row["prompt"], "completion": row["chosen" if number % 2 else "rejected"], "label": bool(number % 2)}
    for number, row in enumerate(PAIRS)
]
ROWS = {"dpo": PAIRS, "reward": PAIRS, "kto": THUMBS}
BETA = 0.3


@pytest.fixture(scope="module")
def base(llama_base: Callable[..., Path]) -> Path:
    return llama_base("roberta")


def recipe(task: str, strategy: str, base: Path, output: Path, **training: Any) -> dict[str, Any]:
    rows = ROWS[task]
    return {
        "task": task,
        "model": str(base),
        "dataset": {"train": rows[:12], "test": rows[12:]},
        "strategy": strategy,
        "preprocessor": {"max_length": 64},
        "training": {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 5e-3, "logging_steps": 1,
                     "save_steps": 2, "save_strategy": "steps", "eval_strategy": "no",
                     **({} if task == "reward" else {"beta": BETA}), **training},
        "output": str(output),
    }  # fmt: skip


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


EVERY = [(task, strategy) for task in ROWS for strategy in ("full", "lora")]


@pytest.mark.parametrize(("task", "strategy"), EVERY)
def test_a_run_learns_and_its_folder_gives_the_same_scores(task: str, strategy: str, runs: Any) -> None:
    folder, result = runs(task, strategy)
    losses = [entry["loss"] for entry in result.log if "loss" in entry]
    assert losses[-1] < losses[0]
    model = finetune.load(folder)
    assert model.plan.recipe.training.get("beta") == (None if task == "reward" else BETA)
    records = model._records(data.from_rows({"test": ROWS[task][12:]}, model.plan.preprocessor,
                                                         fit=False).splits["test"])  # fmt: skip
    scores = model.plan.evaluator.scores(records)
    assert scores == pytest.approx(result.scores["test"], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("task", ["dpo", "kto"])
@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_the_base_model_prefers_neither(task: str, strategy: str, runs: Any) -> None:
    scores = runs(task, strategy)[1].base_model_scores["test"]
    assert (scores["accuracy"], scores["margin"], scores["kl"]) == (0.5, 0.0, 0.0)


def test_the_loss_of_a_reward_model_asks_for_the_margin(base: Path, tmp_path: Path) -> None:
    content = recipe("reward", "full", base, tmp_path / "run", max_steps=1, learning_rate=1e-9, save_strategy="no")
    content["dataset"] = {
        split: [{**row, "margin": "50"} for row in rows] for split, rows in content["dataset"].items()
    }
    result = finetune.train(**content)
    (loss,) = [entry["loss"] for entry in result.log if "loss" in entry]
    assert loss == pytest.approx(50, abs=2)
    assert abs(result.scores["test"]["margin"]) < 2  # of the scores, not of the data


@pytest.mark.parametrize(("task", "strategy"), [(task, "lora") for task in ROWS])
def test_an_adapter_is_saved_alone(task: str, strategy: str, runs: Any) -> None:
    folder, _ = runs(task, strategy)
    assert not [path for path in folder.rglob("*") if path.name == "ref"]
    names = load_file(folder / "adapter_model.safetensors")
    assert names and not any(".ref." in name for name in names)
    assert "finetune-kit" in (folder / "README.md").read_text()  # TRL's card would say nothing true of the run


@torch.no_grad()
def log_probs(model: Any, tokenizer: Any, prompt: str, answer: str) -> list[float]:
    """Return the log-probability of every token of an answer, by the model's own logits."""
    before = tokenizer(prompt)["input_ids"]
    whole = tokenizer(prompt + answer + tokenizer.eos_token)["input_ids"]
    start = next(i for i, pair in enumerate(zip(before, whole, strict=False)) if pair[0] != pair[1])
    logits = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return [logits[i - 1, whole[i]].item() for i in range(start, len(whole))]


def ratio(trained: Any, reference: Any, *given: Any) -> float:
    return sum(log_probs(trained, *given)) - sum(log_probs(reference, *given))


def decoder(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_scores_of_dpo_are_those_of_the_models_own_logits(strategy: str, base: Path, runs: Any) -> None:
    folder, result = runs("dpo", strategy)
    words, trained, reference = AutoTokenizer.from_pretrained(folder), finetune.load(folder).model.eval(), decoder(base)
    rewards, moved, tokens = [], 0.0, 0
    for row in PAIRS[12:]:
        ratios = [ratio(trained, reference, words, row["prompt"], row[side]) for side in ("chosen", "rejected")]
        rewards.append([BETA * value for value in ratios])
        moved += ratios[0]
        tokens += len(log_probs(reference, words, row["prompt"], row["chosen"]))
    scores = result.scores["test"]
    assert scores["margin"] == pytest.approx(sum(a - b for a, b in rewards) / 4, rel=1e-3, abs=1e-5)
    assert scores["chosen_reward"] == pytest.approx(sum(a for a, _ in rewards) / 4, rel=1e-3, abs=1e-5)
    assert scores["accuracy"] == sum(a > b for a, b in rewards) / 4
    assert scores["kl"] == pytest.approx(moved / tokens, rel=1e-3, abs=1e-6)


def test_scores_of_kto_are_those_of_the_models_own_logits(base: Path, runs: Any) -> None:
    folder, result = runs("kto", "full")
    words, trained, reference = AutoTokenizer.from_pretrained(folder), decoder(folder), decoder(base)
    rewards = {True: [], False: []}  # type: ignore[var-annotated]
    for row in THUMBS[12:]:
        given = (words, row["prompt"], row["completion"])
        rewards[row["label"]].append(BETA * ratio(trained, reference, *given))
    good, bad = (sum(values) / len(values) for values in (rewards[True], rewards[False]))
    scores = result.scores["test"]
    wanted = {"desirable_reward": good, "undesirable_reward": bad, "margin": good - bad}
    assert {name: scores[name] for name in wanted} == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    above = sum(reward > 0 for reward in rewards[True]) + sum(reward < 0 for reward in rewards[False])
    assert scores["accuracy"] == above / 4
    pairs = [(a, b) for a in rewards[True] for b in rewards[False]]
    assert scores["auc"] == sum(a > b for a, b in pairs) / len(pairs)


def test_a_reward_model_scores_what_a_user_would_score_with_it(runs: Any) -> None:
    folder, result = runs("reward", "full")
    with torch.no_grad():
        compare_with_the_users_own_code(folder, result)


def compare_with_the_users_own_code(folder: Path, result: Any) -> None:
    words = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    margins = []
    for row in PAIRS[12:]:
        one, other = (model(**words(row["prompt"] + row[side] + words.eos_token, return_tensors="pt")).logits.item()
                      for side in ("chosen", "rejected"))  # fmt: skip
        margins.append(one - other)
    assert result.scores["test"]["margin"] == pytest.approx(sum(margins) / 4, rel=1e-3, abs=1e-5)
    prompt, completion = PAIRS[0]["prompt"], PAIRS[0]["chosen"]
    alone = model(**words(prompt + completion + words.eos_token, return_tensors="pt")).logits.item()
    loaded = finetune.load(folder)
    assert loaded.predict(prompt=prompt, completion=completion)["prediction"] == pytest.approx(alone, rel=1e-4)
    several = loaded.predict([{"prompt": prompt, "completion": text} for text in (completion, " Aye, that is so.")])
    assert several[0]["prediction"] == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_a_prompt_alone_is_answered(strategy: str, runs: Any) -> None:
    folder, _ = runs("dpo", strategy)
    model = finetune.load(folder).with_generation(max_new_tokens=5)
    (one,) = model.predict([{"prompt": "Who keeps the pier?"}])
    both = model.predict(
        [{"prompt": "Who keeps the pier?"}, {"prompt": "And who is it that keeps the old lighthouse?"}]
    )
    assert isinstance(one["prediction"], str) and both[0] == one


@pytest.mark.parametrize(("task", "strategy"), [("dpo", "full"), ("dpo", "lora"), ("kto", "full"), ("reward", "lora")])
def test_a_resumed_run_ends_with_the_same_bits_and_the_same_scores(
    task: str, strategy: str, base: Path, runs: Any, tmp_path: Path
) -> None:
    folder, whole = runs(task, strategy)
    cut = shutil.copytree(folder, tmp_path / "cut")
    shutil.rmtree(cut / "checkpoint-4")
    for name in ("result.json", "model.safetensors", "adapter_model.safetensors"):
        (cut / name).unlink(missing_ok=True)
    resumed = finetune.train(**recipe(task, strategy, base, cut), resume=True)
    assert resumed.resumed_from == "checkpoint-2"
    name = "adapter_model.safetensors" if strategy == "lora" else "model.safetensors"
    ours, theirs = load_file(cut / name), load_file(folder / name)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert resumed.scores == whole.scores  # of dpo and kto only if both were held against the pretrained model


def test_the_best_checkpoint_can_be_chosen_by_accuracy(base: Path, tmp_path: Path) -> None:
    given = recipe(
        "dpo", "full", base, tmp_path / "run", load_best_model_at_end=True, eval_strategy="steps", eval_steps=2
    )
    given["dataset"] = {**given["dataset"], "validation": PAIRS[:3]}
    result = finetune.train(**given)
    scored = [entry for entry in result.log if "eval_accuracy" in entry]
    assert [entry["step"] for entry in scored] == [2, 4]
    for entry in scored:  # TRL's own figures of the same rows
        assert entry["eval_margin"] == pytest.approx(entry["eval_rewards/margins"], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"max_length": 16}, "would cut or drop rows without a count. Set preprocessor.max_length"),
        ({"precompute_ref_log_probs": True}, "'precompute_ref_log_probs' would be ignored"),
        ({"gradient_checkpointing": True}, "new name of 'gradient_checkpointing', which is 'activation_checkpointing'"),
    ],
)
def test_options_that_would_act_in_silence_are_refused(
    training: dict[str, Any], message: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadOptions, match=message):
        finetune.train(**recipe("dpo", "full", base, tmp_path / "run", **training))


KINDS = [(DPOConfig, DPO), (KTOConfig, KTO), (RewardConfig, REWARD), (RLOOConfig, RL), (GRPOConfig, GRPO)]


@pytest.mark.parametrize(("config", "reasons"), KINDS)
def test_every_refused_option_is_one_and_its_default_is_not_refused(config: Any, reasons: dict[str, str]) -> None:
    defaults = {field.name: field.default for field in fields(config)}
    assert reasons.keys() <= defaults.keys()
    for name in reasons:
        job: Any = SimpleNamespace(arguments={name: 7}, task=SimpleNamespace(training={}))
        with pytest.raises(BadOptions, match=rf"'{name}' (would|is not) "):
            refuse_options(job, config, reasons)
    usual = {name: defaults[name] for name in reasons if name != "max_length"}
    refuse_options(SimpleNamespace(arguments=usual, task=SimpleNamespace(training={})), config, reasons)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["dpo", "kto"])
def test_an_adapter_on_the_output_embeddings_is_refused(task: str, base: Path, tmp_path: Path) -> None:
    head = {"name": "lora", "target_modules": ["lm_head"]}
    with pytest.raises(Incompatible, match="TRL refuses: Applying a PEFT adapter to `lm_head`"):
        finetune.train(**{**recipe(task, "lora", base, tmp_path / "run"), "strategy": head})


@pytest.mark.parametrize(
    ("task", "primary"), [("dpo", "kl"), ("kto", "undesirable_reward"), ("reward", "rejected_reward")]
)
def test_only_a_score_of_which_more_is_better_can_stand_for_the_others(
    task: str, primary: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadOptions, match=f"primary: Input should be .*not '{primary}'"):
        finetune.train(**recipe(task, "full", base, tmp_path / "run"), evaluator={"primary": primary})


def test_a_reward_model_pads_with_its_tokenizers_token_when_it_is_loaded(
    llama_base: Callable[..., Path], tmp_path: Path
) -> None:
    other = llama_base("roberta", pad_token_id=0)
    words = AutoTokenizer.from_pretrained(other)
    assert words.pad_token_id not in (None, 0)
    finetune.train(**recipe("reward", "lora", other, tmp_path / "run"))
    assert finetune.load(tmp_path / "run").model.config.pad_token_id == words.pad_token_id


def test_an_adapter_that_changes_the_reference_is_refused(base: Path, tmp_path: Path) -> None:
    moved = {"name": "lora", "config": {"init_lora_weights": "olora"}}
    with pytest.raises(Incompatible, match="'olora' changes the pretrained weights"):
        finetune.train(**{**recipe("dpo", "lora", base, tmp_path / "run"), "strategy": moved})


def test_accumulated_gradients_are_those_of_one_batch(base: Path, tmp_path: Path) -> None:
    logs = []
    for size, steps in ((4, 1), (2, 2)):
        training = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "max_steps": 2}
        logs.append(finetune.train(**recipe("dpo", "full", base, tmp_path / str(steps), **training)).log[1])
    for name in ("loss", "grad_norm", "rewards/margins"):
        assert logs[0][name] == pytest.approx(logs[1][name], rel=1e-3)


def test_batches_of_one_are_refused_for_kto(base: Path, tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match="must be 2 or more for KTO"):
        finetune.train(**recipe("kto", "full", base, tmp_path / "one", per_device_train_batch_size=1))
    with pytest.raises(BadOptions, match="leave 'train_sampling_strategy' out"):
        finetune.train(**recipe("kto", "full", base, tmp_path / "two", train_sampling_strategy="random"))


def test_a_last_batch_of_one_is_held_against_another_rows_answer(base: Path, tmp_path: Path) -> None:
    rows = [{"prompt_ids": [5, 6], "completion_ids": [7, 8], "label": True}]
    own, other = (PadKTO(pad_token_id=0, max_length=9, spare=spare)(rows) for spare in ((), (9, 10, 11)))
    assert own["KL_input_ids"].tolist() == [[5, 6, 7, 8]] and other["KL_input_ids"].tolist() == [[5, 6, 9, 10, 11]]
    assert other["KL_completion_mask"].tolist() == [[0, 0, 1, 1, 1]] and other["input_ids"].tolist() == [[5, 6, 7, 8]]
    two = PadKTO(pad_token_id=0, max_length=9, spare=(9,))(rows * 2)
    assert two["KL_input_ids"].tolist() == [[5, 6, 7, 8]] * 2
    given = recipe("kto", "full", base, tmp_path / "run", max_steps=3)
    given["dataset"] = {"train": THUMBS[:9], "test": THUMBS[12:]}
    result = finetune.train(**given, score_base_model=False)
    last = [entry for entry in result.log if "loss" in entry][-1]
    assert last["step"] == 3 and last["kl"] >= 0 and math.isfinite(last["loss"])
    words = AutoTokenizer.from_pretrained(base)
    with pytest.raises(BadOptions, match="KTO needs at least two rows"):
        collator_with_spare(
            cast(Any, SimpleNamespace(preprocessor=KTOPreprocessor(), tokenizer=words, model=None)), THUMBS[:1]
        )


@pytest.mark.parametrize("task", ["dpo", "reward"])
def test_pairs_that_are_cut_to_the_same_tokens_are_not_trained_on(task: str, base: Path, tmp_path: Path) -> None:
    cut = {**recipe(task, "full", base, tmp_path / "run"), "preprocessor": {"max_length": 4}}
    with pytest.raises(BadData, match="10 of 10 pairs have the same chosen and rejected tokens once cut"):
        finetune.train(**cut)
