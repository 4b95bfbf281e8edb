"""Commands on a run folder with pipes and devices in it, and on what is no run folder: one line, exit code 2."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import toy
from click.testing import CliRunner

import finetune
from finetune import folder
from finetune.cli import main
from finetune.errors import OutputExists

TRAINING = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}


@pytest.fixture(scope="module")
def trained(toy_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run with two checkpoints. Tests must not change it."""
    output = tmp_path_factory.mktemp("folders") / "run"
    finetune.train(**toy.recipe(toy_base, output, training=TRAINING, score_base_model=False, general_text="none"))
    return output


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "predict": lambda run: ["predict", run, "--text", "ship"],
    "evaluate": lambda run: ["evaluate", run],
    "report": lambda run: ["report", run],
    "compare": lambda run: ["compare", run, run],
    "card": lambda run: ["card", run],
    "push": lambda run: ["push", run, "me/model", "--check"],
    "merge": lambda run: ["merge", run, "--output", f"{run}-merged"],
    "clean": lambda run: ["clean", run, "--yes"],
}
"""Name of a command → its arguments for a run folder."""


@contextmanager
def ending_within(seconds: int) -> Iterator[None]:
    """Fail if the block waits, as it does when it opens a pipe."""

    def fail(*_: Any) -> None:
        raise AssertionError("the command waits")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refused(arguments: list[str]) -> str:
    """Call a command that must refuse; return its message of one line."""
    with ending_within(300):
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, (arguments, result.output, result.exception)
    assert "Traceback" not in result.output
    lines = [line for line in result.output.splitlines() if not line.startswith(("Usage:", "Try ")) and line.strip()]
    assert len(lines) == 1 and lines[0].lower().startswith("error: "), result.output
    return lines[0]


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # the name of a socket can have 100 characters
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)  # the file stays
    finally:
        os.chdir(before)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS = {pipe: "a pipe", unix_socket: "a socket", endless: "a device"}
FILES = (
    "result.json", "predictions.jsonl", "recipe.yaml", "log.jsonl", "report.html", "README.md", "model.safetensors",
    "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "adapter_config.json",
    "added_tokens.json", "chat_template.jinja", ".lock", "checkpoint-2/manifest.json",
    "checkpoint-2/trainer_state.json", "checkpoint-2/optimizer.pt",
    "checkpoint-1/manifest.json", "checkpoint-7/manifest.json", "test/nbest.json",
)  # fmt: skip


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_is_refused_by_each_command(name: str, make: Any, run: Path) -> None:
    path = run / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    make(path)
    for command, arguments in COMMANDS.items():
        message = refused(arguments(str(run)))
        if command == "clean" and name == "recipe.yaml":
            assert "is not a run folder" in message
        else:
            assert f"{name} is {KINDS[make]}, not a file. Remove it" in message
    if name == "recipe.yaml":
        for command in ("check", "train"):
            assert f"it is {KINDS[make]}, not a file" in refused([command, str(path)])
        return
    (run / "result.json").unlink(missing_ok=True)
    if name != "result.json":
        rows = run.parent / "rows.jsonl"  # those of the run were given in Python
        rows.write_text('{"text": "a ship", "label": "good"}\n')
        data = f"dataset.path={rows}"
        found = refused(["train", str(run / "recipe.yaml"), f"output={run}", data, "--resume", "--trust-code"])
        assert name in found and ("not a file" in found or "is a link" in found)


@pytest.mark.parametrize("name", [name for name in FILES if "/" not in name])
def test_a_folder_in_the_place_of_a_file_ends_in_no_traceback(name: str, run: Path) -> None:
    (run / name).unlink(missing_ok=True)
    (run / name).mkdir()
    (run / name / "file").touch()
    for command, arguments in COMMANDS.items():
        with ending_within(300):
            result = CliRunner().invoke(main, arguments(str(run)))
        assert result.exit_code in {0, 2, 6}, (command, result.output, result.exception)
        if result.exit_code:
            assert "Traceback" not in result.output, (command, result.output)


def a_file(place: Path) -> None:
    place.write_text("text")


def an_empty_folder(place: Path) -> None:
    place.mkdir()


def a_folder_of_something_else(place: Path) -> None:
    place.mkdir()
    (place / "notes.txt").write_text("text")


def nothing(place: Path) -> None:
    pass


@pytest.mark.parametrize("make", [a_file, an_empty_folder, a_folder_of_something_else, nothing])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_run_folder_is_refused(command: str, make: Any, tmp_path: Path) -> None:
    place = tmp_path / "place"
    make(place)
    before = sorted(tmp_path.rglob("*"))
    assert "place" in refused(COMMANDS[command](str(place)))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_the_result_of_a_later_version_is_refused(command: str, run: Path) -> None:
    path = run / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 999}))
    assert "format 999" in refused(COMMANDS[command](str(run)))
    assert (run / "checkpoint-2").is_dir()


def test_a_folder_in_which_a_run_trains_is_refused(run: Path, toy_base: Path) -> None:
    recipe = toy.recipe(toy_base, run, training=TRAINING, score_base_model=False, general_text="none")
    (run / "result.json").unlink()
    with folder.lock(run):
        assert "is writing into" in refused(["clean", str(run), "--yes"])
        assert "did not finish" in refused(["evaluate", str(run)])
        for flag in ("resume", "overwrite"):
            with pytest.raises(OutputExists, match="is writing into"):
                finetune.train(**recipe, **{flag: True})
    assert (run / "checkpoint-2").is_dir() and not (run / ".lock").exists()
