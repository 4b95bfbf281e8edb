"""Our own plugins obey the laws that `finetune.testing` ships; and the laws can be broken."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset

from finetune import features
from finetune.interfaces import Evaluator, Predictions, Preprocessor, Strategy, Task
from finetune.plugins import discover, resolve
from finetune.testing import check_evaluator, check_preprocessor, check_strategy, tiny_model
from finetune.testing.tokenizers import tokenizer

FOUND = discover()
TASKS: dict[str, Task] = dict(FOUND.catalogues["tasks"].targets)
STRATEGIES = sorted(FOUND.catalogues["strategies"].targets)
OPTIONS: dict[str, dict[str, Any]] = {
    "question-answering": {"max_length": 64, "stride": 16},
    **{name: {"max_length": 32} for name in TASKS if name != "question-answering"},
}


def examples(task: Task, size: int = 40) -> list[dict[str, Any]]:
    """Return rows of the task's sample."""
    scheme, _, name = task.starter["dataset"]["path"].partition(":")
    rows: list[dict[str, Any]] = FOUND.find("sources", scheme)(name, size=size)["train"]
    return rows


@pytest.fixture(scope="module")
def words() -> Any:
    return tokenizer("bert", vocab_size=500)


def fitted(task: Task, name: str) -> Preprocessor:
    preprocessor: Preprocessor = resolve(task.preprocessor)(**OPTIONS[name])
    return preprocessor.fit(examples(task))


@pytest.mark.parametrize("name", TASKS)
def test_our_preprocessors_obey_the_laws(name: str, words: Any) -> None:
    task = TASKS[name]
    preprocessor = resolve(task.preprocessor)(**OPTIONS[name])
    check_preprocessor(preprocessor, examples=examples(task), tokenizer=words, task=task)


def predictions(name: str, words: Any) -> Predictions:
    """Return predictions of random logits."""
    task, preprocessor = TASKS[name], fitted(TASKS[name], name)
    rows = Dataset.from_list(examples(task))
    made = features.make(rows, preprocessor=preprocessor, tokenizer=words, task=task, split="test").features
    draw = np.random.default_rng(0)
    if name == "question-answering":
        width = max(map(len, made["input_ids"]))
        outputs: Any = tuple(draw.normal(size=(len(made), width)).astype(np.float32) for _ in range(2))
    else:
        outputs = draw.normal(size=(len(made), preprocessor.model_options()["num_labels"])).astype(np.float32)
    return Predictions(examples=rows, features=made, outputs=outputs, tokenizer=words, preprocessor=preprocessor)


@pytest.mark.parametrize("name", TASKS)
def test_our_evaluators_obey_the_laws(name: str, words: Any) -> None:
    check_evaluator(resolve(TASKS[name].evaluator)(), predictions=predictions(name, words))


@pytest.mark.parametrize("name", STRATEGIES)
def test_our_strategies_obey_the_laws(name: str, words: Any, tmp_path: Path) -> None:
    task = TASKS["text-classification"]
    base = tiny_model("bert", words, tmp_path / "base", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = getattr(transformers, task.model_class).from_pretrained(base, num_labels=3)
    batch = dict(words(["gulls circle", "a pier", "the tide"], padding=True, return_tensors="pt"))
    check_strategy(FOUND.find("strategies", name)(), model=model, task=task, batch={**batch, "labels": torch.arange(3)})


# --- the laws can be broken -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Counting(Preprocessor):
    """Looks at its neighbours."""

    columns = ("text",)
    answers = ("label",)

    def features(self, batch: Any, tokenizer: Any) -> Any:
        made = dict(tokenizer(list(batch["text"])))
        return {**made, "labels": [len(batch["text"])] * len(batch["text"])}


@dataclass(frozen=True, kw_only=True)
class Undocumented(Counting):
    """Has an option that nobody explains."""

    secret: int = 3


@dataclass
class Thawed(Evaluator):
    """Changes itself."""

    primary: str = "accuracy"
    """Score."""

    def records(self, predictions: Any) -> Any:
        return [{"prediction": 1, "reference": 1}]

    def scores(self, records: Any) -> Any:
        return {"accuracy": 1.0}


class Nothing(Strategy):
    """Trains nothing."""

    def prepare(self, model: Any, task: Any, *, fresh: Any = ()) -> Any:
        return model.requires_grad_(False)


def test_a_preprocessor_that_breaks_a_law_is_caught(words: Any) -> None:
    task = TASKS["text-classification"]
    rows = [{"text": "a pier", "label": "x"}, {"text": "the tide", "label": "y"}]
    with pytest.raises(AssertionError, match="'labels' depends on how examples are batched"):
        check_preprocessor(Counting(), examples=rows, tokenizer=words, task=task)
    with pytest.raises(AssertionError, match="'secret' of Undocumented has no docstring"):
        check_preprocessor(Undocumented(), examples=rows, tokenizer=words, task=task)


def test_an_evaluator_that_breaks_a_law_is_caught(words: Any) -> None:
    with pytest.raises(AssertionError, match="Thawed is not frozen"):
        check_evaluator(Thawed(), predictions=predictions("text-classification", words))


def test_a_strategy_that_breaks_a_law_is_caught(words: Any, tmp_path: Path) -> None:
    base = tiny_model("bert", words, tmp_path / "base")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    batch = {**words(["a", "b"], return_tensors="pt"), "labels": torch.arange(2)}
    with pytest.raises(AssertionError, match="nothing to train"):
        check_strategy(Nothing(), model=model, task=replace(TASKS["text-classification"]), batch=batch)
