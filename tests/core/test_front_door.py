"""What people pass by habit to a Python function: each form works, or is refused in one line with the way to do it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import toy
import yaml
from cases import case
from datasets import ClassLabel, Dataset, DatasetDict, IterableDataset
from together import TASKS, bases_in
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    TrainerCallback,
    TrainingArguments,
)

import finetune
from finetune import data, front_door
from finetune import plan as plans
from finetune import recipe as recipes
from finetune.api import Trained
from finetune.errors import BadData, BadOptions, BadRecipe, FinetuneError, OutputExists
from finetune.interfaces import Columns, Strategy
from finetune.plugins import discover
from finetune.recipe import Source
from finetune.result import Result
from finetune_freeze.full import FullStrategy
from finetune_peft.lora import LoraStrategy

TRAIN, HELD_OUT = toy.rows(24, seed=24), toy.rows(10, seed=10)


class TorchRows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return len(TRAIN)

    def __getitem__(self, place: int) -> dict[str, str]:
        if place >= len(TRAIN):
            raise IndexError(place)
        return TRAIN[place]


def tagged(rows: list[dict[str, str]]) -> Dataset:
    return Dataset.from_list(rows).cast_column("label", ClassLabel(names=["land", "sea"]))


THREE = {"train": TRAIN, "validation": HELD_OUT, "test": HELD_OUT}
FORMS: dict[str, Callable[[], Any]] = {
    "DatasetDict": lambda: DatasetDict({name: Dataset.from_list(rows) for name, rows in THREE.items()}),
    "DatasetDict with a further split": lambda: DatasetDict(
        {**{name: Dataset.from_list(rows) for name, rows in THREE.items()}, "unsupervised": Dataset.from_list(TRAIN)}
    ),
    "Dataset": lambda: Dataset.from_list(TRAIN),
    "Dataset with a format": lambda: Dataset.from_list(TRAIN).with_format("torch", columns=["text"]),
    "list": lambda: TRAIN,
    "tuple": lambda: tuple(TRAIN),
    "generator": lambda: (row for row in TRAIN),
    "DataFrame": lambda: pd.DataFrame(TRAIN),
    "DataFrame with an index": lambda: pd.DataFrame(TRAIN, index=[f"row {number}" for number in range(len(TRAIN))]),
    "Table": lambda: pa.Table.from_pylist(TRAIN),
    "IterableDataset": lambda: IterableDataset.from_generator(lambda: iter(TRAIN)),
    "torch Dataset": TorchRows,
    "split to DataFrame": lambda: {"train": pd.DataFrame(TRAIN), "test": pd.DataFrame(HELD_OUT)},
    "split to list": lambda: {"train": TRAIN, "test": HELD_OUT},
    "split to Dataset, another split": lambda: {"train": Dataset.from_list(TRAIN), "dev": Dataset.from_list(HELD_OUT)},
    "columns": lambda: {name: [row[name] for row in TRAIN] for name in ("text", "label")},
    "section": lambda: {"path": DatasetDict({"train": Dataset.from_list(TRAIN), "dev": Dataset.from_list(HELD_OUT)}),
                        "splits": {"validation": "dev"}, "limit": {"train": 20}},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_rows_in_every_form_give_the_same_examples(form: str) -> None:
    section, rows = front_door.dataset_section(FORMS[form]())
    assert rows is not None and section["path"] == "rows:"
    source = Source(**{**section, "validation_size": 0})
    found = data.from_rows(rows, toy.SeaOrLand(), source=source)
    size = source.limit.get("train", len(TRAIN))
    kept = found.splits["train"].to_list()
    assert len(kept) == size and all(row in TRAIN for row in kept)
    if size == len(TRAIN):
        assert kept == TRAIN
    unused = [finding.message for finding in found.findings if finding.code == "unused-split"]
    assert bool(unused) == ("further" in form or "another" in form)
    assert ("validation" in found.splits) == (form in ("DatasetDict", "DatasetDict with a further split", "section"))


@pytest.mark.parametrize(
    "dataset", [None, "a.csv", Path("a.csv"), {"train": "a.csv"}, {"train": ["a.csv", Path("b.csv")]}, {"path": "a"},
                {"path": {"train": "a.csv"}}, {"mixture": {"a": "a.csv"}}, Source(path="a.csv")]
)  # fmt: skip
def test_a_path_is_no_rows(dataset: Any) -> None:
    assert front_door.dataset_section(dataset) == (dataset, None)


NAMED = {"text": "review", "label": "stars"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "number": ({"dataset": 7}, "dataset: an int holds no rows. Give a Dataset, a DataFrame, a list of mappings"),
    "texts": ({"dataset": ["a", "b"]}, "dataset: row 0 is 'a'. Give each row as a mapping"),
    "text in a split": ({"dataset": {"train": TRAIN, "test": "x" * 99}}, "holds no rows"),
    "series": ({"dataset": pd.Series(["a"])}, "a Series holds no rows"),
    "format of rows": (
        {"dataset": {"path": TRAIN, "format": "csv"}},
        "dataset.format: has no effect on rows in memory",
    ),
    "streamed rows": ({"dataset": {"path": TRAIN, "streaming": True}}, "dataset.streaming: has no effect on rows"),
    "tokenized": ({"dataset": Dataset.from_list([{"input_ids": [1], "label": "sea"}])}, "are tokenized already"),
    "class of strategy": ({"strategy": FullStrategy}, "strategy: FullStrategy is a class. Make an object of it"),
    "wrong noun": ({"strategy": toy.Accuracy()}, "strategy: an Accuracy is no Strategy of finetune"),
    "number for a strategy": ({"strategy": 3}, "strategy: an int is no Strategy of finetune"),
    "metric": ({"metrics": [3]}, "metrics: an int is neither a name nor a function"),
    "callback": ({"callbacks": [print]}, "is no transformers.TrainerCallback"),
    "collator": ({"data_collator": "pad"}, "data_collator: 'pad' is no function"),
    "compute_metrics": ({"compute_metrics": {"f1": 1}}, "compute_metrics: a dict is no function"),
    "training": ({"training": TrainingArguments}, "neither a mapping such as {'num_train_epochs': 3} nor"),
    "pushes": ({"training": TrainingArguments("x", push_to_hub=True)}, "use `finetune push`"),
    "module": ({"model": torch.nn.Linear(1, 1)}, "model: a Linear is no model of transformers"),
    "tokenizer": ({"tokenizer": 3}, "tokenizer: an int is no tokenizer of transformers"),
    "tokenizer without a model": ({"model": {"tokenizer": 3}}, "model: the section has no path"),
    "columns": ({"columns": {"title": "text"}}, "dataset.columns renames 'title', but there is no such column"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_in_one_line(name: str, toy_base: Path, tmp_path: Path) -> None:
    changes, message = REFUSED[name]
    with pytest.raises(FinetuneError) as raised:
        finetune.train(**{**toy.recipe(toy_base, tmp_path / "run"), **changes})
    text = str(raised.value)
    assert message in text and len(text) < 500, text
    assert not (tmp_path / "run").exists()


def test_objects_for_every_argument(toy_base: Path, tmp_path: Path) -> None:
    seen: list[str] = []

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            seen.append(f"step {state.global_step}")

    def share_of_sea(records: Any) -> dict[str, float]:
        return {"share_of_sea": sum(record["prediction"] == "sea" for record in records) / len(records)}

    tokenizer = AutoTokenizer.from_pretrained(toy_base)
    pad = DataCollatorWithPadding(tokenizer)

    def collate(rows: Any) -> Any:
        seen.append("batch")
        return pad(rows)

    def wrong(prediction: Any) -> dict[str, float]:
        assert prediction.predictions.shape[0] == prediction.label_ids.shape[0]
        return {"eval_wrong": float(np.mean(prediction.predictions.argmax(-1) != prediction.label_ids))}

    renamed = [{NAMED[name]: value for name, value in row.items()} for row in TRAIN]
    arguments: dict[str, Any] = {
        "task": toy.TASK,
        "model": toy_base,
        "dataset": {"train": pd.DataFrame(renamed), "validation": renamed[:8]},
        "columns": {"review": "text", "stars": "label"},
        "strategy": LoraStrategy(r=4, target_modules=("query",)),
        "preprocessor": toy.SeaOrLand(),
        "evaluator": toy.Accuracy(),
        "metrics": [share_of_sea, even],
        "training": TrainingArguments(
            "ignored", num_train_epochs=2, per_device_train_batch_size=8, learning_rate=1e-3, save_steps=2,
            save_strategy="steps", eval_strategy="epoch", do_train=True, seed=7, metric_for_best_model="wrong",
            greater_is_better=False,
        ),
        "callbacks": [Watch],
        "data_collator": collate,
        "compute_metrics": wrong,
        "output": tmp_path / "run",
    }  # fmt: skip
    result = finetune.train(**arguments)
    assert {"step 1", "step 6", "batch"} <= set(seen) and result.steps == 6
    scores = result.scores["validation"]
    assert scores["wrong"] == pytest.approx(1 - scores["accuracy"])
    assert {"share_of_sea", "even"} <= set(scores)
    assert [entry["eval_wrong"] for entry in result.log if "eval_wrong" in entry]
    written = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert (written["task"], written["strategy"]["name"], written["strategy"]["r"]) == ("toy:TASK", "lora", 4)
    assert (written["seed"], written["output"]) == (7, str(tmp_path / "run"))
    assert written["metrics"] == [f"{__name__}:even"]
    python = {"callbacks": ["Watch"], "metrics": ["share_of_sea"], "data_collator": ["collate"],
              "compute_metrics": ["wrong"]}  # fmt: skip
    assert written["python"] == python
    assert any("not in recipe.yaml: callbacks (Watch)" in note for note in result.notes)
    # the object predicts at once, as the loaded run does
    record = result.predict("ship wave harbour")
    assert record == finetune.load(tmp_path / "run").predict(text="ship wave harbour")
    assert result.predict(["ship wave harbour"]) == [record]
    assert result.predict(pd.DataFrame({"review": ["ship wave harbour"]})) == [record]
    assert result.evaluate(renamed) == result.evaluate(TRAIN)
    plain = Result(**{each.name: getattr(result, each.name) for each in fields(Result)})
    assert result == plain and plain == result
    # a file cannot hold these objects
    with pytest.raises(BadRecipe) as raised:
        plans.make(recipes.read(tmp_path / "run" / "recipe.yaml", trust_code=True), discover())
    assert "(dataset: rows in memory; callbacks: Watch; metrics: share_of_sea;" in str(raised.value)
    assert "resume=True" in str(raised.value) and "\n" not in str(raised.value)
    # the same call continues a run that was killed
    (tmp_path / "run" / "result.json").unlink()
    again = finetune.train(**arguments, resume=True)
    assert again.scores == result.scores and again.resumed_from == "checkpoint-6"


def test_a_result_scores_validation_without_test_and_keeps_its_plugins(toy_run: Path) -> None:
    plugins = discover()
    result = Trained.of(Result.load(toy_run, trust_code=True), plugins=plugins)
    assert result.evaluate({"train": TRAIN, "validation": HELD_OUT}) == result.evaluate(HELD_OUT)
    assert result.finetuned.plan.plugins is plugins


def even(records: Any) -> dict[str, float]:
    return {"even": float(len(records) % 2 == 0)}


def test_a_loaded_model_is_trained_as_it_is(toy_base: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(toy_base, num_labels=2)
    tokenizer = AutoTokenizer.from_pretrained(toy_base)
    head = model.classifier.weight.detach().clone()
    recipe = {**toy.recipe(toy_base, tmp_path / "run"), "model": model}
    result = finetune.train(**recipe, tokenizer=tokenizer)
    assert torch.equal(model.classifier.weight, head), "the object is not changed"
    assert result.recipe["model"]["path"] == str(tmp_path / "run-base")
    assert result.recipe["model"]["tokenizer"] == str(tmp_path / "run-tokenizer")
    assert not result.newly_initialized
    assert any("the loaded model was saved in" in note for note in result.notes)
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run-base")
    assert torch.equal(saved.classifier.weight, head)
    # the same object again is the same base; another one is refused while the run is there
    finetune.train(**recipe, tokenizer=tokenizer, overwrite=True)
    model.classifier.weight.data += 1
    with pytest.raises(OutputExists, match="holds another model; set overwrite=True"):
        finetune.train(**recipe, tokenizer=tokenizer)
    with pytest.raises(OutputExists, match="the run cannot continue with it"):
        finetune.train(**recipe, tokenizer=tokenizer, resume=True)


def test_a_loaded_model_that_a_folder_holds_becomes_its_name(toy_run: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(toy_run)
    section, notes = front_door.model_section(model, None, output=tmp_path / "x", overwrite=False, resume=False)
    assert (section, notes, list(tmp_path.iterdir())) == ({"path": str(toy_run)}, [], [])
    model.config.hidden_dropout_prob = 0.5
    section, notes = front_door.model_section(model, None, output=tmp_path / "x", overwrite=False, resume=False)
    assert section == {"path": str(tmp_path / "x-base"), "tokenizer": str(toy_run)} and len(notes) == 1


def test_an_adapted_or_nameless_model_is_refused(toy_base: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(toy_base)
    adapted = SimpleNamespace(merge_and_unload=print)  # as PeftModel has it
    with pytest.raises(BadRecipe, match=r"has an adapter of PEFT already. Merge it first, with merge_and_unload\(\)"):
        front_door.model_section(adapted, None, output=tmp_path, overwrite=False, resume=False)
    nameless = AutoModelForSequenceClassification.from_config(model.config)
    nameless.config.name_or_path = ""
    with pytest.raises(BadRecipe, match="tokenizer: give that of the loaded model"):
        front_door.model_section(nameless, None, output=tmp_path, overwrite=False, resume=False)
    with pytest.raises(BadRecipe, match="output: name the folder"):
        front_door.model_section(nameless, None, output=None, overwrite=False, resume=False)


def test_the_early_stopping_callback_becomes_a_key() -> None:
    callbacks, section = front_door.trainer_callbacks([EarlyStoppingCallback(3, 0.01), TrainerCallback])
    assert section == {"early_stopping_patience": 3, "early_stopping_threshold": 0.01}
    assert [type(each) for each in callbacks] == [TrainerCallback]


def test_a_strategy_becomes_its_name_and_options() -> None:
    plugins = discover()
    section = front_door.section_of("strategy", LoraStrategy(r=4), plugins)
    assert (section["name"], section["r"]) == ("lora", 4)
    chosen = recipes.Choice(name=section.pop("name"), options=section)
    assert plans._chosen(plugins, "strategies", chosen, Strategy) == LoraStrategy(r=4)

    class Inside(FullStrategy):
        """No run finds it again."""

    with pytest.raises(BadRecipe, match="Inside is defined inside a function"):
        front_door.section_of("strategy", Inside(), plugins)


def test_functions_that_can_be_imported_become_names() -> None:
    names, functions = front_door.metric_names([even, "toy:rows", lambda _: {}])
    assert names == [f"{__name__}:even", "toy:rows"] and list(functions) == ["<lambda>"]


def test_compute_metrics_is_checked(toy_base: Path, tmp_path: Path) -> None:
    for number, (function, message) in enumerate(
        [
            (lambda _: {"accuracy": 1.0}, "returns 'accuracy', which Accuracy computes already"),
            (lambda _: 3, "must return a mapping of names to numbers"),
            (lambda _: 1 / 0, "compute_metrics raised"),
        ]
    ):
        with pytest.raises(BadOptions, match=message):
            finetune.train(**toy.recipe(toy_base, tmp_path / str(number)), compute_metrics=function)


SCORED: dict[str, Callable[[], Any]] = {
    "list": lambda: HELD_OUT,
    "Dataset": lambda: Dataset.from_list(HELD_OUT),
    "DataFrame": lambda: pd.DataFrame(HELD_OUT),
    "split": lambda: {"test": HELD_OUT},
    "DatasetDict": lambda: DatasetDict({"train": Dataset.from_list(TRAIN), "test": Dataset.from_list(HELD_OUT)}),
}


def test_a_model_scores_and_predicts_rows_in_memory(toy_run: Path, tmp_path: Path) -> None:
    model = finetune.load(toy_run)
    lines = "".join(json.dumps(row) + "\n" for row in HELD_OUT)
    (tmp_path / "rows.jsonl").write_text(lines)
    expected = model.evaluate(tmp_path / "rows.jsonl")
    for form, make in SCORED.items():
        assert model.evaluate(make()) == expected, form
    assert finetune.evaluate(toy_run, HELD_OUT) == expected
    assert model.evaluate({"path": HELD_OUT, "limit": {"train": 99}}) == expected
    with pytest.raises(BadRecipe, match="'limits' is not an option of Source"):
        model.evaluate({"path": HELD_OUT, "limits": {"train": 5}})
    assert model.evaluate({"train": TRAIN, "validation": HELD_OUT}) == expected  # there is no test
    with pytest.raises(BadData, match="the data has no split 'test'"):
        model.evaluate({"train": TRAIN, "validation": HELD_OUT}, split="test")
    texts = [row["text"] for row in HELD_OUT]
    records = model.predict(texts)
    assert model.predict(texts[0]) == records[0] == model.predict(text=texts[0])
    assert model.predict(pd.Series(texts)) == records
    for make in (Dataset.from_list, pd.DataFrame, tuple, iter):
        assert model.predict(make([{"text": text} for text in texts])) == records
    with pytest.raises(BadData, match=r"row 1 is an int\. Give each row as a mapping"):
        model.predict(["ship", 3])  # type: ignore[list-item]
    for given in (3, b"bytes"):
        with pytest.raises(BadData, match=r"predict: an? .* holds no rows"):
            model.predict(given)  # type: ignore[call-overload]


def test_a_text_alone_is_refused_where_a_task_reads_more() -> None:
    with pytest.raises(BadData, match=r"reads question and context, .* Write question=…, context=…"):
        front_door.examples_of("Who?", Columns(required=("question", "context")))
    with pytest.raises(BadData, match=r"reads messages or prompt, .* Write messages=…, prompt=…"):
        front_door.examples_of("Hi", Columns(optional=("messages", "prompt")))


@pytest.mark.parametrize("strategy", ["full", "lora", "prefix"])
def test_a_checkpoint_can_be_loaded(strategy: str, toy_base: Path, tmp_path: Path) -> None:
    training = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    run = tmp_path / "run"
    result = finetune.train(**toy.recipe(toy_base, run, training=training, strategy=strategy, score_base_model=False))
    last = finetune.load(run / "checkpoint-2")
    assert last.predict([row["text"] for row in HELD_OUT]) == result.predict([row["text"] for row in HELD_OUT])
    assert last.result.steps == 2 and last.evaluate(HELD_OUT) == result.evaluate(HELD_OUT)
    (run / "result.json").unlink()  # as if it had been killed
    first = finetune.load(run / "checkpoint-1")
    assert first.predict("ship wave")["prediction"] in ("sea", "land")
    (run / "recipe.yaml").rename(tmp_path / "recipe.yaml")
    with pytest.raises(BadRecipe, match=r"is a checkpoint, and the recipe.yaml of its run is not in the folder above"):
        finetune.load(run / "checkpoint-1")


@pytest.mark.parametrize("task", ["masked-language-modeling", "grpo"])
def test_a_collator_that_a_task_would_ignore_is_refused(task: str, tmp_path: Path) -> None:
    of = case(task)
    with pytest.raises(BadOptions, match=r"data_collator: .* Leave it out") as raised:
        finetune.train(
            task=task,
            model=bases_in(tmp_path / "base")(of.family, of.words),
            dataset={**TASKS[task].starter["dataset"], "limit": {"train": 8, "validation": 4, "test": 4}},
            strategy="full",
            preprocessor=dict(of.preprocessor),
            training={**of.training, "max_steps": 1},
            generation=dict(of.generation),
            data_collator=DataCollatorWithPadding(None),  # type: ignore[arg-type]
            output=tmp_path / "run",
        )
    assert "\n" not in str(raised.value)
