"""`finetune plugin new`: what it writes is a plugin that installs, passes its tests, is listed and checks its data."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from finetune import recipe
from finetune.cli import main
from finetune.cli.scaffold import KINDS

NAMES = {"task": "finetune-text-tone", "strategy": "finetune-only-biases"}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a new environment, which sees what is installed here, pip too, and installs for itself."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    ours = sysconfig.get_path("purelib")
    theirs = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # not a plain path: only addsitedir reads the .pth file of an editable install
    (theirs / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    return folder / "bin" / "python"


def run(python: Path, *arguments: str, folder: Path) -> str:
    """Return what a command of the new environment prints."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [str(python), "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_installs_passes_its_tests_is_listed_and_checks_its_data(
    kind: str, python: Path, tmp_path: Path
) -> None:
    name = NAMES[kind]
    short = name.removeprefix("finetune-")
    done = CliRunner().invoke(main, ["plugin", "new", name, "--kind", kind, "--parent", str(tmp_path)])
    assert done.exit_code == 0, done.output
    folder = tmp_path / name
    run(
        python, "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "-e", ".", folder=folder
    )
    assert " passed" in run(python, "pytest", "-q", "-p", "no:cacheprovider", folder=folder)
    listed = [line.split()[:3] for line in run(python, "finetune", "list", folder=folder).splitlines()]
    assert [kind, short, short] in listed
    checked = run(python, "finetune", "check", "recipe.yaml", folder=folder)
    assert "sample 1" in checked


@pytest.mark.parametrize("kind", KINDS)
def test_no_placeholder_is_left_and_the_files_are_what_they_say(kind: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["plugin", "new", NAMES[kind], "--kind", kind, "--parent", str(tmp_path)])
    files = [path for path in (tmp_path / NAMES[kind]).rglob("*") if path.is_file()]
    assert {str(path) for path in files} == {
        line for line in done.output.splitlines() if line.startswith(str(tmp_path))
    }
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert "$" not in text, path
        if path.suffix == ".py":
            compile(text, str(path), "exec")
        if path.suffix in {".yml", ".yaml"}:
            assert yaml.safe_load(text), path
    project = tomllib.loads((tmp_path / NAMES[kind] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["finetune"] == {NAMES[kind].removeprefix("finetune-"): NAMES[kind].replace("-", "_")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", [["check"], ["format", "--check"]])
def test_what_is_written_follows_ruff(kind: str, check: list[str], tmp_path: Path) -> None:
    CliRunner().invoke(main, ["plugin", "new", NAMES[kind], "--kind", kind, "--parent", str(tmp_path)])
    command = [sys.executable, "-m", "ruff", *check, "--isolated", "--line-length", "120"]
    # in the folder, where ruff tells its own package from finetune's
    done = subprocess.run(command, cwd=tmp_path / NAMES[kind], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Mine", "'Mine' is not a name for a plugin"),
        ("finetune mine", "is not a name for a plugin"),
        ("finetune-lora", "strategy 'lora' exists already, in plugin 'peft'"),
        ("finetune-trl", "a plugin 'trl' is installed already, by finetune-kit"),
        ("finetune-there", "there' exists. Choose another name"),
        ("finetune-3d", "begin with a small letter"),
        ("finetune", "a module 'finetune' is already installed"),
        ("json", "a module 'json' is already installed"),
        ("lambda", "'lambda' is not a name for a plugin"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "finetune-there").mkdir()
    done = CliRunner().invoke(main, ["plugin", "new", name, "--kind", "strategy", "--parent", str(tmp_path)])
    assert done.exit_code == 2
    assert message in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["finetune-there"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("short", ["null", "true", "e5"])
def test_a_name_that_yaml_reads_as_something_else_stays_a_name(short: str, kind: str, tmp_path: Path) -> None:
    name = f"finetune-{short}"
    done = CliRunner().invoke(main, ["plugin", "new", name, "--kind", kind, "--parent", str(tmp_path)])
    assert done.exit_code == 0, done.output
    read = recipe.read(tmp_path / name / "recipe.yaml")
    assert (read.strategy.name if kind == "strategy" else read.task) == short
