"""`/v1/systemone`: the answers of `transformers serve` for the same model, and the limits of our server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from decided import request_of
from starlette.testclient import TestClient

import finetune
from finetune_serve.app import build
from finetune_serve.limits import Limits

PATH = "/v1/systemone"
REQUEST: dict[str, Any] = {
    "state": {"message": "Wanted: slates <|mark|> é", "paid": [1, 2.5, None, True]},
    "questions": {
        "desk": {"type": "choice", "instructions": "Which desk?", "criteria": {"market": "Goods", "x": None}},
        "kind": {"type": "choice", "criteria": {"a": {"b": [1]}, "c": ["d"], "e": "f"}},
        "alone": {"type": "choice", "criteria": {"only": None}},
        "day": {"type": "noul", "instructions": "Is a day named?"},
        "night": {"type": "noul", "instructions": {"q": "Night?"}, "criteria": {"true": "It is dark"}},
        "mood": {"type": "score", "instructions": ["How", "content?"], "criteria": ["bad", "fair", {"very": "good"}]},
    },
}


@pytest.fixture(scope="module")
def client(full: Path) -> Iterator[TestClient]:
    with TestClient(build(finetune.load(full), Limits(body_bytes=20_000, characters=2_000))) as found:
        yield found


@pytest.fixture(scope="module")
def theirs(full: Path) -> TestClient:
    """Return a client of the application that `transformers serve` runs, with the path alone."""
    pytest.importorskip("openai", reason="transformers' server cannot be imported without it")
    from transformers.cli.serving import server
    from transformers.cli.serving.model_manager import ModelManager
    from transformers.cli.serving.systemone import SystemOneHandler
    from transformers.cli.serving.utils import GenerationState

    manager, state = ModelManager(device="cpu", force_model=str(full)), GenerationState()
    handlers: Any = [None] * 4
    return TestClient(server.build_server(manager, *handlers, SystemOneHandler(manager, state), state))


def same(ours: Any, theirs: Any, place: str = "") -> None:
    """Check that two values of JSON are equal, field by field; numbers to 1e-5."""
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs), place  # in the same order
        for name, value in theirs.items():
            same(ours[name], value, f"{place}/{name}")
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, abs=1e-5), place
    else:
        assert ours == theirs and type(ours) is type(theirs), place


def test_answers_are_those_of_transformers_serve(client: TestClient, theirs: TestClient, full: Path, rows: Any) -> None:
    for asked in [REQUEST, *map(request_of, rows["test"][:6])]:
        request = {**asked, "model": str(full)}  # it serves no other
        expected = theirs.post(PATH, json=request)
        found = client.post(PATH, json=request)
        assert (found.status_code, expected.status_code) == (200, 200), found.text
        same(found.json(), expected.json())
    assert found.json()["usage"]["input_tokens"] > 50


BAD: list[Any] = [
    [],
    {},
    {"state": "Fog."},
    {"state": 5, "questions": REQUEST["questions"]},
    {"state": "Fog.", "questions": {}},
    {"state": "Fog.", "questions": {"a": {"type": "bool"}}},
    {"state": "Fog.", "questions": {"a": {"type": "choice"}}},
    {"state": "Fog.", "questions": {"a": {"type": "choice", "criteria": {}}}},
    {"state": "Fog.", "questions": {"a": {"type": "noul", "criteria": {"yes": "x"}}}},
    {"state": "Fog.", "questions": {"a": {"type": "noul", "temperature": 2}}},
    {"state": "Fog.", "questions": {"a": "noul"}},
    {"state": "Fog.", "questions": {str(number): {"type": "noul"} for number in range(65)}},
    {"state": "Fog.", "questions": {"a": {"type": "score", "criteria": ["x"] * 27}}},
    {"state": "Fog.", "question": {"a": {"type": "noul"}}},
    {"state": "Fog.", "questions": {"a": {"type": "noul"}}, "stream": True},
    {"state": "Fog.", "questions": {"a": {"type": "noul"}}, "model": 5},
]


@pytest.mark.parametrize("body", BAD)
def test_what_transformers_serve_refuses_is_refused(
    body: Any, client: TestClient, theirs: TestClient, full: Path
) -> None:
    sent = {"model": str(full), **body} if isinstance(body, dict) else body
    assert theirs.post(PATH, json=sent).status_code == 422
    answer = client.post(PATH, json=body)
    assert answer.status_code == 422 and answer.json()["error"]["code"] == "bad-request"
    assert len(answer.json()["error"]["message"]) > 10


def test_answers_are_those_of_predict(client: TestClient, full: Path, rows: Any) -> None:
    model = finetune.load(full)
    for row in rows["test"][:3]:
        (record,) = model.predict([{**row, "answer": None}])
        answer = client.post(PATH, json=request_of(row)).json()
        assert answer["model"] == full.name
        (found,) = answer["answers"].values()
        listed = found.get("probabilities") or {"true": found["noul"], "false": 1 - found["noul"]}
        assert listed == pytest.approx(record["probabilities"], abs=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"state": "x" * 3_000, "questions": {"a": {"type": "noul"}}}, 413, "text-too-long"),
        ({"state": "x" * 30_000, "questions": {"a": {"type": "noul"}}}, 413, "body-too-large"),
        ({"state": "é x " * 400, "questions": {"a": {"type": "noul"}}}, 422, "prompt-too-long"),
        ({"state": " ", "questions": {"a": {"type": "noul"}}}, 422, "state-empty"),
        ({"state": "Fog.", "questions": {"a": {"type": "noul"}}, "assets": {"img": {}}}, 422, "bad-request"),
    ],
)
def test_the_limits_of_the_server_hold(body: Any, status: int, code: str, client: TestClient) -> None:
    answer = client.post(PATH, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_broken_json_and_deep_json_are_refused(client: TestClient) -> None:
    deep = '{"state": ' + "[" * 60 + "]" * 60 + ', "questions": {"a": {"type": "noul"}}}'
    for body in ("{", "\xff", deep, '{"state": NaN}'):
        answer = client.post(PATH, content=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad-json")


def test_the_path_is_counted_listed_and_described(client: TestClient) -> None:
    client.post(PATH, json={"state": "Fog.", "questions": {"a": {"type": "noul"}}})
    assert f'finetune_requests_total{{method="POST",path="{PATH}",status="200"}}' in client.get("/metrics").text
    info = client.get("/info").json()
    assert info["apis"] == [PATH] and info["chats"] is False
    described = client.get("/openapi.json").json()["paths"][PATH]["post"]
    assert described["requestBody"]["content"]["application/json"]["schema"]["required"] == ["state", "questions"]
