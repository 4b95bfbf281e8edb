"""OpenAI's own client talks to the server: answers, streams, refusals and the list of models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

import finetune
from finetune_serve.app import build
from finetune_serve.limits import Limits

MESSAGES: list[Any] = [{"role": "user", "content": "Name a ship."}]


@pytest.fixture(scope="module")
def client(chats: Path) -> Iterator[openai.OpenAI]:
    with TestClient(build(finetune.load(chats), Limits())) as transport:
        yield openai.OpenAI(base_url="http://testserver/v1", api_key="none", http_client=transport, max_retries=0)


def test_an_answer_is_that_of_predict_and_a_stream_is_its_pieces(client: openai.OpenAI, chats: Path) -> None:
    model = client.models.list().data[0].id
    whole = client.chat.completions.create(model=model, messages=MESSAGES, temperature=0)
    text = whole.choices[0].message.content
    assert text is not None
    assert text.strip() == finetune.load(chats).predict({"messages": MESSAGES})["prediction"].strip()
    assert whole.usage is not None and whole.usage.completion_tokens > 0
    stream = client.chat.completions.create(model=model, messages=MESSAGES, temperature=0, stream=True)
    pieces = [piece.choices[0].delta.content or "" for piece in stream if piece.choices]
    assert len(pieces) > 1 and "".join(pieces) == text


def test_a_refusal_is_an_error_of_the_client(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="tools"):
        client.chat.completions.create(
            model="", messages=MESSAGES, tools=[{"type": "function", "function": {"name": "look", "parameters": {}}}]
        )
