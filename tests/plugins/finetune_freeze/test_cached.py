"""Cached features of a frozen body: the same losses and scores, the same bits when resumed, or a refusal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
import transformers
from safetensors.torch import load_file

import finetune
from finetune import recipe as recipes
from finetune.errors import BadOptions, Incompatible
from finetune.plugins import discover
from finetune.recipe.options import build
from finetune.result import Result
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_freeze import cached
from finetune_freeze.freeze_dropout import frozen_modules
from finetune_freeze.frozen import FrozenStrategy
from finetune_freeze.store import FeatureStore, consecutive_ranges


def rows(size: int, seed: int) -> list[dict[str, str]]:
    """Return texts of one to eight words: of many lengths, some of them twice."""
    whole = toy.rows(size, seed=seed)
    return [{**row, "text": " ".join(row["text"].split()[: 1 + n % 8])} for n, row in enumerate(whole)]


QUESTIONS = discover().find("tasks", "question-answering").starter["dataset"]
ROWS = {"train": rows(48, 1), "validation": rows(12, 2)}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model with dropout in the body and before the classifier, and without a pooler."""
    return toy.base(tmp_path_factory.mktemp("base") / "bert", hidden_dropout_prob=0.2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    for split, examples in ROWS.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in examples))
    return {split: str(folder / f"{split}.jsonl") for split in ROWS}


def train(base: Path, data: Any, output: Path, *, training: Any = None, **strategy: Any) -> Result:
    options = {"num_train_epochs": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1}
    return finetune.train(
        task="toy:TASK", model=str(base), dataset=data, strategy={"name": "frozen", **strategy}, output=str(output),
        score_base_model=False, training={**options, **(training or {})},
    )  # fmt: skip


@pytest.fixture
def bodies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how many rows go through the body's encoder."""
    count: list[int] = []
    inner = transformers.models.bert.modeling_bert.BertEncoder.forward

    def counted(self: Any, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        count.append(len(hidden_states))
        return inner(self, hidden_states, *args, **kwargs)

    monkeypatch.setattr(transformers.models.bert.modeling_bert.BertEncoder, "forward", counted)
    return count


def losses(result: Result) -> list[float]:
    return [entry[name] for entry in result.log for name in ("loss", "eval_loss", "grad_norm") if name in entry]


def test_a_run_with_cached_features_equals_the_run_without(
    base: Path, data: Any, tmp_path: Path, bodies: list[int]
) -> None:
    plain = train(base, data, tmp_path / "plain")
    uncached = sum(bodies)
    bodies.clear()
    kept = train(base, data, tmp_path / "kept", cache=True)
    assert losses(kept) == pytest.approx(losses(plain), rel=1e-5, abs=1e-5)
    assert kept.scores == plain.scores
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "kept"))
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)
    # 48 rows and 12 evaluated, three times, are run once; the check, the comparison and final scores stay
    assert uncached - sum(bodies) >= 2 * (48 + 12) - 2 * 8
    assert not [path for path in (tmp_path / "kept").iterdir() if path.suffix == ".f32"]


def test_a_pooler_that_came_with_the_base_model_is_cached_as_well(data: Any, tmp_path: Path) -> None:
    words = tokenizer("bert", [row["text"] for row in ROWS["train"]], vocab_size=200)
    base = tiny_model("bert", words, tmp_path / "base", model_class="AutoModel")
    results = [train(base, data, tmp_path / str(cache), cache=cache) for cache in (False, True)]
    assert results[1].newly_initialized == ["classifier"]
    assert losses(results[1]) == pytest.approx(losses(results[0]), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("family", ["distilbert", "llama"])
def test_other_bodies_are_cached_or_refused_but_never_wrong(family: str, data: Any, tmp_path: Path) -> None:
    words = tokenizer("bert" if family == "distilbert" else "llama", [r["text"] for r in ROWS["train"]], vocab_size=400)
    base = tiny_model(family, words, tmp_path / "base")
    results = [train(base, data, tmp_path / str(cache), cache=cache) for cache in (False, True)]
    assert losses(results[1]) == pytest.approx(losses(results[0]), rel=1e-4, abs=1e-5)


def test_a_resumed_run_ends_with_the_same_bits(base: Path, data: Any, tmp_path: Path) -> None:
    steps = {"save_strategy": "steps", "save_steps": 5, "save_total_limit": 100}
    train(base, data, tmp_path / "whole", cache=True, training=steps)
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    for name in ("result.json", "model.safetensors", "predictions.jsonl"):
        (tmp_path / "run" / name).unlink()
    for path in (tmp_path / "run").glob("checkpoint-*"):
        if int(path.name.rpartition("-")[2]) > 15:  # in the middle of the second epoch
            shutil.rmtree(path)
    written = {**recipes.to_mapping(recipes.read(tmp_path / "whole" / "recipe.yaml")), "output": str(tmp_path / "run")}
    assert finetune.train(**written, resume=True).resumed_from == "checkpoint-15"
    one, two, before = (
        load_file(tmp_path / name / "model.safetensors") for name in ("whole", "run", "whole/checkpoint-15")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], before[name]) for name in one)


