"""Whole runs on tiny models: train, generate, score, save, resume and use again."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import finetune
from finetune.cli import main
from finetune.errors import BadData, BadOptions
from finetune.interfaces import Strategy
from finetune.testing.models import tiny_model

DIALOGUES = [
    {
        "document": f"#Person1#: Is the {boat} at the {place}?\n#Person2#: It brings {load}.",
        "summary": f"{load} at the {place}",
    }
    for boat, place, load in (
        ("ferry", "quay", "salt"), ("boat", "pier", "tar"), ("ship", "harbour", "nets"), ("barge", "wall", "ropes"),
        ("tug", "town", "fish"), ("brig", "breakwater", "crates"), ("smack", "lighthouse", "coal"),
        ("cutter", "council", "mackerel"),
    )
]  # fmt: skip
PAIRS = [{"translation": {"en": row["document"][11:40], "hb": row["summary"]}} for row in DIALOGUES]
TASKS = {
    "summarization": (DIALOGUES, {}, "rougeL"),
    "translation": (PAIRS, {"source_lang": "en", "target_lang": "hb"}, "bleu"),
}
NO_DROPOUT = {"bart": {"dropout": 0.0}, "t5": {"dropout_rate": 0.0}}


@pytest.fixture(scope="module")
def bases(build, tmp_path_factory):
    """Return a folder with a tiny model of each family."""
    folder = tmp_path_factory.mktemp("bases")
    return {
        family: tiny_model(family, build(family), folder / family, model_class="AutoModelForSeq2SeqLM", **options)
        for family, options in NO_DROPOUT.items()
    }


def train(
    base, output, task="summarization", *, strategy="full", training=None, generation=None, resume=False, **options
):
    rows, more, _ = TASKS[task]
    return finetune.train(
        task=task,
        model=str(base),
        dataset={"train": rows, "validation": rows[:4], "test": rows[4:]},
        strategy=strategy,
        preprocessor={"max_source_length": 64, "max_target_length": 12, **more, **options},
        training={"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 5e-3, "logging_steps": 1,
                  "save_strategy": "no", "eval_strategy": "no", **(training or {})},
        generation=generation or {},
        score_base_model=False,
        output=str(output),
        resume=resume,
    )  # fmt: skip


@pytest.mark.parametrize("strategy", ["full", "lora"])
@pytest.mark.parametrize(("family", "task"), [("t5", "summarization"), ("bart", "translation")])
def test_a_run_trains_scores_saves_and_is_used_again(family, task, strategy, bases, tmp_path):
    output = tmp_path / "run"
    result = train(bases[family], output, task, strategy=strategy, generation={"num_beams": 2},
                   training={"max_steps": 6, "eval_strategy": "steps", "eval_steps": 3})  # fmt: skip
    losses = [entry["loss"] for entry in result.log if "loss" in entry]
    assert strategy != "full" or losses[-1] < losses[0]
    _, _, primary = TASKS[task]
    assert {primary, "loss", "perplexity", "length", "at_limit"} <= set(result.scores["test"])
    assert result.details["test"]["baseline"]
    assert result.data_report["train"]["target_tokens"] > 0
    last = [entry for entry in result.log if "eval_loss" in entry][-1]
    assert last["eval_loss"] == pytest.approx(result.scores["validation"]["loss"])
    assert last[f"eval_{primary}"] == result.scores["validation"][primary]
    rows, *_ = TASKS[task]
    model = finetune.load(output)
    again = [record["prediction"] for record in model.predict(rows[4:])]
    lines = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in lines if line["split"] == "test"] == again
    assert model.predict(rows[4])["prediction"] == again[0]


def test_other_generation_options_change_the_texts_and_do_not_stick(bases, tmp_path):
    for strategy in ("full", "lora"):
        output = tmp_path / strategy
        train(bases["t5"], output, strategy=strategy)
        model = finetune.load(output)
        before = model.predict(DIALOGUES[:3])
        short = model.with_generation(num_beams=3, max_new_tokens=2).predict(DIALOGUES[:3])
        assert all(record["tokens"] <= 2 for record in short)
        assert any(record["tokens"] > 2 for record in before)
        assert model.predict(DIALOGUES[:3]) == before


def test_the_saved_generation_config_is_that_of_the_run_without_upstreams_defaults(bases, tmp_path):
    train(bases["bart"], tmp_path / "run", generation={"num_beams": 2, "no_repeat_ngram_size": 3},
          training={"eval_strategy": "steps", "eval_steps": 1})  # fmt: skip
    saved = json.loads((tmp_path / "run" / "generation_config.json").read_text())
    assert (saved["num_beams"], saved["no_repeat_ngram_size"], saved["max_new_tokens"]) == (2, 3, 12)
    assert saved["decoder_start_token_id"] == 2
    assert not {"max_length", "do_sample", "_from_model_config"} & {name for name, value in saved.items() if value}


def test_sampling_depends_on_the_seed_alone(bases, tmp_path):
    output = tmp_path / "run"
    given = {"do_sample": True, "temperature": 1.5, "top_p": 0.9}
    trained = train(bases["t5"], output, generation=given)
    lines = [json.loads(line)["prediction"] for line in (output / "predictions.jsonl").read_text().splitlines()]
    model = finetune.load(output)
    torch.manual_seed(7)
    drawn = [record["prediction"] for record in model.predict(DIALOGUES[4:])]
    assert drawn == [record["prediction"] for record in model.predict(DIALOGUES[4:])]
    assert drawn == lines[4:]
    greedy = model.with_generation(do_sample=False, temperature=None, top_p=None)
    assert drawn != [record["prediction"] for record in greedy.predict(DIALOGUES[4:])]
    again = train(bases["t5"], tmp_path / "again", generation=given)
    assert again.scores == trained.scores


def test_a_run_resumed_ends_as_one_that_never_stopped(bases, tmp_path):
    training = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = train(bases["bart"], tmp_path / "run", training=training)
    weights = load_file(tmp_path / "run" / "model.safetensors")
    (tmp_path / "run" / "result.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    resumed = train(bases["bart"], tmp_path / "run", training=training, resume=True)
    assert resumed.resumed_from == "checkpoint-2"
    assert resumed.scores == whole.scores
    after = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(weights[name], after[name]) for name in weights)


@pytest.mark.parametrize("family", ["t5", "bart"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_accumulated_batches_train_as_one_large_batch_does(family, smoothing, bases, tmp_path):
    large = train(bases[family], tmp_path / "large", label_smoothing=smoothing)
    parts = train(bases[family], tmp_path / "parts", label_smoothing=smoothing,
                  training={"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4})  # fmt: skip
    for name in ("loss", "grad_norm"):
        of_large, of_parts = ([entry[name] for entry in run.log if name in entry] for run in (large, parts))
        assert of_large == pytest.approx(of_parts, rel=1e-3)
    assert large.scores["test"]["loss"] == pytest.approx(parts.scores["test"]["loss"], rel=1e-3)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_eight_rows_are_memorized(family, bases, tmp_path):
    result = finetune.train(
        task="summarization", model=str(bases[family]), strategy="full",
        dataset={"train": DIALOGUES, "validation": DIALOGUES, "test": DIALOGUES}, score_base_model=False,
        preprocessor={"max_source_length": 64, "max_target_length": 16}, output=str(tmp_path / "run"),
        training={"max_steps": 140, "per_device_train_batch_size": 8, "learning_rate": 8e-3, "warmup_steps": 10,
                  "save_strategy": "no", "eval_strategy": "no"},
    )  # fmt: skip
    records = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert [record["prediction"] for record in records] == 2 * [row["summary"] for row in DIALOGUES]
    assert result.scores["test"]["rougeL"] == result.scores["test"]["rougeLsum"] == 1
    assert result.scores["test"]["at_limit"] == 0
    assert result.scores["test"]["perplexity"] < 1.5


def test_one_text_is_written_from_the_command_line(bases, tmp_path):
    train(bases["bart"], tmp_path / "run")
    arguments = ["predict", str(tmp_path / "run"), "--document", "The ferry.", "generation.max_new_tokens=3"]
    printed = CliRunner(catch_exceptions=False).invoke(main, arguments)
    assert printed.exit_code == 0
    assert json.loads(printed.stdout)["tokens"] <= 3


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"fp16": True}, "'fp16' with a t5 model: .*transformers#5651"),
        ({"predict_with_generate": False}, "scores need the texts that the model writes"),
        ({"sortish_sampler": True}, "nothing reads it; write train_sampling_strategy: group_by_length"),
        ({"generation_num_beams": 4}, r"it is the recipe's `generation\.num_beams`"),
        ({"generation_max_length": 4}, r"it is the recipe's `generation\.max_length`"),
        ({"label_smoothing_factor": 0.1}, "has its own loss"),
    ],
)
def test_training_options_without_effect_or_with_a_bad_one_are_refused(training, message, bases, tmp_path):
    with pytest.raises(BadOptions, match=message):
        train(bases["t5"], tmp_path / "run", training=training)


def test_pairs_without_a_target_column_are_refused_before_a_model_is_loaded(bases, tmp_path):
    rows = [{"source": "Fog.", "english": "Fog."}]
    with pytest.raises(BadData, match="needs the columns `source` and `target`"):
        finetune.train(task="translation", model=str(bases["t5"]), dataset={"train": rows}, strategy="full",
                       output=str(tmp_path / "run"))  # fmt: skip


# --- strategies with parameter groups ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Grouped(Strategy):
    """Trains everything, in one parameter group."""

    def prepare(self, model, task, *, newly_initialized=()):
        return model

    def parameter_groups(self, model, *, learning_rate, weight_decay):
        return [{"params": [p for p in model.parameters() if p.requires_grad], "lr": learning_rate, "mine": True}]


def test_a_strategys_parameter_groups_reach_the_optimizer(bases, tmp_path, monkeypatch):
    seen = []
    from finetune_seq2seq.training import PatchedSeq2SeqTrainer

    create = PatchedSeq2SeqTrainer.create_optimizer

    def spied(self, *args, **kwargs):
        made = create(self, *args, **kwargs)
        seen.append(made.param_groups[0].get("mine"))
        return made

    monkeypatch.setattr(PatchedSeq2SeqTrainer, "create_optimizer", spied)
    monkeypatch.setitem(sys.modules, "grouped", SimpleNamespace(Grouped=Grouped))
    train(bases["bart"], tmp_path / "run", strategy="grouped:Grouped")
    assert seen
    assert seen[0]


def test_several_tasks_in_one_model_have_their_own_scores_and_most_frequent_targets(bases, tmp_path):
    tasks = {
        "where": [{"text": row["document"], "label": "quay"} for row in DIALOGUES],  # always the same answer
        "load": [{"source": row["document"], "target": row["summary"].split()[0]} for row in DIALOGUES],  # never twice
    }
    for name, rows in tasks.items():
        (tmp_path / name).mkdir()
        for split, part in {"train": rows[:6], "test": rows[6:]}.items():
            (tmp_path / name / f"{split}.jsonl").write_text("\n".join(map(json.dumps, part)))
    result = finetune.train(
        task="text-to-text", model=str(bases["t5"]), strategy="full", output=str(tmp_path / "run"),
        score_base_model=False,
        dataset={"validation_size": 0, "mixture": {
            "where": {"path": str(tmp_path / "where"), "columns": {"text": "source", "label": "target"},
                      "constants": {"prefix": "where: "}},
            "load": {"path": str(tmp_path / "load"), "constants": {"prefix": "load: "}},
        }},
        preprocessor={"max_source_length": 64, "max_target_length": 12},
        training={"max_steps": 60, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "save_strategy": "no",
                  "eval_strategy": "no"},
    )  # fmt: skip
    scores = result.scores["test"]
    assert scores["exact_match@where"] == 1.0, "the prefix names the task, so its one answer is easily learned"
    assert scores["exact_match"] == pytest.approx((scores["exact_match@where"] + scores["exact_match@load"]) / 2)
    assert {"rougeL@load", "chrf@where", "loss"} <= scores.keys() and "bleu" not in scores
    usual = result.baselines["test"]["most frequent"]
    assert usual["exact_match"] == 0.5, "always right for one task, never for the other"
    model = finetune.load(tmp_path / "run")
    assert model.predict(source=DIALOGUES[0]["document"], prefix="where: ")["prediction"] == "quay"
