"""The files of a container, and the commands of other engines."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from packaging.requirements import Requirement

from finetune.cli import main
from finetune_serve import container

_READ = {"capture_output": True, "text": True, "check": True}


def serve(*arguments: object, code: int = 0) -> Result:
    ended = CliRunner().invoke(main, ["serve", *map(str, arguments)])
    assert ended.exit_code == code, ended.output
    return ended


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, without comments, each on one line."""
    lines = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


@pytest.fixture
def run(tmp_path: Path, notices: Path) -> Path:
    """Return a run next to which files can be written."""
    return shutil.copytree(notices, tmp_path / "runs" / "My run")


def test_the_files_build_in_the_folder_that_holds_the_run(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deploy"
    shown = serve(run, "--dockerfile", folder, "--max-requests", 64)
    assert f"--file {folder / 'compose.yaml'}" in shown.output
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    (name, service), *others = compose["services"].items()
    assert not others and name == "my-run"
    context = folder / service["build"]["context"]
    assert context.resolve() == tmp_path and (context / service["build"]["dockerfile"]).samefile(folder / "Dockerfile")
    assert all(port.startswith("127.0.0.1:") for port in service["ports"]) and service["read_only"]

    steps = instructions((folder / "Dockerfile").read_text())
    names = [name for name, _ in steps]
    assert names[0] == "FROM" and "-slim" in steps[0][1]
    assert names.index("USER") < names.index("ENTRYPOINT") and dict(steps)["USER"] not in ("root", "0")
    for what, value in steps:
        if what == "COPY":
            source, _ = json.loads(value)
            assert (tmp_path / source).exists()
    entry = json.loads(dict(steps)["ENTRYPOINT"])
    assert entry == ["finetune", "serve", "/srv/model", "--host", "0.0.0.0", "--max-requests", "64"]
    assert "@" not in re.sub(r"(?m)^#.*\n", "", (folder / "Dockerfile").read_text())


def test_packages_have_the_versions_of_this_machine_and_the_extras_of_the_run(run: Path, chats: Path) -> None:
    import torch

    assert container.packages(run) == [f"finetune-kit[serve]=={version('finetune-kit')}"]
    assert container.packages(chats)[0].startswith("finetune-kit[llm,serve]==")
    lines = container.versions(run)
    assert f"torch=={torch.__version__.partition('+')[0]}" in lines
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)


