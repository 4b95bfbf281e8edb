"""Tiny runs, and applications that serve them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toy
from starlette.testclient import TestClient

import finetune
from finetune.api import FineTuned
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_serve.app import build
from finetune_serve.limits import Limits


def train(output: Path, **recipe: Any) -> Path:
    """Train for two steps, and return the run folder."""
    training = {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "save_strategy": "no"}
    finetune.train(
        output=output, strategy="full", training=training, score_base_model=False, general_text="none", **recipe
    )
    return output


@pytest.fixture(scope="session")
def notices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that tells sea from land; its data call the text `headline`."""
    folder = tmp_path_factory.mktemp("notices")
    rows = [{"headline": row["text"], "label": row["label"]} for row in toy.rows(24)]
    return train(
        folder / "run",
        task="text-classification",
        model=toy.base(folder / "base"),
        dataset={"train": rows, "validation": rows[:8]},
        columns={"headline": "text"},
        preprocessor={"max_length": 16},
    )


@pytest.fixture(scope="session")
def words(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that tags words."""
    dataset = {"path": "sample:harbour-entities", "options": {"size": 16}}
    return train(
        tmp_path_factory.mktemp("words") / "run",
        task="token-classification",
        model=tiny_bert,
        dataset=dataset,
        preprocessor={"max_length": 64},
    )


@pytest.fixture(scope="session")
def questions(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that answers questions, in short windows."""
    return train(
        tmp_path_factory.mktemp("questions") / "run",
        task="question-answering",
        model=tiny_bert,
        dataset={"path": "sample:harbour-qa", "options": {"size": 16}},
        preprocessor={"max_length": 64, "stride": 16},
    )


CHATS = [
    {"messages": [{"role": "user", "content": "Name a ship."}, {"role": "assistant", "content": "The Tern."}]},
    {"messages": [{"role": "user", "content": "Name a quay."}, {"role": "assistant", "content": "Coal Quay."}]},
]


@pytest.fixture(scope="session")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that answers in chats."""
    folder = tmp_path_factory.mktemp("chats")
    texts = [message["content"] for row in CHATS for message in row["messages"]]
    base = tiny_model("llama", tokenizer("llama", texts), folder / "base")
    return train(
        folder / "run",
        task="sft",
        model=base,
        dataset={"train": CHATS * 4, "validation": CHATS},
        preprocessor={"chat_template": "chatml"},
        generation={"max_new_tokens": 8},
    )


@pytest.fixture(scope="module")
def model(notices: Path) -> FineTuned:
    """Return the model that tells sea from land."""
    return finetune.load(notices)


@pytest.fixture(scope="module")
def client(model: FineTuned) -> Iterator[TestClient]:
    """Return a client of an application with that model and small limits."""
    limits = Limits(body_bytes=20_000, characters=2_000, rows=120, batch_tokens=512)
    with TestClient(build(model, limits)) as found:
        yield found
