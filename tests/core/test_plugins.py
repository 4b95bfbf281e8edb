"""The seam between core and plugins, tried the way a stranger would."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import toy

from finetune import plan, recipe
from finetune.errors import BadRecipe, BrokenPlugin, DuplicateName, UnknownName
from finetune.plugins import SWITCH, discover, resolve

HEAVY = {"torch", "transformers", "datasets", "peft", "trl", "evaluate", "accelerate", "numpy", "pydantic", "yaml"}

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a one-file plugin as pip would leave it: a module and a dist-info."""

    def install(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[finetune]\n{name} = {name}\n")

    monkeypatch.syspath_prepend(str(tmp_path))
    return install


def test_a_stranger_s_strategy_is_listed_beside_ours(install: Install) -> None:
    install(
        "stranger_one",
        """
        from finetune import hookimpl

        @hookimpl
        def strategies():
            return {"bitfit": "stranger_one:BitFit"}
        """,
    )
    catalogue = discover().catalogues["strategies"]
    assert catalogue.owners["bitfit"] == "stranger_one"
    assert catalogue.owners["lora"] == "peft"


def test_a_stranger_answers_for_models_of_a_scheme(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = toy.base(tmp_path / "bert")
    monkeypatch.setenv("STRANGER_BASE", str(base))
    install(
        "stranger_zero",
        """
        import os

        from finetune import hookimpl

        def find(name):
            return os.environ["STRANGER_BASE"] if name == "tiny" else f"/nowhere/{name}"

        @hookimpl
        def models():
            return {"zoo": "stranger_zero:find"}
        """,
    )
    written = {"task": "toy:TASK", "dataset": "rows.csv", "strategy": "full", "output": "run"}
    planned = plan.make(recipe.from_mapping({**written, "model": "zoo:tiny"}), discover())
    assert planned.model.path == str(base)
    assert planned.recipe.model.path == "zoo:tiny"
    with pytest.raises(BadRecipe, match="'/nowhere/large' is not a folder"):
        plan.make(recipe.from_mapping({**written, "model": "zoo:large"}), discover())
    with pytest.raises(BadRecipe, match=r"nothing answers for 'zu' in 'zu:tiny'\. Known: package"):
        plan.make(recipe.from_mapping({**written, "model": "zu:tiny"}), discover())


def test_a_broken_plugin_is_reported_and_harms_no_other(install: Install) -> None:
    install("stranger_two", "import a_module_that_is_not_there")
    found = discover()
    assert found.broken == {"stranger_two": "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"}
    assert "lora" in found.catalogues["strategies"].targets


@pytest.mark.parametrize(
    ("body", "told"), [("1 / 0", "ZeroDivisionError: division by zero"), ("return 3", "tasks() returns int, not a")]
)
def test_a_plugin_that_cannot_answer_is_reported_and_harms_no_other(body: str, told: str, install: Install) -> None:
    name = f"stranger_answers_{body[:1]}".lower()
    install(name, f"from finetune import hookimpl\n@hookimpl\ndef tasks():\n    {body}\n")
    found = discover()
    assert told in found.broken[name]
    assert "lora" in found.catalogues["strategies"].targets


def test_a_plugin_that_implements_an_unknown_hook_is_broken_and_harms_no_other(install: Install) -> None:
    install("stranger_three", "from finetune import hookimpl\n@hookimpl\ndef strategeis():\n    return {}\n")
    found = discover()
    assert "strategeis" in found.broken["stranger_three"]
    assert "lora" in found.catalogues["strategies"].targets


def test_a_name_that_a_broken_plugin_may_have_brought_is_answered_with_its_reason(install: Install) -> None:
    install("stranger_four", "raise RuntimeError('no licence')")
    with pytest.raises(BrokenPlugin, match="Plugin 'stranger_four' is broken: RuntimeError: no licence"):
        discover().find("strategies", "zebra")


def test_two_plugins_may_not_bring_the_same_name(install: Install) -> None:
    install(
        "stranger_five", "from finetune import hookimpl\n@hookimpl\ndef strategies():\n    return {'lora': 'x:y'}\n"
    )
    with pytest.raises(DuplicateName, match=r"'lora' is brought by both plugin 'peft' of finetune-kit and plugin"):
        discover().find("strategies", "full")


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown strategy 'lroa'. Did you mean 'lora'\? Installed: .*full, .*lora"):
        discover().find("strategies", "lroa")


def test_a_name_with_a_colon_is_python() -> None:
    assert discover().find("strategies", "fractions:Fraction").__name__ == "Fraction"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module:x", "there is no module 'no_such_module'"),
        ("fractions:Fractoin", "Did you mean 'Fraction'"),
    ],
)
def test_python_that_is_not_there_is_said_to_be_so(target: str, message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        resolve(target)


def test_the_switch_names_the_only_plugins_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "peft")
    assert set(discover().catalogues["strategies"].owners.values()) == {"peft"}
    monkeypatch.setenv(SWITCH, "")
    assert not discover().catalogues["strategies"].targets
    monkeypatch.setenv(SWITCH, "pefft")
    with pytest.raises(UnknownName, match="pefft"):
        discover()


def imported(code: str) -> set[str]:
    """Return the heavy modules that a fresh interpreter holds after running some code."""
    code = f"import sys\n{code}\nprint('HEAVY', *sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rsplit("HEAVY", 1)[1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["--version"], ["train", "--help"]])
def test_the_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    code = f"from finetune.cli import main\ntry: main({arguments})\nexcept SystemExit: pass"
    assert imported(code) == set()


def test_no_plugin_s_table_of_contents_imports_anything_heavy() -> None:
    names = [entry.module for entry in entry_points(group="finetune") if entry.dist.name == "finetune-kit"]
    assert len(names) > 10
    assert imported("\n".join(f"import {name}" for name in names)) == set()
    assert imported("import finetune, finetune.interfaces, finetune.hookspecs, finetune.plugins") == set()
