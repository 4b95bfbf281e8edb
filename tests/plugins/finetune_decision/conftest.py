"""Tiny runs of typed decisions, with a whole model and with an adapter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from decided import Rows, train

from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_samples.catalogue import load


@pytest.fixture(scope="session")
def rows() -> dict[str, Rows]:
    """Return the splits of a small sample."""
    return load("harbour-decisions", size=90)


@pytest.fixture(scope="session")
def words(rows: dict[str, Rows]) -> Any:
    """Return a tokenizer that has a token for every label."""
    texts = [" ".join(str(value) for value in row.values()) for row in rows["train"]]
    return tokenizer("gpt2", [*texts, *["Yes", "No"] * 200], vocab_size=700)


@pytest.fixture(scope="session")
def base(words: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny model without a chat template."""
    folder = tmp_path_factory.mktemp("decision") / "base"
    return tiny_model("llama", words, folder, model_class="AutoModelForCausalLM", max_position_embeddings=512)


@pytest.fixture(scope="session")
def full(base: Path, rows: dict[str, Rows], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that trained all parameters."""
    return train(base, tmp_path_factory.mktemp("full") / "run", rows)


@pytest.fixture(scope="session")
def lora(base: Path, rows: dict[str, Rows], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that trained an adapter."""
    return train(base, tmp_path_factory.mktemp("lora") / "run", rows, strategy="lora")
