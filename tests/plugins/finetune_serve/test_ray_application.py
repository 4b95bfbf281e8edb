"""The application file for Ray Serve: its text, what it builds, and that Ray serves it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

import finetune
from finetune_serve.app import application
from finetune_serve.command import command

ROWS = [{"text": "the ship the wave"}, {"text": "the hill the field"}]


def write(run: Path, file: Path, *options: str) -> str:
    """Return what the command prints, or why it refuses."""
    done = CliRunner().invoke(command, [str(run), "--ray", str(file), *options])
    assert done.exit_code == 0 or isinstance(done.exception, finetune.errors.FinetuneError), done.output
    return done.output or str(done.exception)


class Recorded(ModuleType):
    """Stands for `ray.serve`, which is not installed in tests; keeps what the file gives to it."""

    def __init__(self) -> None:
        super().__init__("ray.serve")
        self.options: dict[str, Any] = {}
        self.build: Any = None

    def deployment(self, **options: Any) -> Any:
        self.options = options
        return lambda cls: type(cls.__name__, (cls,), {"bind": classmethod(lambda cls: cls)})

    def ingress(self, build: Any) -> Any:
        self.build = build
        return lambda cls: cls


def test_the_file_builds_the_application_of_the_run(
    notices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "application.py"
    assert write(notices, file, "--max-requests", "3") == (
        f"Wrote {file}.\ncd {tmp_path} && serve run application:app\n"
    )
    ray, recorded = ModuleType("ray"), Recorded()
    ray.serve = recorded  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.serve", recorded)
    spec = importlib.util.spec_from_file_location("application", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert recorded.options["max_ongoing_requests"] == 6
    with TestClient(recorded.build()) as client:
        served = client.post("/predict", json={"rows": ROWS}).json()["rows"]
        assert client.get("/info").json()["limits"]["requests"] == 3
    assert [each["prediction"] for each in served] == [
        each["prediction"] for each in finetune.load(notices).predict(ROWS)
    ]


def test_what_opens_a_model_and_how_it_answers_is_in_the_file(notices: Path, tmp_path: Path) -> None:
    file = tmp_path / "application.py"
    write(notices, file, "--task", "text-classification", "--abstain-below", "0.8", "columns.review=text")
    text = file.read_text(encoding="utf-8")
    assert "answering={'abstain_below': 0.8}" in text
    assert "task='text-classification', columns={'review': 'text'}" in text
    with TestClient(application(notices, answering={"abstain_below": 0.9999})) as client:
        assert client.post("/predict", json=ROWS[0]).json()["abstained"] is True


def test_a_file_is_not_replaced_and_has_a_name_that_python_imports(notices: Path, tmp_path: Path) -> None:
    file = tmp_path / "application.py"
    file.write_text("")
    assert "exists" in write(notices, file)
    assert "Python can import" in write(notices, tmp_path / "my-app.py")
    assert "does not exist" in write(notices, tmp_path / "none" / "application.py")


def test_any_server_can_load_the_application(notices: Path) -> None:
    with TestClient(application(notices, limits={"rows": 1})) as client:
        assert client.post("/predict", json={"rows": ROWS}).status_code == 413


@pytest.mark.slow
def test_ray_serves_the_answers_of_predict(notices: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.serve", reason="needs ray[serve]")
    write(notices, tmp_path / "application.py")
    program = (
        "import ray, sys, application\nfrom ray import serve\n"
        "ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200 << 20)\n"
        "serve.start(http_options={'port': 8765})\nserve.run(application.app)\nprint('ready', flush=True)\n"
        "sys.stdin.read()\nserve.shutdown()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        ends = time.monotonic() + 300
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None and time.monotonic() < ends
        body = json.dumps({"rows": ROWS}).encode()
        with urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8765/predict", body)) as answer:
            served = json.load(answer)["rows"]
        process.stdin.close()
    assert [each["prediction"] for each in served] == [
        each["prediction"] for each in finetune.load(notices).predict(ROWS)
    ]
