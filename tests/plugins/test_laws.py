"""Our plugins obey the laws of `finetune.testing`, and a class that breaks a law is caught."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from cases import case
from datasets import Dataset

from finetune.data import features
from finetune.interfaces import Columns, Evaluator, Finding, Predictions, Preprocessor, Strategy, Task
from finetune.plugins import discover, resolve
from finetune.testing import check_evaluator, check_finding, check_preprocessor, check_strategy, tiny_model
from finetune.testing.tokenizers import tokenizer

FOUND = discover()
TASKS: dict[str, Task] = dict(FOUND.catalogues["tasks"].targets)
STRATEGIES = sorted(FOUND.catalogues["strategies"].targets)


def examples(task: Task, size: int = 40) -> list[dict[str, Any]]:
    """Return rows of the task's sample, their columns renamed as its starter does."""
    source = task.starter["dataset"]
    scheme, _, name = source["path"].partition(":")
    names = source.get("columns", {})
    rows: list[dict[str, Any]] = FOUND.find("sources", scheme)(name, size=size)["train"]
    return [{names.get(column, column): value for column, value in row.items()} for row in rows]


@cache
def words_of(name: str) -> Any:
    """Return the tokenizer that a task is tried with."""
    return tokenizer(case(name).words, vocab_size=500)


@pytest.fixture(scope="module")
def words() -> Any:
    return words_of("text-classification")


def built(task: Task, name: str) -> Preprocessor:
    preprocessor: Preprocessor = resolve(task.preprocessor)(**case(name).preprocessor)
    return preprocessor


@pytest.mark.parametrize("name", TASKS)
def test_our_preprocessors_obey_the_laws(name: str, tmp_path: Path) -> None:
    task, words = TASKS[name], words_of(name)
    base = tiny_model(case(name).family, words, tmp_path / "base", model_class=task.model_class)
    model = getattr(transformers, task.model_class).from_pretrained(base)
    check_preprocessor(built(task, name), examples=examples(task), tokenizer=words, task=task, model=model)


def predictions(name: str) -> Predictions:
    """Return predictions of random outputs."""
    task, words = TASKS[name], words_of(name)
    rows = examples(task)
    preprocessor = built(task, name).fit(rows)
    rows = Dataset.from_list(rows)
    made = features.make(rows, preprocessor=preprocessor, tokenizer=words, task=task, split="test").features
    outputs = case(name).outputs(made, preprocessor, np.random.default_rng(0))
    return Predictions(examples=rows, features=made, outputs=outputs, tokenizer=words, preprocessor=preprocessor)


@pytest.mark.parametrize("name", TASKS)
def test_our_evaluators_obey_the_laws(name: str) -> None:
    check_evaluator(resolve(TASKS[name].evaluator)(), predictions=predictions(name))


VIRTUAL = {"prefix", "prompt", "ptuning"}
"""Strategies that put virtual tokens before every text."""


