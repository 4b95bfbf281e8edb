"""Whole runs of both kinds of language model, on tiny ones."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import finetune
from finetune import recipe as recipes
from finetune.errors import BadOptions, Incompatible
from finetune.evaluation import scoring
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_lm import collate
from finetune_lm.masking import mask_generator

MASKED, CAUSAL = "masked-language-modeling", "causal-language-modeling"
WORDS = ("tide", "gull", "salt", "tar", "net", "pier", "crate", "wall")


def texts(size: int, start: int = 0) -> list[dict[str, str]]:
    """Return different texts of four to nine words."""
    return [
        {"text": " ".join(WORDS[(number * step + step) % 8] for step in range(1, 5 + number % 6)) + f" {number}."}
        for number in range(start, start + size)
    ]


DATA = {"train": texts(24), "validation": texts(6, 100), "test": texts(6, 200)}
FILES = [row["text"] for part in DATA.values() for row in part]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    found = {
        "bert": tiny_model("bert", tokenizer("bert", FILES, 200), folder / "bert", model_class="AutoModelForMaskedLM")
    }
    for family in ("gpt2", "llama"):
        words = tokenizer(family, FILES, 300)
        words.pad_token = None  # as GPT-2, Llama and SmolLM come
        found[family] = tiny_model(family, words, folder / family, model_class="AutoModelForCausalLM")
    return found


def train(task: str, base: Path, output: Path, *, strategy: Any = "full", **changes: Any) -> Any:
    steps = {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "save_strategy": "no"}
    content: dict[str, Any] = {"dataset": DATA, "preprocessor": {"max_length": 24}, **changes}
    content["training"] = {**steps, **changes.get("training", {})}
    return finetune.train(task=task, model=str(base), strategy=strategy, output=str(output), **content)


@pytest.fixture(scope="module")
def adapted(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a masked run with checkpoints, accumulation and whole words."""
    output = tmp_path_factory.mktemp("runs") / "masked"
    files = tmp_path_factory.mktemp("data")
    for split, rows in DATA.items():
        (files / f"{split}.txt").write_text("\n".join(row["text"] for row in rows))
    train(
        MASKED, bases["bert"], output, dataset={split: str(files / f"{split}.txt") for split in DATA},
        preprocessor={"max_length": 18, "whole_word_mask": True},
        training={"max_steps": 8, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2,
                  "save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 3,
                  "learning_rate": 5e-3},
    )  # fmt: skip
    return output


def test_a_masked_run_resumed_within_an_epoch_ends_with_the_same_bits(adapted: Path, tmp_path: Path) -> None:
    output = tmp_path / "resumed"
    shutil.copytree(adapted, output)
    for name in ("result.json", "model.safetensors", "predictions.jsonl", "checkpoint-8"):
        path = output / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    content = recipes.to_mapping(recipes.read(adapted / "recipe.yaml"))
    result = finetune.train(**{**content, "output": str(output)}, resume=True)
    assert result.resumed_from == "checkpoint-6"
    (epoch,) = {entry["epoch"] for entry in result.log if entry["step"] == 6 and "eval_loss" in entry}
    assert epoch > 1 and epoch % 1, "the run did not resume within an epoch"
    ours, theirs = (load_file(run / "model.safetensors") for run in (adapted, output))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    shutil.rmtree(output)
    # a control: the comparison can fail
    finetune.train(**{**content, "output": str(output), "seed": 1, "score_base_model": False})
    other = load_file(output / "model.safetensors")
    assert not all(torch.equal(ours[name], other[name]) for name in ours)


def test_masked_scores_do_not_depend_on_the_batch_and_equal_a_sum_by_hand(adapted: Path) -> None:
    model = finetune.load(adapted)
    recipe = replace(model.plan.recipe, training={"per_device_eval_batch_size": 1})
    single = replace(model, plan=replace(model.plan, recipe=recipe))
    assert single.evaluate() == pytest.approx(model.result.scores["test"], rel=1e-5)
    # one document, by hand: mask what evaluation masks, and run the plain model
    record = model.predict(text=DATA["test"][0]["text"])
    plain = transformers.AutoModelForMaskedLM.from_pretrained(adapted)
    ids = model.tokenizer(DATA["test"][0]["text"], return_tensors="pt").input_ids
    block = {"input_ids": ids[0].tolist(), "seq_lengths": [ids.shape[1]]}
    words = model.plan.preprocessor.features({"text": [DATA["test"][0]["text"]]}, model.tokenizer)["word_ids"][0]
    collator = model.plan.preprocessor.collator(model.tokenizer, None).evaluating()
    labels = torch.tensor(collator.masked({**block, "word_ids": words})["labels"])
    hidden = ids.clone()
    hidden[0, labels != -100] = model.tokenizer.mask_token_id
    with torch.no_grad():
        logits = plain.eval()(hidden).logits[0].log_softmax(-1)
    nll = sum(-logits[place, label].item() for place, label in enumerate(labels.tolist()) if label != -100)
    assert record["nll"] == pytest.approx(nll, rel=1e-5)


