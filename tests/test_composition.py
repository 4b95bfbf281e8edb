"""Every task with every strategy: it trains, or it is refused before the first step with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import finetune
from finetune.interfaces import Task
from finetune.plugins import discover
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer

TASKS: dict[str, Task] = dict(discover().catalogues["tasks"].targets)
STRATEGIES: dict[str, Any] = {
    **{name: name for name in discover().catalogues["strategies"].targets},
    "lora-all-linear": {"name": "lora", "r": 4, "target_modules": "all-linear"},
}
FAMILIES = {"bert": "bert", "roberta": "roberta", "distilbert": "bert", "electra": "bert", "deberta": "deberta"}
"""Family of models → family of tokenizers."""


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write one tiny body of each family, without the head and, for BERT, without the pooler."""
    folder = tmp_path_factory.mktemp("bases")
    found = {}
    for family, words in FAMILIES.items():
        made = tokenizer(words, vocab_size=600)
        model_class = "AutoModelForMaskedLM" if family == "bert" else "AutoModel"
        found[family] = tiny_model(family, made, folder / family, model_class=model_class)
    return found


def recipe(task: str, strategy: str, base: Path, output: Path) -> dict[str, Any]:
    source = TASKS[task].starter["dataset"]
    return {
        "task": task,
        "model": str(base),
        "dataset": {**source, "limit": {"train": 64, "validation": 16, "test": 16}},
        "strategy": STRATEGIES[strategy],
        "preprocessor": {"max_length": 96, **({"stride": 24} if task == "question-answering" else {})},
        "training": {"max_steps": 10, "per_device_train_batch_size": 64, "learning_rate": 5e-3, "logging_steps": 1,
                     "save_strategy": "no", "eval_strategy": "no", "lr_scheduler_type": "constant"},
        "output": str(output),
    }  # fmt: skip


def train_and_reload(task: str, strategy: str, base: Path, output: Path) -> finetune.result.Result:  # type: ignore[name-defined]
    """Train; compare what a user loads with what the run recorded."""
    result = finetune.train(**recipe(task, strategy, base, output))
    losses = [entry["loss"] for entry in result.log if "loss" in entry]
    assert sum(losses[-3:]) < sum(losses[:3]), f"the loss did not fall: {losses}"
    assert finetune.evaluate(output) == pytest.approx(result.scores["test"], nan_ok=False)
    return result


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains_by_every_strategy(task: str, strategy: str, bases: dict[str, Path], tmp_path: Path) -> None:
    result = train_and_reload(task, strategy, bases["bert"], tmp_path / "run")
    assert (result.trainable_parameters == result.total_parameters) == (strategy == "full")
    assert result.born_random


@pytest.mark.parametrize("strategy", ["frozen", "lora-all-linear"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "bert"])
def test_every_family_of_encoders_trains_and_reloads(
    family: str, strategy: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    for task in ("text-classification", "question-answering"):
        train_and_reload(task, strategy, bases[family], tmp_path / task)
