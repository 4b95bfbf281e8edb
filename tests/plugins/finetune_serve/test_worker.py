"""The thread with the model: batches, failures of single rows, refusals, and the end."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from finetune.kit import EncodedRow
from finetune_serve.limits import Limits
from finetune_serve.metrics import Metrics
from finetune_serve.refusals import Refused
from finetune_serve.rows import Asked
from finetune_serve.worker import Worker


def encoded(text: str) -> EncodedRow:
    return EncodedRow(tokens=len(text), tokens_lost=0, made=text, position=0)  # type: ignore[arg-type]


@dataclass
class Model:
    """Predicts the length of a text; fails on `poison`."""

    calls: list[list[str]]
    gate: threading.Event

    def prepare(self) -> None:
        """Do nothing."""

    def encode(self, rows: list[str]) -> list[EncodedRow]:
        if "unreadable" in rows:
            raise RuntimeError("cannot encode")
        return [encoded(row) for row in rows]

    def predict(self, rows: list[EncodedRow]) -> list[dict[str, Any]]:
        self.gate.wait(5)
        texts = [str(row.made) for row in rows]
        self.calls.append(texts)
        if "poison" in texts:
            raise RuntimeError("secret text of a client")
        return [{"prediction": len(text)} for text in texts]


def asked(*rows: str) -> Asked:
    return Asked(rows=list(rows), is_single=False, highlights=False, characters=sum(map(len, rows)))


def worker_of(model: Model, **limits: Any) -> Worker:
    worker = Worker(model, Limits(**limits), Metrics())  # type: ignore[arg-type]
    worker.start()
    return worker


@pytest.fixture
def model() -> Model:
    gate = threading.Event()
    gate.set()
    return Model([], gate)


def test_rows_of_several_requests_are_predicted_together_shortest_first(model: Model) -> None:
    worker = worker_of(model, batch_tokens=24, wait_seconds=0.2)

    async def ask() -> Any:
        return await asyncio.gather(worker.answer(asked("a" * 9, "b")), worker.answer(asked("c" * 12, "d" * 8)))

    first, second = asyncio.run(ask())
    assert [each["prediction"] for each in (*first, *second)] == [9, 1, 12, 8]
    assert model.calls == [["b", "d" * 8], ["a" * 9, "c" * 12]]
    worker.stop()


def test_a_row_on_which_the_model_fails_fails_alone(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    worker = worker_of(model)
    found = asyncio.run(worker.answer(asked("one", "poison", "unreadable", "three")))
    assert [each.get("prediction") for each in found] == [3, None, None, 5]
    for failed in found[1:3]:
        assert failed["error"]["code"] == "prediction-failed" and "secret" not in failed["error"]["message"]
    assert "secret text" in caplog.text  # the log of the server says why
    worker.stop()


def test_a_request_beyond_the_limit_is_refused(model: Model) -> None:
    worker = worker_of(model, requests=2)
    model.gate.clear()

    async def ask() -> Any:
        running = [asyncio.ensure_future(worker.answer(asked("a"))) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(Refused) as refused:
            await worker.answer(asked("b"))
        model.gate.set()
        await asyncio.gather(*running)
        return refused.value, await worker.answer(asked("cc"))

    refused, after = asyncio.run(ask())
    assert refused.status == 429 and refused.headers == {"retry-after": "1"}
    assert after[0]["prediction"] == 2
    worker.stop()


def test_what_waits_is_answered_before_the_end(model: Model) -> None:
    worker = worker_of(model, batch_tokens=1)
    model.gate.clear()

    async def ask() -> Any:
        running = [asyncio.ensure_future(worker.answer(asked("a" * size))) for size in range(1, 6)]
        await asyncio.sleep(0.05)
        stopping = threading.Thread(target=worker.stop)
        stopping.start()
        model.gate.set()
        found = await asyncio.gather(*running)
        stopping.join()
        with pytest.raises(Refused) as refused:
            await worker.answer(asked("b"))
        return found, refused.value

    found, refused = asyncio.run(ask())
    assert [answer["prediction"] for (answer,) in found] == [1, 2, 3, 4, 5]
    assert refused.code == "stopping" and not worker.is_alive
