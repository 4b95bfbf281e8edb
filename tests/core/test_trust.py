"""A run folder from a stranger runs no code: every key that can name Python is tried with every command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import toy
from click.testing import CliRunner

import finetune
from finetune import recipe as recipes
from finetune import trust
from finetune.cli import main
from finetune.errors import UntrustedCode

CANARY = """
import os
from pathlib import Path

PLACE = Path(os.environ["CANARY"])


def sing(*arguments, **options):
    PLACE.write_text("sung")
    return [{"text": "the ship", "label": "sea"}, {"text": "the hill", "label": "land"}] * 20


class Bird:
    def __init__(self, *arguments, **options):
        sing()


with PLACE.with_name("imported").open("w") as file:
    file.write("imported")
"""

FORGERIES: dict[str, dict[str, Any]] = {
    "task": {"recipe.task": "canary:sing"},
    "strategy": {"recipe.strategy": {"name": "canary:Bird"}},
    "preprocessor of the recipe": {"recipe.preprocessor": {"name": "canary:Bird"}},
    "evaluator of the recipe": {"recipe.evaluator": {"name": "canary:Bird"}},
    "metric": {"recipe.metrics": ["canary:sing"]},
    "metric of a scheme": {"recipe.metrics": ["evaluate:canary:Bird"]},
    "data": {"recipe.dataset": {"path": "canary:sing", "options": {"command": "id"}}},
    "data of a mixture": {"recipe.dataset": {"mixture": {"one": {"path": "canary:sing"}}}},
    "reader": {"recipe.dataset": {"path": "rows.csv", "format": "canary:Bird"}},
    "preprocessor": {"preprocessor": {"class": "canary:Bird", "options": {}}},
    "evaluator": {"evaluator": {"class": "canary:Bird", "options": {}}},
    "function of the core": {"evaluator": {"class": "finetune.result:write_atomically", "options": {}}},
    "function of a plugin": {"preprocessor": {"class": "finetune_hub.push:push", "options": {}}},
}
"""What a stranger changes in `result.json` and `recipe.yaml`: place → value."""

COMMANDS: dict[str, list[str]] = {
    "predict": ["predict", "RUN", "--text", "the ship"],
    "evaluate": ["evaluate", "RUN", "--split", "train"],
    "evaluate other data": ["evaluate", "RUN", "--data", "rows.csv"],
    "card": ["card", "RUN"],
    "push": ["push", "RUN", "someone/model", "--check"],
    "compare": ["compare", "RUN", "RUN"],
    "report": ["report", "RUN"],
    "merge": ["merge", "RUN"],
    "check": ["check", "RUN/recipe.yaml"],
    "train": ["train", "RUN/recipe.yaml", "output=again"],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on text, so that the run names classes of plugins only."""
    folder = tmp_path_factory.mktemp("trust")
    lines = [f"{row['text']},{row['label']}\n" for row in toy.rows(24)]
    (folder / "rows.csv").write_text("text,label\n" + "".join(lines))
    finetune.train(
        task="text-classification",
        model=toy.base(folder / "base"),
        dataset=str(folder / "rows.csv"),
        strategy="full",
        output=folder / "run",
        training={"max_steps": 1},
        general_text="none",
    )
    return folder


