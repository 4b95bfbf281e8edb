"""Chats in OpenAI's form: the answers of `predict`, in one piece or in many, and what is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

import finetune
from finetune.api import FineTuned
from finetune_serve.app import build
from finetune_serve.chat import chat_of
from finetune_serve.limits import Limits
from finetune_serve.refusals import Refused
from finetune_serve.writing import Text, Writer

ASKED = [{"role": "user", "content": "Name a ship."}]
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def decoder(chats: Path) -> FineTuned:
    return finetune.load(chats)


@pytest.fixture(scope="module")
def client(decoder: FineTuned) -> Iterator[TestClient]:
    with TestClient(build(decoder, Limits(characters=2_000))) as found:
        yield found


def pieces(client: TestClient, **content: Any) -> list[dict[str, Any]]:
    """Return the events of a stream."""
    answer = client.post(PATH, json={"messages": ASKED, "stream": True, **content})
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_chat_gets_the_text_that_predict_gives(client: TestClient, decoder: FineTuned) -> None:
    answer = client.post(PATH, json={"messages": ASKED, "temperature": 0}).json()
    (choice,) = answer["choices"]
    served = client.post("/predict", json={"messages": ASKED}).json()
    assert choice["message"] == {"role": "assistant", "content": served["prediction"]}
    assert served["prediction"] == decoder.predict(messages=ASKED)["prediction"] != ""
    assert choice["finish_reason"] == ("stop" if served["stopped"] else "length")
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] <= 8  # the run's own limit
    assert client.post(PATH, json={"messages": ASKED}).json()["choices"] == answer["choices"]


def test_a_stream_holds_the_same_text_in_pieces(client: TestClient) -> None:
    whole = client.post(PATH, json={"messages": ASKED}).json()
    events = pieces(client, stream_options={"include_usage": True})
    deltas = [event["choices"][0]["delta"].get("content", "") for event in events if event["choices"]]
    assert "".join(deltas) == whole["choices"][0]["message"]["content"]
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert events[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert events[-1]["usage"] == whole["usage"] and len(deltas) > 3
    assert len({event["id"] for event in events}) == 1


def test_a_stop_text_and_a_limit_end_an_answer(client: TestClient) -> None:
    whole = client.post(PATH, json={"messages": ASKED}).json()["choices"][0]["message"]["content"]
    stop = whole[len(whole) // 2 :][:2]
    cut = client.post(PATH, json={"messages": ASKED, "stop": [stop]}).json()["choices"][0]
    assert cut["message"]["content"] == whole[: whole.find(stop)].rstrip() and cut["finish_reason"] == "stop"
    short = client.post(PATH, json={"messages": ASKED, "max_tokens": 2}).json()
    assert short["usage"]["completion_tokens"] == 2 and short["choices"][0]["finish_reason"] == "length"
    assert whole.startswith(short["choices"][0]["message"]["content"])


def test_a_seed_repeats_what_is_sampled(client: TestClient) -> None:
    def text(seed: int | None) -> str:
        content = {"messages": ASKED, "temperature": 2, "top_p": 1, "seed": seed}
        answer: str = client.post(PATH, json=content).json()["choices"][0]["message"]["content"]
        return answer

    assert text(1) == text(1) and len({text(None) for _ in range(4)} | {text(1), text(2)}) > 2
    narrow = client.post(PATH, json={"messages": ASKED, "temperature": 1, "top_p": 0, "seed": 5}).json()
    greedy = client.post(PATH, json={"messages": ASKED, "temperature": 0}).json()
    assert narrow["choices"] == greedy["choices"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Name a ship."}, "messages"),
        ({"messages": [{"role": "captain", "content": "a"}]}, "messages[0].role"),
        ({"messages": [*ASKED, {"role": "user", "content": None}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": ASKED, "temperature": 3}, "temperature"),
        ({"messages": ASKED, "temperature": "hot"}, "temperature"),
        ({"messages": ASKED, "max_tokens": 0}, "max_tokens"),
        ({"messages": ASKED, "max_tokens": True}, "max_tokens"),
        ({"messages": ASKED, "top_p": -1}, "top_p"),
        ({"messages": ASKED, "stop": [""]}, "stop"),
        ({"messages": ASKED, "stop": 5}, "stop"),
        ({"messages": ASKED, "stream": "yes"}, "stream"),
        ({"messages": ASKED, "n": 2}, "n"),
        ({"messages": ASKED, "tools": [{}]}, "tools"),
        ({"messages": ASKED, "temprature": 0.5}, "temprature"),
    ],
)
def test_a_parameter_that_cannot_be_followed_is_refused_by_its_name(
    client: TestClient, content: dict[str, Any], named: str
) -> None:
    answer = client.post(PATH, json=content)
    problem = answer.json()["error"]
    assert answer.status_code == 422 and problem["code"] == "bad-parameter"
    assert problem["message"].startswith(f"{named} "), problem
    assert named != "temprature" or "Did you mean 'temperature'?" in problem["fix"]


def test_parameters_of_clients_that_change_nothing_are_taken() -> None:
    given = {"messages": ASKED, "model": "any", "n": 1, "frequency_penalty": 0, "tools": [], "user": "u"}
    assert chat_of(given, Limits()).options == {}
    parts = [{"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert chat_of({"messages": parts}, Limits()).messages == [{"role": "system", "content": "ab"}]


def test_messages_that_are_too_long_are_refused(client: TestClient, decoder: FineTuned) -> None:
    long = [{"role": "user", "content": "a" * 2001}]
    answer = client.post(PATH, json={"messages": long})
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "text-too-long"
    positions = decoder.model.config.max_position_embeddings
    many = [{"role": "user", "content": "x " * positions}]
    with pytest.raises(Refused, match="the model reads"):
        Writer(decoder).write(chat_of({"messages": many}, Limits()), lambda _: None, threading.Event())


def test_an_answer_ends_when_the_client_is_gone(decoder: FineTuned) -> None:
    cancelled = threading.Event()
    chat = chat_of({"messages": ASKED, "max_tokens": 50, "temperature": 2, "seed": 1}, Limits())
    got: list[str] = []

    def emit(piece: str) -> None:
        got.append(piece)
        cancelled.set()

    assert Writer(decoder).write(chat, emit, cancelled).completion_tokens < 50


def test_only_a_decoder_with_a_template_chats(client: TestClient, notices: Path) -> None:
    assert client.get("/info").json()["chats"] is True
    assert client.get("/v1/models").json()["data"][0]["object"] == "model"
    with TestClient(build(finetune.load(notices), Limits())) as other:
        assert other.get("/info").json()["chats"] is False
        assert other.post(PATH, json={"messages": ASKED}).status_code == 404


@given(st.lists(st.text("ab \n", min_size=1, max_size=3), max_size=8), st.lists(st.text("ab ", min_size=1, max_size=3)))
def test_pieces_are_the_whole_text_up_to_the_first_stop(tokens: list[str], stop: list[str]) -> None:
    """Each token is a piece of text; no piece is taken back, and no part of a stop text is sent."""
    text = Text(lambda ids: "".join(tokens[place] for place in ids), stop)
    got = "".join(text.add([place]) for place in range(len(tokens))) + text.end()
    whole = "".join(tokens).lstrip()
    ends = [place for place in (whole.find(each) for each in stop) if place >= 0]
    expected = whole[: min(ends)].rstrip() if ends else whole.rstrip()
    assert got == text.sent == expected


def test_a_character_of_several_tokens_is_sent_as_a_whole() -> None:
    content = "Zoë ⚓".encode()
    text = Text(lambda ids: bytes(content[place] for place in ids).decode(errors="replace"))
    sent = [text.add([place]) for place in range(len(content))]
    assert "".join(sent) + text.end() == "Zoë ⚓" and not any("\ufffd" in piece for piece in sent)