def test_a_gap_is_filled_as_the_fill_mask_pipeline_fills_it(adapted: Path) -> None:
    text = "gull [MASK] tar"
    record = finetune.load(adapted).predict([{"text": "salt pier"}, {"text": text}])[1]
    assert "reference" not in record
    (gap,) = record["fillings"]
    alone = finetune.load(adapted).predict(text=text)["fillings"][0]
    pipe = transformers.pipeline("fill-mask", model=str(adapted), tokenizer=str(adapted), device=-1)
    theirs = [(found["token_str"], found["score"]) for found in pipe(text)]
    assert [(filling["token"], filling["probability"]) for filling in alone] == [
        (token, pytest.approx(score, rel=1e-4)) for token, score in theirs
    ]
    assert len(gap) == 5 and record["prediction"] == [gap[0]["token"]]


def test_masks_and_fillings_of_a_text_do_not_depend_on_other_texts(adapted: Path) -> None:
    model = finetune.load(adapted)
    rows = [{"text": "gull [MASK] tar"}, *DATA["test"], {"text": "[MASK] pier"}]
    assert model.plan.preprocessor.packing
    for row, record in zip(rows, model.predict(rows), strict=True):
        alone = model.predict(row)
        assert alone["prediction"] == record["prediction"]
        assert alone.get("nll") == (pytest.approx(record["nll"], rel=1e-4) if "nll" in record else None)


