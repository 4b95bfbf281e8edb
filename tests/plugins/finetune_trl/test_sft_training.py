"""Whole runs: what is trained is saved, reloads, resumes to the same bits, and is scored by what it wrote."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

import finetune
from finetune.data import features
from finetune.errors import BadData, BadOptions, Incompatible
from finetune.interfaces import Job
from finetune.plugins import discover
from finetune.recipe import parse
from finetune.training import trainer as training
from finetune.training.arguments import device_arguments
from finetune_trl.refused_options import SFT
from finetune_trl.sft.evaluator import SFTEvaluator
from finetune_trl.sft.preprocessor import SFTPreprocessor
from finetune_trl.sft.trainer import trainer

FOUND = discover()
TASK = FOUND.find("tasks", "sft")


def dialogue(number: int) -> dict[str, Any]:
    asked, answer = f"What is {number}?", "Aye." if number % 2 else "It is not, sir."
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


ROWS = {"train": [dialogue(n) for n in range(16)], "validation": [dialogue(n) for n in range(16, 21)],
        "test": [dialogue(n) for n in range(21, 24)]}  # fmt: skip


def run(base: Path, output: Path, *, strategy: Any = "full", rows: Any = ROWS, **sections: Any) -> Any:
    """Train a few steps."""
    steps = {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1,
             "eval_strategy": "no", "save_strategy": "no", **sections.pop("training", {})}  # fmt: skip
    usual = {"preprocessor": {"chat_template": "plain", "max_length": 96}, "generation": {"max_new_tokens": 6}}
    return finetune.train(
        task="sft", model=str(base), strategy=strategy, dataset=rows, output=str(output), training=steps,
        **{**usual, **sections},
    )  # fmt: skip


@pytest.mark.parametrize("strategy", ["full", {"name": "lora", "r": 4, "target_modules": "all-linear"}])
def test_a_run_learns_saves_its_template_and_reloads(strategy: Any, llama_base: Any, tmp_path: Path) -> None:
    result = run(llama_base(), tmp_path / "run", strategy=strategy)
    assert result.scores["test"]["perplexity"] < result.base_model_scores["test"]["perplexity"]
    losses = [entry["loss"] for entry in result.log if "loss" in entry]
    assert losses[-1] < losses[0]
    words = AutoTokenizer.from_pretrained(tmp_path / "run")
    assert "Assistant:" in words.apply_chat_template(ROWS["test"][0]["messages"], tokenize=False)
    model = finetune.load(tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run/predictions.jsonl").read_text().splitlines()]
    mine = [record for record in records if record["split"] == "test"]
    asked = model.predict([{"prompt": row["messages"][0]["content"]} for row in ROWS["test"]])
    assert [record["prediction"] for record in asked] == [record["prediction"] for record in mine]
    assert model.predict(prompt="What is 21?") == model.predict(messages=ROWS["test"][0]["messages"][:1])
    assert all(record["reference"] in ("Aye.", "It is not, sir.") for record in mine)
    cards = [path.read_text() for path in tmp_path.rglob("README.md")]
    assert all("finetune-kit" in text for text in cards), "TRL wrote a card"


def test_a_model_saved_whole_stops_by_itself_whoever_loads_it(llama_base: Any, tmp_path: Path) -> None:
    run(llama_base(), tmp_path / "run", training={"max_steps": 1})
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    words = AutoTokenizer.from_pretrained(tmp_path / "run")
    assert words.eos_token_id in model.generation_config.eos_token_id
    assert model.generation_config.pad_token_id == words.pad_token_id


def test_a_resumed_run_ends_with_the_same_bits(llama_base: Any, tmp_path: Path) -> None:
    base = llama_base()
    steps = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}
    run(base, tmp_path / "straight", training=steps)
    run(base, tmp_path / "broken", training=steps)
    for leaving in (tmp_path / "broken/checkpoint-4", tmp_path / "broken/result.json"):
        for path in sorted(leaving.rglob("*"), reverse=True) if leaving.is_dir() else [leaving]:
            path.unlink()
    finetune.train(tmp_path / "broken/recipe.yaml", resume=True, dataset=ROWS)
    one, other = (AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("straight", "broken"))
    assert all(torch.equal(one[name], other[name]) for name in one)


FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "texts": ({"prompt": "What is it?", "completion": " Fog."}, {}),
    "chats": ({"prompt": [{"role": "user", "content": "What is it?"}],
               "completion": [{"role": "assistant", "content": "Fog."}]}, {"chat_template": "chatml"}),
    "alpaca": ({"instruction": "What is it?", "input": "", "output": "Fog."},
               {"converter": "alpaca", "chat_template": "plain"}),
    "text": ({"text": "Fog, and more of it."}, {}),
}  # fmt: skip


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("family", ["gpt2"])
def test_every_form_trains_and_predicts(form: str, family: str, llama_base: Any, tmp_path: Path) -> None:
    row, options = FORMS[form]
    rows = {"train": [row] * 8, "validation": [row] * 2, "test": [row] * 2}
    result = run(llama_base(family), tmp_path / "run", rows=rows, preprocessor=options)
    assert set(result.scores["test"]) == {"perplexity", "token_accuracy"} | (
        {"exact_match", "stopped"} if form != "text" else set()
    )
    assert result.data_report["train"]["padded_with_eos"] == 8
    asked = {"instruction": "What?"} if form == "alpaca" else {"prompt": "What?"}
    assert isinstance(finetune.load(tmp_path / "run").predict(asked)["prediction"], str)


def test_twenty_rows_learned_by_heart_are_answered_exactly(llama_base: Any, tmp_path: Path) -> None:
    answers = ["The pier.", "Old Tomás.", "Salt and tar.", "Nobody.", "Aye, sir."]
    rows = [{"prompt": f"{n} and {n % 5}:", "completion": f" {answers[n % 5]}"} for n in range(20)]
    result = run(
        llama_base(hidden_size=64), tmp_path / "run", rows={"train": rows, "test": rows}, score_base_model=False,
        preprocessor={}, evaluator={"primary": "exact_match"}, generation={"max_new_tokens": 12},
        training={"max_steps": 80, "per_device_train_batch_size": 20},
    )  # fmt: skip
    assert result.scores["test"]["exact_match"] == result.scores["test"]["stopped"] == 1.0
    assert result.greater_is_better and result.scores["test"]["perplexity"] < 1.2


# --- the scores, against oracles --------------------------------------------------------------------------------------


def job_of(
    base: Path, rows: list[dict[str, Any]], *, generation: dict[str, Any], split: str = "test", **options: Any
) -> tuple[Any, Any]:
    """Return a job that predicts, and its features."""
    words = AutoTokenizer.from_pretrained(base)
    preprocessor = SFTPreprocessor(**options).fit(rows)
    examples = Dataset.from_list(rows)
    made = features.make(examples, preprocessor=preprocessor, tokenizer=words, task=TASK, split=split)
    job = Job(
        recipe=parse({"task": "sft", "model": str(base), "dataset": "rows.jsonl", "strategy": "full",
                             "output": str(base / "scratch")}),
        output=base / "scratch", seed=42, task=TASK,
        model=AutoModelForCausalLM.from_pretrained(base), tokenizer=words, preprocessor=preprocessor,
        strategy=FOUND.find("strategies", "full")(), evaluator=SFTEvaluator(), train=None, validation=None,
        validation_examples=None, generation=generation,
        arguments={**TASK.training, **device_arguments(), "output_dir": str(base / "scratch"),
                   "report_to": "none",
                   "disable_tqdm": True, "per_device_eval_batch_size": 2},
    )  # fmt: skip
    return job, made


def test_likelihoods_and_answers_are_those_of_one_row_at_a_time(llama_base: Any) -> None:
    rows = [{"prompt": "Who " * n, "completion": f" {'I and ' * (5 - n)}he."} for n in range(1, 6)]
    job, made = job_of(llama_base("gpt2"), rows, generation={"max_new_tokens": 5})
    predictions = training.predict(trainer(job), examples=made.examples, features=made.features, job=job)
    records = job.evaluator.records(predictions)
    model = AutoModelForCausalLM.from_pretrained(job.model.config._name_or_path).eval()
    total = count = 0.0
    for row, feature, record in zip(rows, made.features, records, strict=True):
        ids, labels = torch.tensor([feature["input_ids"]]), torch.tensor([feature["labels"]])
        with torch.no_grad():
            own = model(input_ids=ids, labels=labels)
        tokens = int((labels[:, 1:] != -100).sum())
        hits = int(((own.logits[:, :-1].argmax(-1) == labels[:, 1:]) & (labels[:, 1:] != -100)).sum())
        assert (record["tokens"], record["hits"]) == (tokens, hits)
        assert record["nll"] == pytest.approx(own.loss.item() * tokens, rel=1e-4)
        prompt = job.tokenizer(row["prompt"], return_tensors="pt")
        wrote = model.generate(**prompt, max_new_tokens=5, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        assert record["prediction"] == job.tokenizer.decode(wrote, skip_special_tokens=True).strip()
        total, count = total + own.loss.item() * tokens, count + tokens
    scores = job.evaluator.scores(records)
    assert scores["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)


def test_predicting_again_and_again_wraps_the_model_once(llama_base: Any) -> None:
    job, _ = job_of(llama_base("gpt2"), [{"prompt": "Who?", "completion": " I."}], generation={})
    for _ in range(3):
        trainer(job)
    forward, wrappers = job.model.forward.__func__, 0
    while forward.__code__.co_name == "_fused_forward":
        inner = forward.__closure__[forward.__code__.co_freevars.index("original_forward")].cell_contents
        forward, wrappers = inner.__func__, wrappers + 1
    assert wrappers == 1


def test_a_long_prompt_leaves_its_neighbours_their_room(llama_base: Any) -> None:
    rows = [{"prompt": "I " * n, "completion": " I."} for n in (1, 29, 40)]
    job, made = job_of(llama_base("gpt2", max_position_embeddings=64), rows, generation={"max_new_tokens": 9})
    job = replace(job, arguments={**job.arguments, "per_device_eval_batch_size": 3})
    lengths = [len(ids) for ids in made.features["prompt_ids"]]
    assert lengths[0] + 9 <= 64 < lengths[1] + 9 and lengths[1] < 64 < lengths[2]
    built = trainer(job)
    built.generation["eos_token_id"] = None
    outputs = training.predict(built, examples=made.examples, features=made.features, job=job).outputs
    assert (outputs[0] >= 0).sum(axis=1).tolist() == [9, 64 - lengths[1], 0]


# --- refusals ---------------------------------------------------------------------------------------------------------


def training_job(base: Path, rows: list[dict[str, Any]], **options: Any) -> Any:
    job, made = job_of(base, rows, generation={}, split="train", **options)
    return replace(job, train=made.features)


def test_too_many_cut_answers_are_refused(llama_base: Any) -> None:
    rows = [{"prompt": "Who?", "completion": " I" * (30 if n < 3 else 2)} for n in range(10)]
    base = llama_base("gpt2")
    with pytest.raises(BadData, match=r"truncated counts 3 of 10 rows, more than preprocessor.tolerance \(0.2\)"):
        trainer(training_job(base, rows, max_length=20))
    trainer(training_job(base, rows, max_length=20, tolerance=0.3))


def test_rows_without_a_trained_token_are_refused_unless_they_are_to_be_kept(llama_base: Any) -> None:
    rows = [{"prompt": "Who " * (30 if n < 1 else 2), "completion": " I."} for n in range(10)]
    base = llama_base("gpt2")
    with pytest.raises(BadData, match=r"1 of 10 rows have no trained token: the prompt alone fills max_length \(20\)"):
        trainer(training_job(base, rows, max_length=20))
    trainer(training_job(base, rows, max_length=20, untrained_rows="keep"))


def test_a_template_that_never_ends_a_turn_is_refused(llama_base: Any, tmp_path: Path) -> None:
    endless = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    with pytest.raises(BadData, match=r"end_of_turn_outside_loss counts 16 of 16 rows.*would not learn to stop"):
        run(llama_base(), tmp_path / "run", preprocessor={"chat_template": endless})


@pytest.mark.parametrize("name", [name for name in SFT if name not in ("pad_token", "trust_remote_code")])
def test_an_option_of_the_trainer_that_would_be_ignored_is_refused(name: str, llama_base: Any) -> None:
    job = training_job(llama_base("gpt2"), [{"prompt": "Who?", "completion": " I."}])
    with pytest.raises(BadOptions, match=f"'{name}' would be ignored"):
        trainer(replace(job, arguments={**job.arguments, name: 1}))


def test_defaults_may_be_named_and_an_old_name_is_refused(llama_base: Any) -> None:
    job = training_job(llama_base("gpt2"), [{"prompt": "Who?", "completion": " I."}])
    trainer(replace(job, arguments={**job.arguments, "packing": False, "padding_free": False}))
    with pytest.raises(BadOptions, match="new name of 'gradient_checkpointing', which is 'activation_checkpointing'"):
        trainer(replace(job, arguments={**job.arguments, "gradient_checkpointing": True}))


def test_a_limit_that_counts_the_prompt_is_refused(llama_base: Any, tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match=r"'max_length' includes the prompt\. Set max_new_tokens"):
        run(llama_base(), tmp_path / "run", generation={"max_length": 60})


def test_a_head_that_does_more_than_the_loss_of_trl_knows_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertLMHeadModel

    from finetune.testing.tokenizers import tokenizer

    words = tokenizer("gpt2")
    config = BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=len(words),
        is_decoder=True, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertLMHeadModel(config)
    for parameter in model.cls.predictions.transform.parameters():
        torch.nn.init.normal_(parameter, std=1.0)
    model.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    job = training_job(tmp_path, [{"prompt": "Who?", "completion": " I."}])
    with pytest.raises(Incompatible, match="its head does more than multiply by the output embeddings"):
        trainer(job)


def test_exact_match_of_texts_without_prompts_is_refused(llama_base: Any, tmp_path: Path) -> None:
    rows = {"train": [{"text": "Fog."}] * 4, "test": [{"text": "Fog."}]}
    with pytest.raises(BadOptions, match="primary is 'exact_match', and the data are texts"):
        run(llama_base(), tmp_path / "run", rows=rows, preprocessor={}, evaluator={"primary": "exact_match"})
