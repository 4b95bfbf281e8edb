"""What a program needs to use finetune is on one page, and each task of that page works."""

from __future__ import annotations

import importlib.util
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import finetune
from finetune.cli import main
from finetune.cli.output import RANK

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("agents_pages", ROOT / "docs/_build/agents.py")
assert _SPEC is not None and _SPEC.loader is not None
AGENTS = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(AGENTS)
PAIRS = (("a lovely quiet room", "good"), ("dirty and loud", "bad"), ("kind people", "good"), ("never again", "bad"))
RECIPE = """task: text-classification
model: {base}
dataset: reviews.csv
strategy: full
training: {{max_steps: 2, learning_rate: 1.0e-3}}
general_text: none
output: runs/new
"""


@pytest.fixture(scope="module")
def folder(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the tasks name."""
    place = tmp_path_factory.mktemp("agent")
    rows = [f"{text} number {number},{label}\n" for number in range(15) for text, label in PAIRS]
    (place / "reviews.csv").write_text("text,label\n" + "".join(rows))
    (place / "bad.csv").write_text("text,label\n" + "".join(rows[:30]) + ",good\nno label here,\n")
    (place / "recipe.yaml").write_text(RECIPE.format(base=tiny_bert))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        for name, rate in (("a", 0.001), ("b", 0.002)):
            finetune.train("recipe.yaml", output=f"runs/{name}", training={"max_steps": 2, "learning_rate": rate})
    return place


@pytest.mark.parametrize("task", AGENTS.tasks(), ids=lambda task: task["ask"])
def test_a_program_finds_the_answer(task: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    program, *words = shlex.split(task["run"])
    assert program == "finetune"
    ended = CliRunner().invoke(main, words)
    assert ended.exit_code == task.get("code", 0), ended.output
    kind, colon, place = task["read"].partition(": ")
    if kind == "file":
        assert (folder / place).stat().st_size > 0
        return
    if kind == "yaml":
        found = _at(yaml.safe_load(ended.stdout), place)
    elif kind == "lines":
        found = _at([json.loads(line) for line in ended.stdout.splitlines()], place)
    else:
        assert not colon
        found = _at(json.loads(ended.stdout), task["read"])
    if "gives" in task:
        assert found == task["gives"]
    else:
        assert found is not None


def _at(content: Any, place: str) -> Any:
    """Return what is at a place of a JSON value; a key can hold dots itself."""
    keys = place.split(".")
    while keys:
        for end in range(len(keys), 0, -1):
            key = ".".join(keys[:end])
            if isinstance(content, list) and end == 1:
                content = content[int(key)]
                break
            if isinstance(content, dict) and key in content:
                content = content[key]
                break
        else:
            raise KeyError(place)
        keys = keys[end:]
    return content


def test_there_are_twenty_tasks_and_no_two_alike() -> None:
    asked = [task["ask"] for task in AGENTS.tasks()]
    assert len(asked) >= 20 and len(set(asked)) == len(asked)


def test_the_files_are_current() -> None:
    for path, text in AGENTS.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is not current. Run python docs/_build/agents.py"


def test_what_stops_a_run_comes_before_warnings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "odd.csv").write_text("text,label\n" + "a lovely quiet room,good\n" * 40 + "dirty and loud,bad\n,good\n")
    ended = CliRunner().invoke(main, ["check", "recipe.yaml", "dataset.path=odd.csv", "--json"])
    levels = [finding["level"] for finding in json.loads(ended.stdout)["findings"]]
    assert "warning" in levels and levels.index("row") == 0 and levels == sorted(levels, key=RANK.get)  # type: ignore[arg-type]


def test_an_error_is_json_where_json_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["check", "recipe.yaml"], ["show", "lara"], ["evaluate", "run"], ["clean", "run"]):
        ended = CliRunner().invoke(main, [*words, "--json"])
        assert ended.exit_code == 2
        if ended.stdout:  # else click refuses the call
            assert set(json.loads(ended.stdout)) == {"error", "kind", "exit_code"}
        assert CliRunner().invoke(main, words).stdout == "", "without --json, nothing changes"
    assert json.loads(CliRunner().invoke(main, ["show", "lara", "--json"]).stdout)["kind"] == "UnknownName"
