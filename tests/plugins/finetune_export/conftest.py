"""A tiny run that tells sea from land, and its exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import toy

import finetune
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_export import speed
from finetune_export.exporting import export


@pytest.fixture(autouse=True, scope="session")
def _few_calls() -> Any:
    """Time few batches: the tests need no exact times."""
    before, speed.CALLS = speed.CALLS, 3
    yield
    speed.CALLS = before


def _lines(path: Path, rows: Any) -> str:
    """Write rows as JSON lines, and return the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def _train(folder: Path, *, strategy: Any = "full", **recipe: Any) -> Path:
    """Train for a few steps, and return the run folder."""
    training = {"max_steps": 40, "per_device_train_batch_size": 8, "learning_rate": 3e-3, "save_strategy": "no"}
    finetune.train(
        output=folder / "run", strategy=strategy, training=training, score_base_model=False, general_text="none",
        **recipe,
    )  # fmt: skip
    return folder / "run"


def _classification(folder: Path, **changes: Any) -> Path:
    """Return a run that tells sea from land, with a model of one layer."""
    words = tokenizer("bert", [row["text"] for row in toy.rows(50)], vocab_size=200)
    base = tiny_model("bert", words, folder / "base", model_class="AutoModelForMaskedLM", num_hidden_layers=1)
    path = {
        "train": _lines(folder / "train.jsonl", toy.rows(64)),
        "test": _lines(folder / "test.jsonl", toy.rows(30, seed=2)),
    }
    return _train(
        folder,
        task="text-classification",
        model=base,
        dataset={"path": path, "validation_size": 0},
        preprocessor={"max_length": 16},
        **changes,
    )


@pytest.fixture
def lines() -> Any:
    """Return what writes rows as JSON lines."""
    return _lines


@pytest.fixture
def train() -> Any:
    """Return what trains for a few steps."""
    return _train


@pytest.fixture
def classification() -> Any:
    """Return what trains a model that tells sea from land."""
    return _classification


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run. Tests must not change it."""
    return _classification(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def onnx(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run as ONNX. Tests must not change it."""
    folder = tmp_path_factory.mktemp("onnx") / "exported"
    export(run, folder, format="onnx")
    return folder
