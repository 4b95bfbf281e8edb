"""A run folder from a stranger runs no code: every key that can name Python is tried with every command."""

from __future__ import annotations

import dataclasses
import json
import os
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
from finetune import folder, models, trust
from finetune import recipe as recipes
from finetune.cli import launch, main
from finetune.errors import BadRecipe, OutputExists, UnknownName, UntrustedCode
from finetune.result import Result, write_atomically

CANARY = """
import os
from pathlib import Path

PLACE = Path(os.environ["CANARY"])


def sing(*arguments, **options):
    PLACE.write_text("sung")
    names = {"sea": "ship", "land": "hill"}
    return [{"text": f"the {names[label]} {number}", "label": label} for number in range(20) for label in names]


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
    monkeypatch.setattr(trust, "_foreign", set())
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
    finetune.load(stranger / "run", trust_code=True).evaluate(split="train")
    assert (stranger / "sung").exists()


@pytest.mark.parametrize("name", ["click", "pluggy", "typing", "dataclasses", "yaml"])
def test_python_m_finetune_imports_nothing_from_the_current_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    done = subprocess.run(
        [sys.executable, "-m", "finetune", "--version"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("finetune")


def test_python_m_finetune_says_that_the_current_folder_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    words = f"cd {gone} && rmdir {gone} && exec {sys.executable} -m finetune --version"
    done = subprocess.run(["sh", "-c", words], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_processes_of_a_run_import_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pluggy", "finetune", "runpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    assert launch.again(["--version"], count=2, go_on=str) == 0


def linked(run: Path, kind: str) -> str:
    """Put a link to a recipe with code of its folder into a run folder; return the recipe to name."""
    files = run / "files"
    files.mkdir()
    shutil.copy(run / "recipe.yaml", files / "r.yaml")
    (files / "canary.py").write_text((run.parent / "modules" / "canary.py").read_text())
    (run / "recipe.yaml").unlink()
    if kind == "folder":
        (run / "recipe.yaml").symlink_to(files / "r.yaml")
        (run.parent / "alias").symlink_to(run)
        return "alias/recipe.yaml"
    if kind == "chain":  # the link that the user names lies outside
        (run / "recipe.yaml").symlink_to("files/r.yaml")
        (run.parent / "mine.yaml").symlink_to(run / "recipe.yaml")
        return "mine.yaml"
    (run / "recipe.yaml").symlink_to("files/r.yaml")
    return "run/recipe.yaml"


@pytest.mark.parametrize("command", [["check"], ["train", "output=again"]])
@pytest.mark.parametrize("kind", ["link", "folder", "chain"])
def test_a_link_in_a_run_folder_is_a_part_of_it(kind: str, command: list[str], stranger: Path) -> None:
    forge(stranger / "run", FORGERIES["data"])
    recipe = linked(stranger / "run", kind)
    refused = CliRunner().invoke(main, [command[0], recipe, *command[1:]])
    assert refused.exit_code == 2 and "is Python code that the run folder names" in refused.stderr
    assert not (stranger / "imported").exists() and not (stranger / "sung").exists()


def test_a_folder_of_modules_opens_no_installed_module_and_nothing_that_its_modules_import(stranger: Path) -> None:
    words = ["evaluate", "run", "--split", "train", "--modules", "modules"]
    (stranger / "modules" / "subprocess").mkdir()
    (stranger / "modules" / "mine.py").write_text("from subprocess import check_output\nimport json\n")
    for path in ("subprocess:check_output", "mine:check_output", "mine:json", "xml.dom:getDOMImplementation"):
        forge(stranger / "run", {"recipe.dataset": {"path": path, "options": {"args": ["touch", "sung"]}}})
        refused = CliRunner().invoke(main, words)
        assert refused.exit_code == 2, refused.output
        assert not (stranger / "sung").exists()


@pytest.mark.parametrize("path", ["posix:system", "builtins:exec", "_frozen_importlib:_call_with_frames_removed"])
def test_a_folder_of_modules_does_not_open_what_is_built_into_python(path: str, stranger: Path) -> None:
    forge(stranger / "run", {"recipe.dataset": {"path": path, "options": {"command": "touch sung"}}})
    refused = CliRunner().invoke(main, ["evaluate", "run", "--split", "train", "--modules", "."])
    assert refused.exit_code == 2 and f"{path!r} is Python code that the run folder names" in refused.stderr
    assert not (stranger / "sung").exists()


def test_a_part_of_a_namespace_in_the_folder_does_not_open_its_other_parts(
    stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stranger / "installed" / "shared_space").mkdir(parents=True)
    (stranger / "installed" / "shared_space" / "canary.py").write_text(CANARY)
    (stranger / "modules" / "shared_space").mkdir()
    monkeypatch.syspath_prepend(stranger / "installed")
    forge(stranger / "run", {"recipe.dataset": {"path": "shared_space.canary:sing"}})
    refused = CliRunner().invoke(main, ["evaluate", "run", "--split", "train", "--modules", "modules"])
    assert refused.exit_code == 2 and "is Python code that the run folder names" in refused.stderr
    assert not (stranger / "imported").exists()


@pytest.mark.parametrize("value", ["flash_attention_2", "paged|flash_attention_3"])
def test_flash_attention_is_a_kernel_of_the_hub_if_the_package_for_kernels_is_there(
    value: str, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = recipes.Model(path=str(stranger / "run"), options={"attn_implementation": value})
    models.require_no_code(model)
    (stranger / "modules" / "kernels.py").touch()
    monkeypatch.syspath_prepend(stranger / "modules")
    with pytest.raises(UntrustedCode):
        models.require_no_code(model)


def test_a_recipe_object_from_a_run_folder_is_not_trusted_because_it_is_an_object(stranger: Path) -> None:
    forge(stranger / "run", FORGERIES["data"])
    read = recipes.read(stranger / "run" / "recipe.yaml")
    of_result = recipes.from_mapping(Result.load(stranger / "run").recipe)
    for recipe in (read, of_result, dataclasses.replace(read, seed=1)):
        with pytest.raises(UntrustedCode, match="'canary:sing'"):
            finetune.train(recipe, output=stranger / "again")
    assert not (stranger / "imported").exists()
    own = dataclasses.replace(read, dataset=recipes.Source(path="canary:bird"))
    with pytest.raises(UnknownName, match="has no 'bird'"):  # it is trusted, because no run folder names it
        finetune.train(own, output=stranger / "again")
    finetune.train(read, output=stranger / "again", trust_code=True)
    assert (stranger / "sung").exists()


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"a": ["x:y", {"z:q": 1}]}, {"x:y", "z:q"}),
        ({"options": {"attn_implementation": "someone/kernel"}}, {"attn_implementation=someone/kernel"}),
        ({"model": recipes.Model(path="a", options={"use_kernels": True})}, {"use_kernels=True"}),
        ({"strategy": recipes.Choice(name="my:Strategy")}, {"my:Strategy"}),
        ({"path": "a/b", "number": 3, "nothing": None}, set()),
    ],
)
def test_the_names_that_a_user_gives_are_trusted(given: Any, names: set[str], stranger: Path) -> None:
    for name in names:
        with pytest.raises(UntrustedCode):
            trust.require(name, where="test")
    trust.allow(given)
    for name in names:
        trust.require(name, where="test")


@pytest.mark.parametrize("beside", ["tokenizer_config.json", "model-00001-of-00002.safetensors", "torn-checkpoint-3"])
def test_a_recipe_beside_files_of_a_model_or_a_run_is_of_a_stranger(beside: str, tmp_path: Path) -> None:
    assert trust.is_own(tmp_path / "recipe.yaml")
    (tmp_path / beside).touch()
    assert not trust.is_own(tmp_path / "recipe.yaml")


# --- what a model is loaded from --------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", models.REFUSED_OPTIONS)
def test_options_that_would_load_code_or_pickles_are_refused(option: str, stranger: Path) -> None:
    model = recipes.Model(path=str(stranger / "base"), options={option: False})
    with pytest.raises(BadRecipe, match=rf"model\.options: '{option}' cannot be set: "):
        models.check(model)
    with pytest.raises(BadRecipe, match=rf"model\.options: '{option}' cannot be set: "):
        models.load(model, None, {})


@pytest.mark.parametrize(
    ("option", "value"),
    [("attn_implementation", "someone/kernel"), ("use_kernels", True), ("attn_implementation", {"text": "a/b"})],
)
def test_a_kernel_of_the_hub_is_code_that_the_user_must_name(option: str, value: Any, stranger: Path) -> None:
    model = recipes.Model(path=str(stranger / "base"), options={option: value})
    with pytest.raises(UntrustedCode, match=f"model.options: .{option}="):
        models.require_no_code(model)
    trust.allow({option: value})
    models.require_no_code(model)


@pytest.mark.parametrize(
    "entry",
    [
        {"attn_implementation": "someone/kernel"},
        {"text_config": {"attn_implementation": {"": "sdpa", "text": "someone/kernel"}}},
        {"experts_implementation": "kernels-community/kernel"},
    ],
)
def test_a_kernel_in_a_configuration_is_refused(entry: dict[str, Any], stranger: Path) -> None:
    config = stranger / "base" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **entry}))
    with pytest.raises(BadRecipe, match=r"config\.json' names the kernel '.*/kernel', which is code on the Hub"):
        models.check(recipes.Model(path=str(stranger / "base")))
    models.check(recipes.Model(path=str(stranger / "base"), options={"attn_implementation": "sdpa"}))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "../model.safetensors", "/etc/model.safetensors", "model.pt"])
def test_an_index_names_safetensors_inside_the_folder_only(name: str, stranger: Path) -> None:
    (stranger / "base" / models.INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(BadRecipe, match="Weights are loaded from safetensors in the folder of the model only"):
        models.check(recipes.Model(path=str(stranger / "base")))


# --- links ------------------------------------------------------------------------------------------------------------


def test_a_run_does_not_write_through_links_in_its_folder(stranger: Path) -> None:
    (stranger / "run" / "result.json").unlink()
    outside = stranger / "outside.txt"
    outside.write_text("untouched")
    (stranger / "run" / "deep").mkdir()
    (stranger / "run" / "deep" / "log.jsonl").symlink_to(outside)
    with pytest.raises(
        OutputExists, match=r"deep/log\.jsonl' is a link to '.*outside\.txt', and a run writes into its"
    ):
        folder.check(stranger / "run", resume=True, overwrite=False)
    folder.check(stranger / "run", resume=False, overwrite=True)  # removes the link, and not what it leads to


def test_half_a_surrogate_pair_of_a_spoiled_file_is_written_as_in_json(tmp_path: Path) -> None:
    write_atomically(tmp_path / "x.json", '{"a": "\ud800"}')
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"a": "\ud800"}


def test_a_file_is_not_written_through_a_link_at_its_temporary_name(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("untouched")
    (tmp_path / f".report.html.{os.getpid()}").symlink_to(outside)
    write_atomically(tmp_path / "report.html", "new")
    assert (outside.read_text(), (tmp_path / "report.html").read_text()) == ("untouched", "new")