def test_a_package_that_is_on_no_index_travels_as_a_wheel(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip installs what was written, and the command of the copy starts."""
    monkeypatch.setattr(container, "is_local_package", lambda package: package == "finetune-kit")
    serve(run, "--dockerfile", tmp_path / "deploy")
    (wheel,) = (tmp_path / "deploy" / "packages").iterdir()
    first = (tmp_path / "deploy" / "requirements.txt").read_text().splitlines()[0]
    needed = Requirement(first)  # as pip reads it
    assert (needed.name, needed.extras) == ("finetune-kit", {"serve"})
    assert needed.url == f"file:///srv/packages/{wheel.name}"
    there = tmp_path / "there"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(there),
        str(wheel),
    ]
    subprocess.run(pip, check=True)
    code = "import finetune, finetune_serve; from importlib.metadata import entry_points as e; "
    code += "print(finetune.__file__, finetune_serve.__file__, len(e(group='finetune')) > 10)"
    shown = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(there)}, cwd=there, **_READ
    )  # type: ignore[call-overload]
    assert shown.stdout.split() == [
        str(there / "finetune/__init__.py"),
        str(there / "finetune_serve/__init__.py"),
        "True",
    ]
    assert (there / "finetune_serve" / "dockerfile.txt").is_file()


def test_a_package_of_an_index_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "is_local_package", lambda package: False)
    serve(run, "--dockerfile", tmp_path / "deploy")
    assert not any((tmp_path / "deploy" / "packages").iterdir())
    assert (tmp_path / "deploy" / "requirements.txt").read_text().startswith("finetune-kit[serve]==")


def test_an_exported_model_is_served_with_its_runtime(tmp_path: Path) -> None:
    exported = tmp_path / "news"
    exported.mkdir()
    for name in ("export.json", "model.onnx"):
        (exported / name).write_text("{}")
    assert container.packages(exported)[0].startswith("finetune-kit[export,serve]==")
    assert any(line.startswith("onnxruntime==") for line in container.versions(exported))


def test_files_are_not_replaced(run: Path, tmp_path: Path) -> None:
    serve(run, "--dockerfile", tmp_path / "deploy")
    (tmp_path / "deploy" / "Dockerfile").write_text("mine")
    assert "exists. Name another folder" in serve(run, "--dockerfile", tmp_path / "deploy", code=2).output
    assert (tmp_path / "deploy" / "Dockerfile").read_text() == "mine"


def test_an_adapter_and_a_folder_without_weights_are_refused(run: Path, tmp_path: Path) -> None:
    (run / "adapter_config.json").write_text("{}")
    assert "finetune merge" in serve(run, "--dockerfile", tmp_path / "deploy", code=2).output
    (run / "adapter_config.json").unlink()
    (run / "model.safetensors").unlink()
    assert "no weights" in serve(run, "--dockerfile", tmp_path / "deploy", code=2).output
    assert not (tmp_path / "deploy").exists()


@pytest.mark.slow
def test_the_steps_of_the_dockerfile_serve_the_model(run: Path, tmp_path: Path) -> None:
    """Docker is not needed: the copies, the command and the health check are those of the files."""
    serve(run, "--dockerfile", tmp_path / "deploy")
    steps = instructions((tmp_path / "deploy" / "Dockerfile").read_text())
    root = tmp_path / "root"
    for what, value in steps:
        if what == "COPY":
            source, target = json.loads(value)
            copy = shutil.copytree if (tmp_path / source).is_dir() else shutil.copy
            (root / target[1:]).parent.mkdir(parents=True, exist_ok=True)
            copy(tmp_path / source, root / target[1:])
    shutil.rmtree(run)
    _, *words = json.loads(dict(steps)["ENTRYPOINT"])
    words = [str(root / word[1:]) if word.startswith("/srv") else word for word in words]
    check = json.loads(re.search(r"CMD (\[.*\])", dict(steps)["HEALTHCHECK"])[1])[2].replace(":8000", ":18765")  # type: ignore[index]
    process = subprocess.Popen([sys.executable, "-m", "finetune", *words, "--port", "18765"], cwd="/", env=os.environ)
    try:
        until = time.monotonic() + 120
        while subprocess.run([sys.executable, "-c", check], stderr=subprocess.DEVNULL).returncode:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.5)
        with urllib.request.urlopen("http://127.0.0.1:18765/info") as answer:
            assert json.load(answer)["task"] == "text-classification"
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_a_decoder_is_served_by_other_engines(chats: Path, tmp_path: Path) -> None:
    shown = serve(chats, "--with", "vllm", "--dry-run", "--port", 9000).output
    assert shown == f"vllm serve {chats} --served-model-name run --host 127.0.0.1 --port 9000\n"
    adapter = tmp_path / "tuned"
    adapter.mkdir()
    for name in ("result.json", "recipe.yaml"):
        shutil.copy(chats / name, adapter)
    (adapter / "adapter_config.json").write_text('{"task_type": "CAUSAL_LM"}')
    merge, start = serve(adapter, "--with", "transformers", "--dry-run").output.splitlines()
    assert merge == f"finetune merge {adapter} --output {adapter}-merged"
    assert start == f"transformers serve {adapter}-merged --host 127.0.0.1 --port 8000"


def test_other_engines_serve_no_classifier(notices: Path) -> None:
    refused = serve(notices, "--with", "vllm", "--dry-run", code=2).output
    assert "BertForSequenceClassification" in refused and "Leave --with out" in refused
    assert "--dry-run has an effect with --with only" in serve(notices, "--dry-run", code=2).output


def test_an_engine_that_is_not_installed_is_named(chats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    refused = serve(chats, "--with", "vllm", code=2).output
    assert refused.startswith("vllm serve") and "not installed here" in refused


def test_an_installed_engine_replaces_the_command(chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    called: list[Any] = []
    monkeypatch.setattr(os, "execv", lambda *arguments: called.append(arguments))
    serve(chats, "--with", "vllm")
    assert called[0][0] == str(program) and called[0][1][:3] == ["vllm", "serve", str(chats)]
