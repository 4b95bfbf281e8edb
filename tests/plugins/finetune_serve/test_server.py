"""A real server: its answers, what it does with slow clients, and how it ends."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import toy
from served import Served, predicted, record, same, serving

from finetune.errors import BadOptions
from finetune_serve import server


def texts(size: int) -> list[dict[str, Any]]:
    """Return rows of very different lengths."""
    return [{"headline": " ".join([row["text"]] * (1 + place % 5))} for place, row in enumerate(toy.rows(size, seed=9))]


def ask_all(served: Served, rows: list[dict[str, Any]], *, at_once: int) -> list[dict[str, Any]]:
    """Ask for each row alone or in small groups, from several threads."""
    groups = [rows[start : start + 1 + start % 4] for start in range(0, len(rows), 4)]
    rest = [rows[start + len(group) : start + 4] for start, group in zip(range(0, len(rows), 4), groups, strict=True)]
    parts = [part for pair in zip(groups, rest, strict=True) for part in pair if part]

    def ask(part: list[dict[str, Any]]) -> list[dict[str, Any]]:
        status, content = served.ask("/predict", {"rows": part})
        assert status == 200, content
        found: list[dict[str, Any]] = content["rows"]
        return found

    with ThreadPoolExecutor(at_once) as pool:
        return [answer for answers in pool.map(ask, parts) for answer in answers]


def check_rows(run: Path, size: int, folder: Path) -> None:
    rows = texts(size)
    expected = predicted(run, rows, folder)
    with serving(run) as served:
        found = ask_all(served, rows, at_once=8)
        assert served.stop() == 0
    wrong = [
        number for number, pair in enumerate(zip(found, expected, strict=True)) if not same(record(pair[0]), pair[1])
    ]
    assert not wrong


@pytest.mark.slow
def test_a_server_answers_1000_rows_as_predict_does(notices: Path, tmp_path: Path) -> None:
    check_rows(notices, 1000, tmp_path)


def test_a_server_answers_finishes_and_ends(notices: Path, tmp_path: Path) -> None:
    """One process for several claims, because each start takes seconds."""
    rows = texts(100)
    expected = predicted(notices, rows, tmp_path)
    with serving(notices, "--max-body-mb", "0.1") as served:
        found = ask_all(served, rows, at_once=8)
        assert all(same(record(answer), each) for answer, each in zip(found, expected, strict=True))

        status, info = served.ask("/info")
        assert status == 200 and info["task"] == "text-classification" and info["labels"] == ["land", "sea"]
        assert info["columns"][0] == {
            "name": "text", "kind": "text", "what": "a text", "required": True, "also": "headline"
        }  # fmt: skip
        assert len(info["fingerprint"]) == 64 and info["versions"]["transformers"]

        started = time.perf_counter()
        connection = served.connect()
        connection.request("POST", "/predict", b"x" * 20_000_000)
        assert connection.getresponse().status == 413 and time.perf_counter() - started < 5

        slow = socket.create_connection(("127.0.0.1", served.port))
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert served.ask("/predict", rows[0])[0] == 200  # while a slow client holds a connection
        slow.close()

        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(served.ask("/predict", {"rows": rows})))
        asking.start()
        time.sleep(0.1)
        assert served.stop() == 0
        asking.join()
        assert answers[0][0] == 200 and len(answers[0][1]["rows"]) == len(rows)


def test_a_port_in_use_is_refused_before_a_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadOptions, match=f"--port {port} on 127.0.0.1: Address already in use. Choose another"):
            server.listen("127.0.0.1", port)
    with pytest.raises(BadOptions, match=r"--host no.such.host.invalid"):
        server.listen("no.such.host.invalid", 0)


def test_a_head_that_comes_too_slowly_ends_the_connection() -> None:
    import asyncio

    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def run() -> tuple[bytes, bytes]:
        listener = server.listen("127.0.0.1", 0)
        config = uvicorn.Config(app, http=server.protocol(0.3), ws="none", lifespan="off", log_config=None)
        running = uvicorn.Server(config)
        serving = asyncio.create_task(running._serve(sockets=[listener]))
        await asyncio.sleep(0.1)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        good = await reader.readline()
        writer.close()
        await writer.wait_closed()
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])
        for _ in range(3):
            writer.write(b"GET")  # each piece is in time, the whole is not
            await asyncio.sleep(0.05)
        slow = await asyncio.wait_for(reader.read(), 2)
        writer.close()
        await writer.wait_closed()
        running.should_exit = True
        await serving
        return good, slow

    good, slow = asyncio.run(run())
    assert good.startswith(b"HTTP/1.1 204") and slow == b""


def test_the_help_and_the_plugin_load_no_server() -> None:
    program = (
        "import sys, finetune_serve, finetune_serve.command\n"
        "from click.testing import CliRunner\nfrom finetune.cli import main\n"
        "done = CliRunner().invoke(main, ['serve', '--help'])\n"
        "assert done.exit_code == 0 and '--port' in done.output, done.output\n"
        "heavy = {'fastapi', 'starlette', 'uvicorn', 'prometheus_client', 'torch', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_api_is_described(client: Any) -> None:
    found = client.get("/openapi.json").json()
    schema = found["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    many, row = schema["anyOf"]
    assert row["properties"]["text"]["type"] == "string" and many["properties"]["rows"]["items"] == row
    assert json.dumps(found).count("http") < 40
