"""A server in a process of its own, a client that needs no library, and what its answers must be."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import finetune
from finetune.prediction.blocks import without_row


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    process: subprocess.Popen[str]
    port: int

    def connect(self, timeout: float = 60) -> http.client.HTTPConnection:
        """Return a new connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, path: str, content: Any = None) -> tuple[int, Any]:
        """Return the status and the content of an answer; a request without content is a GET."""
        connection = self.connect()
        body = None if content is None else json.dumps(content)
        connection.request("GET" if content is None else "POST", path, body)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        with suppress(ValueError):
            return answer.status, json.loads(text)
        return answer.status, text

    def stop(self) -> int:
        """Send SIGTERM, and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def serving(run: Path, *options: str) -> Iterator[Served]:
    """Serve a run in a process of its own, on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "finetune", "serve", str(run), "--port", "0", *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        port = 0
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                port = int(found[1])
                break
        assert port, f"the server ended with {process.wait()}"
        served = Served(process, port)
        until = time.monotonic() + 60
        while served.ask("/health")[0] != 200 and time.monotonic() < until:
            time.sleep(0.1)
        yield served
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def same(served: Any, predicted: Any) -> bool:
    """Return whether values are equal; numbers of a model that reads other batches differ in their last digits."""
    if isinstance(predicted, dict):
        return served.keys() == predicted.keys() and all(same(served[key], predicted[key]) for key in predicted)
    if isinstance(predicted, list):
        return len(served) == len(predicted) and all(map(same, served, predicted))
    if isinstance(predicted, float):
        return bool(served == pytest.approx(predicted, rel=1e-4, abs=1e-5))
    return bool(served == predicted)


def record(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer without what the server adds."""
    return {key: value for key, value in answer.items() if key != "tokens_lost"}


def predicted(run: Path, rows: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Return what `finetune predict` writes for a file with these rows."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    finetune.predict(run, file, folder / "predicted.jsonl")
    return [without_row(json.loads(line)) for line in (folder / "predicted.jsonl").read_text().splitlines()]