def test_a_folder_serves_further_runs_on_the_same_texts(
    base: Path, data: Any, tmp_path: Path, bodies: list[int]
) -> None:
    first = train(base, data, tmp_path / "first", cache=str(tmp_path / "kept"))
    (kept,) = (tmp_path / "kept").iterdir()
    once = sum(bodies)
    bodies.clear()
    second = train(base, data, tmp_path / "second", cache=str(tmp_path / "kept"))
    assert losses(second) == losses(first)
    assert once - sum(bodies) >= len({row["text"] for row in ROWS["train"]})
    assert list((tmp_path / "kept").iterdir()) == [kept]
    # other weights, other features: nothing of the first file may be read
    train(toy.base(tmp_path / "other", seed=1), data, tmp_path / "third", cache=str(tmp_path / "kept"))
    assert len(list((tmp_path / "kept").iterdir())) == 2
    kept.write_bytes(kept.read_bytes()[:-4])  # torn: computed again, and corrected
    assert losses(train(base, data, tmp_path / "fourth", cache=str(tmp_path / "kept"))) == losses(first)


def test_what_reads_padding_is_refused_with_the_losses(base: Path, tmp_path: Path) -> None:
    # BERT's loss of spans is a softmax over all tokens, padding among them
    with pytest.raises(Incompatible, match=r"cache: the loss of eight texts is .* the head looks at padding"):
        finetune.train(
            task="question-answering", model=str(base), dataset={**QUESTIONS, "limit": {"train": 24}},
            preprocessor={"max_length": 96, "stride": 24}, strategy={"name": "frozen", "cache": True},
            training={"max_steps": 2}, output=str(tmp_path / "run"), score_base_model=False,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("model_class", "family", "options", "message"),
    [
        ("AutoModelForCausalLM", "gpt2", {}, "is not completely frozen"),  # tied: the last block trains
        ("AutoModelForSeq2SeqLM", "t5", {}, "no body that runs separately from its head"),
        (
            "AutoModelForSequenceClassification",
            "bert",
            {"unfrozen_parameters": ("*.layer.1.*",)},
            r"layer\.1\..*trains",
        ),
    ],
)
def test_a_body_that_trains_is_refused_before_the_first_step(
    model_class: str, family: str, options: Any, message: str, tmp_path: Path
) -> None:
    words = tokenizer("bert", vocab_size=200)
    base = tiny_model(family, words, tmp_path / "base", model_class=model_class)
    model = getattr(transformers, model_class).from_pretrained(base)
    with pytest.raises(Incompatible, match=message):
        FrozenStrategy(cache=True, **options).prepare(model, toy.TASK)


def test_dropout_and_cached_features_are_refused_together() -> None:
    with pytest.raises(BadOptions, match="cache stores features"):
        build(FrozenStrategy, {"cache": True, "dropout": True}, where="strategy")


@pytest.mark.parametrize("dropout", [False, True])
def test_dropout_is_off_in_frozen_modules_and_on_in_the_head(dropout: bool, base: Path) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    model = (
        FrozenStrategy(dropout=dropout)
        .prepare(model, toy.TASK, newly_initialized=["bert.pooler.dense", "classifier"])
        .train()
    )
    ids = torch.arange(5, 25)[None]
    states = [model.base_model(ids).last_hidden_state for _ in range(2)]
    assert torch.equal(*states) is not dropout
    assert model.dropout.training
    parts = list(frozen_modules(model.base_model))
    assert parts == [model.bert.embeddings, model.bert.encoder]


def test_the_key_of_a_text_ignores_padding_on_either_side() -> None:
    rows = [
        {"input_ids": [7, 8, 0, 0], "attention_mask": [1, 1, 0, 0]},
        {"input_ids": [0, 7, 8], "attention_mask": [0, 1, 1]},
        {"input_ids": [7, 8]},
        {"input_ids": [8, 7]},
        {"input_ids": [7, 8], "token_type_ids": [0, 1]},
    ]
    keys = [text.key for text in cached.texts(rows)]
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys)) == 3


def test_rows_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    store, draw = FeatureStore(3, directory=tmp_path), np.random.default_rng(0)
    written = {bytes([n]): draw.normal(size=(n, 3)).astype(np.float32) for n in range(1, 6)}
    for key, value in written.items():
        store.put(key, value)
        assert np.array_equal(store.get(key), value)  # while more is being written
    assert not list(tmp_path.iterdir()), "its file has a name"
    store.save(tmp_path / "kept")
    again = FeatureStore(3, directory=tmp_path)
    ranges = consecutive_ranges(list(written), [len(value) for value in written.values()])
    assert again.load(tmp_path / "kept", ranges)
    assert all(np.array_equal(again.get(key), value) for key, value in written.items())
    assert not again.load(tmp_path / "kept", {b"x": (0, 99)})
    for one in (store, again):
        one.close()


@pytest.mark.parametrize("fault", ["first bit", "last bit", "digest", "cut", "grown", "link", "written by others"])
def test_stored_features_that_changed_are_not_read(tmp_path: Path, fault: str) -> None:
    store, path = FeatureStore(2, directory=tmp_path), tmp_path / "kept"
    store.put(b"a", np.ones((3, 2), np.float32))
    store.save(path)
    store.close()
    content = bytearray(path.read_bytes())
    if fault == "cut":
        del content[-1:]
    elif fault == "grown":
        content += b"0"
    elif fault.endswith("bit") or fault == "digest":
        content[{"first bit": 0, "last bit": 23, "digest": 24}[fault]] ^= 1
    path.write_bytes(content)
    again, ranges = FeatureStore(2, directory=tmp_path), {b"a": (0, 3)}
    if fault == "link":
        assert again.load(path, ranges)
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    if fault == "written by others":
        assert again.load(path, ranges)
        path.chmod(0o666)
    assert not again.load(path, ranges)
    again.close()
