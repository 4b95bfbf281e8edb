"""What the server refuses, before anything is tokenized."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from finetune_serve import refusals
from finetune_serve.body import ReadBody
from finetune_serve.limits import Limits
from finetune_serve.refusals import CODES, Refused

LONG = json.dumps({"text": "a" * 30_000}).encode()
NESTED = ("[" * 100_000 + "]" * 100_000).encode()[:19_000]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"rows":', "bad-json"),
        (b"", "bad-json"),
        (b"\xff\xfe", "bad-json"),
        (b'{"text": NaN}', "bad-json"),
        (NESTED, "bad-json"),
        (json.dumps({"text": json.loads("[" * 40 + "]" * 40)}).encode(), "bad-json"),
        (b"[]", "not-an-object"),
        (b'"a ship"', "not-an-object"),
        (b"null", "not-an-object"),
        (b"{}", "no-rows"),
        (b'{"rows": []}', "no-rows"),
        (json.dumps({"rows": ["a"] * 121}).encode(), "too-many-rows"),
        (json.dumps({"text": "a" * 2001}).encode(), "text-too-long"),
        (json.dumps({"text": "a", "other": {"deep": ["a" * 2001]}}).encode(), "text-too-long"),
        (LONG, "body-too-large"),
    ],
)
def test_a_bad_body_is_refused_with_a_code(client: TestClient, body: bytes, code: str) -> None:
    answer = client.post("/predict", content=body)
    problem = answer.json()["error"]
    assert (answer.status_code, problem["code"]) == (CODES[code][0], code)
    assert problem["message"].endswith(".") and problem["fix"].endswith((".", "}"))
    assert f'finetune_requests_refused_total{{code="{code}"}}' in client.get("/metrics").text


def test_a_body_of_unknown_length_is_refused_when_it_is_too_large(client: TestClient) -> None:
    def pieces() -> Any:
        for start in range(0, len(LONG), 1000):
            yield LONG[start : start + 1000]

    answer = client.post("/predict", content=pieces())
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "body-too-large"


def read(messages: list[dict[str, Any]], *, limits: Limits, headers: list[tuple[bytes, bytes]] | None = None) -> Any:
    """Return what the application gets of a request, and what the client gets."""
    got: list[Any] = []
    sent: list[dict[str, Any]] = []
    refused: list[Refused] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.append((await receive())["body"])

    async def receive() -> Any:
        if not messages:
            await asyncio.sleep(5)
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "headers": headers or []}
    asyncio.run(ReadBody(app, limits, refused.append)(scope, receive, send))
    return got, sent, refused


def test_the_application_gets_the_body_in_one_piece() -> None:
    pieces = [{"type": "http.request", "body": part, "more_body": more} for part, more in ((b"a", True), (b"b", False))]
    assert read(pieces, limits=Limits())[0] == [b"ab"]


def test_a_slow_body_is_refused() -> None:
    messages = [{"type": "http.request", "body": b"a", "more_body": True}]
    got, sent, refused = read(messages, limits=Limits(read_seconds=0.05))
    assert not got and sent[0]["status"] == 408 and refused[0].code == "slow-body"


def test_a_body_that_is_announced_as_too_large_is_refused_before_it_comes() -> None:
    got, sent, refused = read([], limits=Limits(read_seconds=0.05), headers=[(b"content-length", b"99999999")])
    assert not got and sent[0]["status"] == 413 and refused[0].code == "body-too-large"
    assert json.loads(sent[1]["body"])["error"]["code"] == "body-too-large"
    _, sent, _ = read([], limits=Limits(), headers=[(b"content-length", b"many")])
    assert sent[0]["status"] == 400


def test_a_client_that_goes_away_is_no_request() -> None:
    assert read([{"type": "http.disconnect"}], limits=Limits()) == ([], [], [])


def test_every_code_is_on_the_page() -> None:
    page = (Path(refusals.__file__).parents[2] / "docs" / "how-to" / "serve-a-model.md").read_text(encoding="utf-8")
    for code, (status, _) in CODES.items():
        assert f"| `{code}` | {status} |" in page
