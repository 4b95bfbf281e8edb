"""`finetune show`."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from finetune.interfaces import Task


@click.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, as_json: bool) -> None:
    """Show the documentation of NAME and of its options.

    NAME is a name of `finetune list`; Recipe, Model or Source, for the keys of a recipe and its
    sections; or a Python class, as module:Class.
    """
    from finetune.cli import output
    from finetune.recipe.options import document

    documented = [(title, cls, document(cls)) for title, cls in _classes(name)]
    if as_json:
        shown = {
            title: [{**asdict(o), "default": None if o.default is MISSING else o.default} for o in found]
            for title, _, found in documented
        }
        output.as_json(shown)
        return
    for number, (title, cls, found) in enumerate(documented):
        click.echo("\n" if number else "", nl=False)
        click.secho(title, bold=True)
        click.echo(f"{inspect.cleandoc(cls.__doc__ or '')}\n")
        for option in found:
            default = "required" if option.required else f"default {option.default!r}"
            click.echo(f"  {click.style(option.name, bold=True)}: {option.type} ({default})")
            for line in option.doc.splitlines():
                click.echo(f"      {line}")


def _classes(name: str) -> list[tuple[str, Any]]:
    """Return titles and classes for a name; a task has a preprocessor and an evaluator."""
    from finetune import recipe
    from finetune.errors import UnknownName, did_you_mean
    from finetune.interfaces import Task
    from finetune.plugins import discover, resolve

    sections = {cls.__name__: cls for cls in (recipe.Recipe, recipe.Model, recipe.Source)}
    if name in sections:
        return [(name, sections[name])]
    found = discover()
    if ":" in name:
        target = resolve(name)
        if isinstance(target, Task):
            return _of_task(name, target)
        if not isinstance(target, type):
            raise UnknownName(f"{name!r} is a {type(target).__name__}, which has no options. Name a class or a task.")
        return [(name, target)]
    for catalogue in found.catalogues.values():
        if name not in catalogue.targets:
            continue
        target = catalogue.find(name)
        if isinstance(target, Task):
            return _of_task(name, target)
        if hasattr(target, "__dataclass_fields__"):
            return [(f"{catalogue.kind} {name}", target)]
        raise UnknownName(f"{catalogue.kind} {name!r} has no options. {(target.__doc__ or '').strip()}")
    known = list(sections)
    for catalogue in found.catalogues.values():
        known += catalogue.targets
    raise UnknownName(f"unknown name {name!r}.{did_you_mean(name, known)} `finetune list` shows all names.")


def _of_task(name: str, task: Task) -> list[tuple[str, Any]]:
    """Return titles and classes of the preprocessor and the evaluator of a task."""
    from finetune.plugins import resolve

    parts = (("preprocessor", task.preprocessor), ("evaluator", task.evaluator))
    return [(f"{name}: {part} ({path})", resolve(path)) for part, path in parts]