@pytest.fixture
def stranger(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Copy the run into a folder with a canary that Python can import, and trust nothing."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "canary.py").write_text(CANARY)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.setenv("CANARY", str(tmp_path / "sung"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trust, "_trusted", set())
    monkeypatch.setattr(trust, "_folders", [])
    yield tmp_path
    sys.modules.pop("canary", None)


def forge(run: Path, changes: dict[str, Any]) -> None:
    """Change the result and the recipe of a run as a stranger could."""
    content = json.loads((run / "result.json").read_text())
    for place, value in changes.items():
        *sections, last = place.split(".")
        section = content
        for name in sections:
            section = section[name]
        section[last] = {**section[last], **value} if isinstance(section[last], dict) else value
    (run / "result.json").write_text(json.dumps(content))
    (run / "recipe.yaml").write_text(recipes.dump(content["recipe"]))


def test_the_true_run_works_with_every_command_and_no_flag(stranger: Path) -> None:
    for name in ("predict", "evaluate", "evaluate other data", "card", "compare", "report", "check", "train"):
        done = CliRunner().invoke(main, [word.replace("RUN", "run") for word in COMMANDS[name]])
        assert done.exit_code == 0, (name, done.output, done.exception)


@pytest.mark.parametrize("command", ["check", "train"])
def test_no_library_finds_a_module_in_a_run_folder(
    command: str, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    shutil.copy(stranger / "modules" / "canary.py", stranger / "run" / "optional_library.py")
    words = [word.replace("RUN", "run") for word in COMMANDS[command]]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert find_spec("optional_library") is None
    assert CliRunner().invoke(main, [*words, "--overwrite"] if command == "train" else words).exit_code == 0
    assert CliRunner().invoke(main, [*COMMANDS["check"][:1], "run/recipe.yaml", "--trust-code"]).exit_code == 0
    assert find_spec("optional_library") is not None


@pytest.mark.parametrize("forgery", FORGERIES)
def test_no_command_runs_code_that_a_run_folder_names(stranger: Path, forgery: str) -> None:
    forge(stranger / "run", FORGERIES[forgery])
    for name, words in COMMANDS.items():
        done = CliRunner().invoke(main, [word.replace("RUN", "run") for word in words])
        assert isinstance(done.exception, SystemExit | None), (name, done.exception)
        assert not (stranger / "sung").exists(), name
        assert not (stranger / "imported").exists(), name
        shutil.rmtree(stranger / "again", ignore_errors=True)


@pytest.mark.parametrize(
    ("forgery", "command"),
    [
        ("task", "predict"),
        ("strategy", "predict"),
        ("preprocessor", "predict"),
        ("evaluator", "evaluate other data"),
        ("evaluator", "compare"),
        ("metric", "evaluate other data"),
        ("data", "evaluate"),
        ("data", "train"),
        ("task", "check"),
    ],
)
def test_the_refusal_names_the_code_and_the_flag(stranger: Path, forgery: str, command: str) -> None:
    forge(stranger / "run", FORGERIES[forgery])
    done = CliRunner().invoke(main, [word.replace("RUN", "run") for word in COMMANDS[command]])
    assert done.exit_code == 2
    assert "'canary:" in done.stderr
    assert "--trust-code" in done.stderr


def test_the_flag_runs_the_code_for_one_command(stranger: Path) -> None:
    forge(stranger / "run", FORGERIES["data"])
    done = CliRunner().invoke(main, ["evaluate", "run", "--split", "train", "--trust-code"])
    assert done.exit_code == 0, done.output
    assert (stranger / "sung").exists()
    assert CliRunner().invoke(main, ["evaluate", "run", "--split", "train"]).exit_code == 2


def test_modules_in_a_folder_that_the_user_names_are_trusted_and_no_others(stranger: Path) -> None:
    words = ["evaluate", "run", "--split", "train", "--modules", "modules"]
    forge(stranger / "run", {"recipe.dataset": {"path": "fractions:Fraction"}})
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 2
    assert "'fractions:Fraction' is Python code" in refused.stderr
    forge(stranger / "run", FORGERIES["data"])
    assert CliRunner().invoke(main, words).exit_code == 0
    assert (stranger / "sung").exists()


def test_python_needs_the_argument(stranger: Path) -> None:
    forge(stranger / "run", FORGERIES["data"])
    with pytest.raises(UntrustedCode, match="'canary:sing'"):
        finetune.evaluate(stranger / "run", split="train")
    with pytest.raises(UntrustedCode, match="'canary:sing'"):
        finetune.train(stranger / "run" / "recipe.yaml", output=stranger / "again")
    finetune.evaluate(stranger / "run", split="train", trust_code=True)
    assert (stranger / "sung").exists()


def test_python_m_finetune_imports_nothing_from_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise SystemExit('imported from the current folder')")
    done = subprocess.run(
        [sys.executable, "-m", "finetune", "--version"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("finetune")