@pytest.mark.parametrize("name", STRATEGIES)
def test_our_strategies_obey_the_laws(name: str, words: Any, tmp_path: Path) -> None:
    task = TASKS["text-classification"]
    base = tiny_model("bert", words, tmp_path / "base", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    strategy = FOUND.find("strategies", name)()
    torch.manual_seed(0)
    with strategy.loading():
        model = getattr(transformers, task.model_class).from_pretrained(base, num_labels=3, **strategy.load_options())
    batch = dict(words(["gulls circle", "a pier", "the tide"], padding=True, return_tensors="pt"))
    check_strategy(
        strategy,
        model=model,
        task=task,
        batch={**batch, "labels": torch.arange(3)},
        begins_as_the_base=name not in VIRTUAL,
    )


# --- the laws can be broken -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Counting(Preprocessor):
    """Looks at its neighbours."""

    def needs(self) -> Columns:
        return Columns(required=("text",), answers=("label",))

    def features(self, batch: Any, tokenizer: Any) -> Any:
        made = dict(tokenizer(list(batch["text"])))
        return {**made, "labels": [len(batch["text"])] * len(batch["text"])}


@dataclass(frozen=True, kw_only=True)
class Undocumented(Counting):
    """Has an option without a docstring."""

    secret: int = 3


@dataclass
class Unfrozen(Evaluator):
    """Is a dataclass that can be changed."""

    primary: str = "accuracy"
    """Score."""

    def records(self, predictions: Any) -> Any:
        return [{"prediction": 1, "reference": 1}]

    def scores(self, records: Any) -> Any:
        return {"accuracy": 1.0}


class Nothing(Strategy):
    """Trains nothing."""

    def prepare(self, model: Any, task: Any, *, newly_initialized: Any = ()) -> Any:
        return model.requires_grad_(False)


def test_a_preprocessor_that_breaks_a_law_is_caught(words: Any) -> None:
    task = TASKS["text-classification"]
    rows = [{"text": "a pier", "label": "x"}, {"text": "the tide", "label": "y"}]
    with pytest.raises(AssertionError, match="'labels' depends on how examples are batched"):
        check_preprocessor(Counting(), examples=rows, tokenizer=words, task=task)
    with pytest.raises(AssertionError, match="'secret' of Undocumented has no docstring"):
        check_preprocessor(Undocumented(), examples=rows, tokenizer=words, task=task)


@dataclass(frozen=True, kw_only=True)
class ChoicesPreprocessor(Preprocessor):
    """Pairs a question with each of its choices: the token ids of a feature are nested."""

    def needs(self) -> Columns:
        return Columns(required=("question", "choices"), answers=("label",))

    def features(self, examples: Any, tokenizer: Any) -> Any:
        made: dict[str, list[Any]] = {"input_ids": [], "attention_mask": []}
        for question, choices in zip(examples["question"], examples["choices"], strict=True):
            pairs = tokenizer([question] * len(choices), list(choices))
            made["input_ids"].append(pairs["input_ids"])
            made["attention_mask"].append(pairs["attention_mask"])
        return {**made, "labels": list(examples["label"])} if "label" in examples else made


class CountingChoices(ChoicesPreprocessor):
    """Counts the choices of a feature instead of its tokens."""

    def lengths(self, features: Any) -> list[int]:
        return [len(ids) for ids in features["input_ids"]]


class ShortChoices(ChoicesPreprocessor):
    """Takes the first sequence of each feature for the longest."""

    def longest(self, features: Any) -> int:
        return max(len(ids[0]) for ids in features["input_ids"])


class ChangingChoices(ChoicesPreprocessor):
    """Renames a column of the example itself."""

    def canonical(self, example: Any) -> Any:
        example["source"] = example.pop("question")
        return example


class UnpicklableChoices(ChoicesPreprocessor):
    """Has a collator that no worker can be given."""

    def collator(self, tokenizer: Any, model: Any) -> Any:
        return lambda features: features


CHOICES = [
    {
        "question": "Where do the boats lie?",
        "choices": ["at the pier", "in the town, by the old fish market"],
        "label": 0,
    },
    {"question": "Who keeps the light?", "choices": ["a gull", "Tomás"], "label": 1},
]


def test_a_preprocessor_of_nested_features_obeys_the_laws(words: Any) -> None:
    task = TASKS["text-classification"]
    check_preprocessor(ChoicesPreprocessor(), examples=CHOICES, tokenizer=words, task=task, model=object())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (CountingChoices, r"lengths\(\) counts 2 for a feature with \d\d tokens"),
        (ShortChoices, r"longest\(\) is \d+, but one sequence has \d+ tokens"),
        (ChangingChoices, r"canonical\(\) changed the example"),
    ],
)
def test_a_preprocessor_that_miscounts_nested_features_or_changes_rows_is_caught(
    broken: type[Preprocessor], message: str, words: Any
) -> None:
    rows = [dict(row) for row in CHOICES]
    with pytest.raises(AssertionError, match=message):
        check_preprocessor(broken(), examples=rows, tokenizer=words, task=TASKS["text-classification"])


def test_a_collator_that_cannot_be_pickled_is_caught(words: Any) -> None:
    task = TASKS["text-classification"]
    with pytest.raises((AttributeError, pickle.PicklingError)):
        check_preprocessor(UnpicklableChoices(), examples=CHOICES, tokenizer=words, task=task, model=object())


def test_a_finding_without_a_sentence_or_a_place_is_caught() -> None:
    good = Finding(code="text-empty", message="the text is empty.", row=3)
    check_finding(good)
    for change, message in (
        ({"code": "Text empty"}, "not in kebab-case"),
        ({"message": "the text is empty"}, "not a sentence"),
        ({"row": None}, "no place"),
    ):
        with pytest.raises(AssertionError, match=message):
            check_finding(replace(good, **change))


def test_an_evaluator_that_breaks_a_law_is_caught(words: Any) -> None:
    with pytest.raises(AssertionError, match="Unfrozen is not frozen"):
        check_evaluator(Unfrozen(), predictions=predictions("text-classification"))


def test_a_strategy_that_breaks_a_law_is_caught(words: Any, tmp_path: Path) -> None:
    base = tiny_model("bert", words, tmp_path / "base")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    batch = {**words(["a", "b"], return_tensors="pt"), "labels": torch.arange(2)}
    with pytest.raises(AssertionError, match="nothing to train"):
        check_strategy(Nothing(), model=model, task=replace(TASKS["text-classification"]), batch=batch)