def test_an_adapted_model_is_a_base_for_another_task(adapted: Path, tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": "even" if number % 2 else "odd"} for number, row in enumerate(DATA["train"])]
    result = train(
        "text-classification", adapted, tmp_path / "run", dataset={"train": rows, "validation": rows[:6]},
        preprocessor={"max_length": 32}, training={"max_steps": 1, "learning_rate": 1e-6},
    )  # fmt: skip
    assert result.newly_initialized == ["bert.pooler.dense", "classifier"]
    ours = load_file(adapted / "model.safetensors")
    theirs = load_file(tmp_path / "run" / "model.safetensors")
    name = "bert.encoder.layer.0.attention.self.query.weight"
    torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_causal_run_scores_what_the_saved_model_says_of_each_text(
    family: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    result = train(CAUSAL, bases[family], tmp_path / "run", preprocessor={"max_length": 40, "packing": False})
    assert result.scores["test"]["perplexity"] < result.base_model_scores["test"]["perplexity"]
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run").eval()
    model = finetune.load(tmp_path / "run")
    words, total, count = model.tokenizer, 0.0, 0
    for record, row in zip(model.predict(DATA["test"]), DATA["test"], strict=True):
        begin = words.bos_token_id if family == "llama" else words.eos_token_id
        ids = [begin, *words(row["text"], add_special_tokens=False).input_ids, words.eos_token_id]
        with torch.no_grad():
            logits = plain(torch.tensor([ids])).logits[0].log_softmax(-1)
        nll = -sum(logits[place, token].item() for place, token in enumerate(ids[1:]))
        assert record["nll"] == pytest.approx(nll, rel=1e-5)
        assert (record["tokens"], record["bytes"]) == (len(ids) - 1, len(row["text"]))
        total, count = total + nll, count + len(ids) - 1
    assert result.scores["test"]["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_text_is_continued_as_by_plain_transformers_whatever_other_texts_there_are(
    family: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    train(CAUSAL, bases[family], tmp_path / "run", score_base_model=False, generation={"max_new_tokens": 6})
    model, plain = finetune.load(tmp_path / "run"), transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    long = {"text": " ".join(WORDS * 3)}  # several blocks of 24
    rows = [*DATA["test"], long]
    many = model.predict(rows)
    for row, record in zip(rows, many, strict=True):
        alone = model.predict(row)
        assert (alone["prediction"], alone["tokens"]) == (record["prediction"], record["tokens"])
        assert alone["perplexity"] == pytest.approx(record["perplexity"], rel=1e-5)
        begin = plain.config.bos_token_id if family == "llama" else plain.config.eos_token_id
        ids = [begin, *model.tokenizer(row["text"], add_special_tokens=False).input_ids][-24:]
        with torch.no_grad():
            whole = plain.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False,
                                   eos_token_id=model.tokenizer.eos_token_id, pad_token_id=0)[0].tolist()  # fmt: skip
        text, start = (model.tokenizer.decode(part, skip_special_tokens=True) for part in (whole, ids))
        assert start + record["prediction"] == text
        assert record["stopped"] == (model.tokenizer.eos_token_id in whole[len(ids) :])
        assert "reference" not in record
    assert any(record["prediction"] for record in many)


def test_continuations_follow_the_options_and_the_seed(bases: dict[str, Path], tmp_path: Path) -> None:
    train(CAUSAL, bases["llama"], tmp_path / "run", score_base_model=False)
    model = finetune.load(tmp_path / "run")
    drawn = [
        model.with_generation(max_new_tokens=9, do_sample=True, temperature=5.0).predict(text="tide") for _ in range(2)
    ]
    assert drawn[0] == drawn[1] != model.with_generation(max_new_tokens=9).predict(text="tide")
    with pytest.raises(BadOptions, match="max_new_tokens is 128, but the model has 128 positions"):
        model.with_generation(max_new_tokens=128).predict(text="tide")
    with pytest.raises(BadOptions, match="'max_length' includes the prompt"):
        model.with_generation(max_length=20).predict(text="tide")


def test_lora_adapts_a_causal_model_by_adapter_alone(bases: dict[str, Path], tmp_path: Path) -> None:
    result = train(CAUSAL, bases["llama"], tmp_path / "run", strategy={"name": "lora", "r": 2})
    assert (tmp_path / "run" / "adapter_model.safetensors").is_file()
    assert finetune.evaluate(tmp_path / "run", {"path": _file(tmp_path, DATA["test"])}) == pytest.approx(
        result.scores["test"]
    )


def test_lora_adapts_a_masked_model_and_every_epoch_has_new_masks(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: set[tuple[int, int]] = set()

    def noted(ids: Any, *, seed: int, epoch: int) -> Any:
        drawn.add((seed, epoch))
        return mask_generator(ids, seed=seed, epoch=epoch)

    monkeypatch.setattr(collate, "mask_generator", noted)
    result = train(MASKED, bases["bert"], tmp_path / "run", strategy={"name": "lora", "r": 2},
                   training={"max_steps": -1, "num_train_epochs": 2, "per_device_train_batch_size": 8})  # fmt: skip
    assert drawn == {(42, 0), (42, 1), (collate.FIXED_SEED, collate.FIXED_EPOCH)}
    assert result.newly_initialized == []
    assert finetune.load(tmp_path / "run").predict(DATA["test"])[0]["tokens"] > 0


def _file(folder: Path, rows: list[dict[str, str]]) -> str:
    (folder / "test.txt").write_text("\n".join(row["text"] for row in rows) + "\n")
    return str(folder / "test.txt")


def test_a_body_without_a_head_gets_one_that_trains_although_it_is_tied_to_the_embeddings(tmp_path: Path) -> None:
    base = tiny_model("bert", tokenizer("bert", FILES, 200), tmp_path / "body")
    result = train(MASKED, base, tmp_path / "run", score_base_model=False, training={"max_steps": 1})
    assert {"cls.predictions.decoder", "cls.predictions.transform.dense"} < set(result.newly_initialized)


def test_packed_training_examples_are_scored_by_their_own_tokens(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "TRAIN_SAMPLE", 5)
    rows = [{"text": f"tide {number}"} for number in range(10, 40)]
    words = tokenizer("gpt2", FILES, 300)
    per_text = {len(words(row["text"]).input_ids) for row in rows}
    result = train(
        CAUSAL,
        bases["gpt2"],
        tmp_path / "run",
        dataset={"train": rows},
        training={"max_steps": 1},
        score_base_model=False,
    )
    assert 5 * (min(per_text) + 1) <= result.scores["train"]["tokens"] <= 5 * (max(per_text) + 1)
    assert result.details["train"]["bytes"] == 5 * len("tide 10")


def test_an_encoder_is_refused_as_a_causal_model(tmp_path: Path) -> None:
    words = tokenizer("roberta", FILES, 400)
    base = tiny_model("roberta", words, tmp_path / "base", model_class="AutoModelForMaskedLM")
    with pytest.raises(Incompatible, match=r"reads the whole text at once.*Use the task masked-language-modeling"):
        train(CAUSAL, base, tmp_path / "run", score_base_model=False)
