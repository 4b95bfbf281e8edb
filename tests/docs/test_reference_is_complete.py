"""Nothing that a user or a plugin's author may use is undocumented: each test counts what is, and wants none."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from finetune.cli import main
from finetune.plugins import discover, resolve
from finetune.recipe import options

PUBLIC = tuple(f"finetune{each}" for each in ("", ".api", ".interfaces", ".errors", ".hookspecs", ".testing"))
"""Modules whose names are public; the names of `finetune.kit` are in tests/core/test_layers.py."""


def names(module: str) -> Iterator[tuple[str, Any]]:
    """Yield the public functions and classes of a module."""
    loaded = importlib.import_module(module)
    for name in getattr(loaded, "__all__", None) or [each for each in vars(loaded) if not each.startswith("_")]:
        value = getattr(loaded, name)
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.startswith("finetune"):
            yield f"{module}.{name}", value


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that a class has of its own."""
    for name, value in vars(cls).items():
        function = getattr(value, "__func__", value.fget if isinstance(value, property) else value)
        if not name.startswith("_") and (inspect.isfunction(function) or isinstance(value, property)):
            yield name, function


def undocumented_fields(cls: type) -> set[str]:
    """Return the fields of a dataclass under which no text is written."""
    source = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = source.body[0].body  # type: ignore[attr-defined]
    described = {
        first.target.id
        for first, second in itertools.pairwise(body)
        if isinstance(first, ast.AnnAssign)
        and isinstance(second, ast.Expr)
        and isinstance(second.value, ast.Constant)
        and isinstance(first.target, ast.Name)
    }
    own = {field.name for field in dataclasses.fields(cls)} & set(vars(cls).get("__annotations__", {}))
    return {name for name in own - described if not name.startswith("_")}


@pytest.mark.parametrize("module", PUBLIC)
def test_each_public_name_is_documented(module: str) -> None:
    missing = []
    for name, value in names(module):
        if not inspect.getdoc(value):
            missing.append(name)
        if inspect.isclass(value):
            missing += [f"{name}.{each}" for each, found in members(value) if not inspect.getdoc(found)]
            if dataclasses.is_dataclass(value):
                missing += [f"{name}.{field}" for field in undocumented_fields(value)]
    assert missing == []


def test_each_option_of_each_plugin_is_documented() -> None:
    plugins, classes = discover(), []
    for hook in ("strategies", "readers", "preprocessors", "evaluators"):
        classes += [(name, resolve(target)) for name, target in plugins.catalogues[hook].available.items()]
    for name, task in plugins.catalogues["tasks"].available.items():
        classes += [(name, resolve(task.preprocessor)), (name, resolve(task.evaluator))]
    missing = []
    for name, cls in classes:
        missing += [name] if not inspect.getdoc(cls) else []
        if dataclasses.is_dataclass(cls):
            missing += [f"{name}.{each.name}" for each in options.document(cls) if not each.doc and not each.learned]
    assert len(classes) > 40 and missing == []


def test_each_option_of_each_command_has_a_help() -> None:
    context, seen, missing = click.Context(main), 0, []
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        inner = command.commands.values() if isinstance(command, click.Group) else ()
        for each in (command, *inner):
            assert each is not None and each.help, name
            for parameter in each.params:
                if isinstance(parameter, click.Option) and not parameter.hidden:
                    seen += 1
                    missing += [] if parameter.help else [f"{name} {parameter.opts}"]
    assert seen > 100 and missing == []


def test_each_page_of_the_reference_is_in_its_index() -> None:
    folder = Path(__file__).parents[2] / "docs/reference"
    index = (folder / "index.md").read_text(encoding="utf-8")
    pages = {page.name for page in folder.glob("*.md")} - {"index.md"}
    assert {page for page in pages if f"({page})" not in index} == set()
