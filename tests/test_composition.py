"""Every task with every strategy: it trains, or it is refused before the first step with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cases import case

import finetune
from finetune.errors import FinetuneError
from finetune.interfaces import Task
from finetune.plugins import discover
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer

TASKS: dict[str, Task] = dict(discover().catalogues["tasks"].targets)
STRATEGIES: dict[str, Any] = {
    **{name: name for name in discover().catalogues["strategies"].targets},
    "lora-all-linear": {"name": "lora", "r": 4, "target_modules": "all-linear"},
}
ENCODERS = {"bert": "bert", "roberta": "roberta", "distilbert": "bert", "electra": "bert", "deberta": "deberta"}
"""Family of models → family of tokenizers."""


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Return what writes, once, a tiny model of a family: encoders without a head and, for BERT, without a pooler."""
    folder = tmp_path_factory.mktemp("bases")

    @cache
    def base(family: str, words: str) -> Path:
        heads = {"bert": "AutoModelForMaskedLM", "gpt2": "AutoModelForCausalLM", "llama": "AutoModelForCausalLM",
                 "t5": "AutoModelForSeq2SeqLM", "bart": "AutoModelForSeq2SeqLM"}  # fmt: skip
        made = tokenizer(words, vocab_size=600)
        return tiny_model(family, made, folder / f"{family}-{words}", model_class=heads.get(family, "AutoModel"))

    return base


NO_ATTENTION_DROPOUT: dict[str, dict[str, float]] = {
    "question-answering": {"attention_probs_dropout_prob": 0.0},
    "token-classification": {"attention_probs_dropout_prob": 0.0},
    "summarization": {"attention_dropout": 0.0, "activation_dropout": 0.0},
}
TAGS = ["O", *(f"{place}-{kind}" for kind in ("DATE", "PER", "PLACE", "SHIP", "TRADE") for place in "BI")]
TOLERANCE = {"question-answering": 1e-3, "token-classification": 1e-4, "summarization": 1e-4}


def recipe(task: str, strategy: str, base: Path, output: Path) -> dict[str, Any]:
    source = TASKS[task].starter["dataset"]
    return {
        "task": task,
        "model": str(base),
        "dataset": {**source, "limit": {"train": 64, "validation": 16, "test": 16}},
        "strategy": STRATEGIES[strategy],
        "preprocessor": case(task).preprocessor,
        "training": {"max_steps": 10, "per_device_train_batch_size": 64, "learning_rate": 5e-3, "logging_steps": 1,
                     "save_strategy": "no", "eval_strategy": "no", "lr_scheduler_type": "constant",
                     **case(task).training},
        "generation": case(task).generation,
        "output": str(output),
    }  # fmt: skip


def train_and_reload(task: str, strategy: str, base: Path, output: Path) -> finetune.result.Result:  # type: ignore[name-defined]
    """Train; compare what a user loads with what the run recorded."""
    result = finetune.train(**recipe(task, strategy, base, output))
    losses = [entry["loss"] for entry in result.log if "loss" in entry]
    assert not case(task).learns or sum(losses[-3:]) < sum(losses[:3]), f"the loss did not fall: {losses}"
    assert finetune.evaluate(output) == pytest.approx(result.scores["test"], nan_ok=False)
    return result


HEADED = ("text-classification", "question-answering", "token-classification")
ONCE_WRONG = {(task, "lora-all-linear") for task in HEADED}
"""Cells in which a head was lost at one time: facts about PEFT, not guesses."""


def cells() -> Iterator[Any]:
    """Yield every task with every strategy; all but a diagonal and what once was wrong are slow."""
    for row, task in enumerate(sorted(TASKS)):
        for column, strategy in enumerate(STRATEGIES):
            quick = row % len(STRATEGIES) == column or (task, strategy) in ONCE_WRONG
            yield pytest.param(task, strategy, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("task", "strategy"), list(cells()))
def test_every_task_trains_by_every_strategy(task: str, strategy: str, bases: Any, tmp_path: Path) -> None:
    of = case(task)
    base = bases(of.family, of.words)
    if strategy in of.refused:
        with pytest.raises(FinetuneError, match=of.refused[strategy]):
            finetune.train(**recipe(task, strategy, base, tmp_path / "run"))
        return
    result = train_and_reload(task, strategy, base, tmp_path / "run")
    assert (result.trainable_parameters == result.total_parameters) == (strategy == "full")
    if task == "text-classification":
        assert result.born_random == ["bert.pooler.dense", "classifier"]


@pytest.mark.parametrize("task", ["question-answering", "token-classification", "summarization"])
def test_accumulated_gradients_are_those_of_one_batch_whoever_makes_the_loss(
    task: str, bases: Any, tmp_path: Path
) -> None:
    base, logs = bases(case(task).family, case(task).words), []
    rows = {} if task != "token-classification" else {"labels": TAGS}
    still = {"dropout": 0.0} if case(task).family == "bart" else {"hidden_dropout_prob": 0.0}
    for size, steps in ((16, 1), (4, 4)):
        written = recipe(task, "full", base, tmp_path / str(steps))
        training = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "max_steps": 1}
        model = {"path": str(base), "options": {**still, "attn_implementation": "eager", **NO_ATTENTION_DROPOUT[task]}}
        source = {**written["dataset"], "limit": {"train": 16, "validation": 4, "test": 4}}
        changes = {"training": {**written["training"], **training}, "model": model, "dataset": source}
        changes["preprocessor"] = {**written["preprocessor"], **rows}
        logs.append(finetune.train(**{**written, **changes, "untouched": False}).log[0])
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=TOLERANCE[task])


@pytest.mark.parametrize("strategy", ["frozen", "lora-all-linear"])
@pytest.mark.parametrize("family", [family for family in ENCODERS if family != "bert"])
def test_every_family_of_encoders_trains_and_reloads(family: str, strategy: str, bases: Any, tmp_path: Path) -> None:
    for task in ("text-classification", "question-answering"):
        train_and_reload(task, strategy, bases(family, ENCODERS[family]), tmp_path / task)
