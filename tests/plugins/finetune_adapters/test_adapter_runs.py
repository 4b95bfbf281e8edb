"""Whole runs with bottleneck adapters: several tasks, small checkpoints, resumed to the same bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from cases import case
from safetensors.torch import load_file

import finetune
from finetune import recipe as recipes
from finetune.plugins import discover
from finetune.result import Result
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_adapters import adapters

ROWS = {"train": toy.rows(48, seed=1), "validation": toy.rows(12, seed=2)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one run of eight steps, with dropout, a checkpoint after every second."""
    folder = tmp_path_factory.mktemp("run")
    base = toy.base(folder / "base", hidden_dropout_prob=0.1)
    for split, rows in ROWS.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    finetune.train(
        task="toy:TASK", model=str(base), dataset={split: str(folder / f"{split}.jsonl") for split in ROWS},
        strategy={"name": "bottleneck", "reduction_factor": 4}, output=str(folder / "run"),
        training={"max_steps": 8, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "save_strategy": "steps",
                  "save_steps": 2, "save_total_limit": 100, "logging_steps": 1},
    )  # fmt: skip
    return folder / "run"


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / adapters.WEIGHTS)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_record_counts_what_trains_and_says_where_it_is(run: Path) -> None:
    result = Result.load(run)
    width, units, classes = 32, 8, len(toy_labels(result))
    head = width * width + width + classes * width + classes  # pooler and classifier
    assert result.trainable_parameters == 4 * (2 * width * units + units + width) + head
    assert result.notes == ["4 adapters of 8 units, after attention.output.dense, output.dense"]
    assert result.newly_initialized == ["bert.pooler.dense", "classifier"]


def toy_labels(result: Result) -> list[str]:
    return list(result.preprocessor["options"]["labels"])


def test_checkpoints_hold_what_trains_and_nothing_else(run: Path) -> None:
    held = load_file(run / "checkpoint-8" / "model.safetensors")
    assert same(held, weights(run))


def test_a_resumed_run_ends_with_the_same_bits(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(run, output)
    for name in ("result.json", adapters.WEIGHTS, "predictions.jsonl"):
        (output / name).unlink()
    shutil.rmtree(output / "checkpoint-6")
    shutil.rmtree(output / "checkpoint-8")
    written = {**recipes.to_mapping(recipes.read(run / "recipe.yaml")), "output": str(output)}
    assert finetune.train(**written, resume=True).resumed_from == "checkpoint-4"
    assert same(weights(run), weights(output))
    assert not same(weights(run), load_file(run / "checkpoint-6" / "model.safetensors"))


def test_the_run_folder_is_used_like_any_other(run: Path) -> None:
    scores = Result.load(run).scores["validation"]
    assert finetune.evaluate(run, split="validation") == pytest.approx(scores)


@pytest.mark.parametrize("training", [{"activation_checkpointing": True}, {"load_best_model_at_end": True}])
def test_activation_checkpointing_and_the_best_checkpoint_work(
    training: dict[str, Any], run: Path, tmp_path: Path
) -> None:
    # recomputed activations pass the adapters again; the best model is put back from a small checkpoint
    written = recipes.to_mapping(recipes.read(run / "recipe.yaml"))
    steps = {"eval_strategy": "steps", "eval_steps": 2}
    changed = {**written, "output": str(tmp_path / "run"), "training": {**written["training"], **steps, **training}}
    finetune.train(**changed)
    if "activation_checkpointing" in training:
        assert same(weights(run), weights(tmp_path / "run"))


HEADS = {"bert": "AutoModelForMaskedLM", "llama": "AutoModelForCausalLM", "t5": "AutoModelForSeq2SeqLM"}


@pytest.mark.parametrize("name", ["question-answering", "translation", "causal-language-modeling", "dpo"])
def test_tasks_of_every_kind_train_adapters_alone_and_reload_to_the_bit(name: str, tmp_path: Path) -> None:
    # the run itself compares what is reloaded with what was trained, and ends in an error if a bit differs
    of, task = case(name), discover().find("tasks", name)
    base = tiny_model(of.family, tokenizer(of.words, vocab_size=600), tmp_path / "base", model_class=HEADS[of.family])
    source = {**task.starter["dataset"], "limit": {"train": 16, "validation": 4, "test": 4}}
    finetune.train(
        task=name, model=str(base), dataset=source, strategy={"name": "bottleneck", "placement": "pfeiffer"},
        preprocessor=of.preprocessor, generation=of.generation, output=str(tmp_path / "run"), score_base_model=False,
        training={"max_steps": 2, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "save_strategy": "no"},
    )  # fmt: skip
    saved = load_file(tmp_path / "run" / adapters.WEIGHTS)
    new = Result.load(tmp_path / "run").newly_initialized
    assert all(".adapter." in key or key.rpartition(".")[0] in new for key in saved)
    moved = [key for key in saved if key.endswith("adapter.up.weight")]
    assert moved and all(saved[key].any() for key in moved)
