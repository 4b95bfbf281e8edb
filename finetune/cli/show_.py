"""`finetune show`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import click

from finetune.cli import names, parameters
from finetune.cli.list_ import installed

if TYPE_CHECKING:
    from finetune.interfaces import Preprocessor, Task
    from finetune.plugins import Catalogue, Plugins
    from finetune.recipe.options import Option

LONGEST = 300
"""Most characters of an example row that are shown."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known about one meaning of a name."""

    title: str
    text: str
    """The documentation."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else there is to know: title → text, list or mapping."""
    options: list[Option] = field(default_factory=list)


@click.command("show")
@click.argument("name", shell_complete=names.complete_any)
@parameters.as_json("Print JSON.")
@click.pass_context
def command(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show the documentation of NAME and of its options.

    NAME is a name of `finetune list`, a command, a sample such as sample:harbour-qa, or a plugin; Recipe, Model or
    Source, for the keys of a recipe and its sections; or a Python class, as module:Class.
    """
    from finetune.cli import output

    with output.loading():
        entries = list(_entries(ctx, name))
    if as_json:
        output.as_json([_as_json(entry) for entry in entries])
        return
    for number, entry in enumerate(entries):
        click.echo("\n" if number else "", nl=False)
        click.secho(entry.title, bold=True)
        if entry.text:
            click.echo(f"{entry.text}\n" if "\n" in entry.text and entry.facts else entry.text)
        for title, fact in entry.facts.items():
            _show_fact(title, fact)
        if entry.options and (entry.text or entry.facts):
            click.echo()
        for option in entry.options:
            default = "required" if option.required else f"default {option.default!r}"
            click.echo(f"  {click.style(option.name, bold=True)}: {option.type} ({default})")
            for line in option.doc.splitlines():
                click.echo(f"      {line}")


def _show_fact(title: str, fact: Any) -> None:
    if isinstance(fact, Mapping):
        click.echo(f"\n{title}:")
        widest = max(map(len, fact), default=0)
        for key, value in fact.items():
            click.echo(f"  {key.ljust(widest)}  {value}".rstrip())
    else:
        click.echo(f"{title}: {', '.join(fact) if isinstance(fact, list) else fact}")


def _as_json(entry: Entry) -> dict[str, Any]:
    options = [{**asdict(o), "default": None if o.default is MISSING else o.default} for o in entry.options]
    return {"title": entry.title, "text": entry.text, **entry.facts, "options": options}


def _entries(ctx: click.Context, name: str) -> Iterator[Entry]:
    """Yield an entry for each meaning of a name; a task has further ones for its preprocessor and its evaluator."""
    from finetune import recipe
    from finetune.errors import UnknownName, did_you_mean
    from finetune.plugins import discover

    sections = {cls.__name__: cls for cls in (recipe.Recipe, recipe.Model, recipe.Source, recipe.Teacher)}
    found = discover()
    if name in sections:
        yield _of_class(name, sections[name])
        return
    entries = [
        entry
        for catalogue in found.catalogues.values()
        if name in catalogue.targets
        for entry in _of_name(ctx, name, catalogue, found)
    ]
    entries += _of_core_reader(name)
    group = ctx.parent.command if ctx.parent else None
    if isinstance(group, click.Group) and name in group.list_commands(ctx) and not entries:
        entries.append(_of_command(ctx, name, group.get_command(ctx, name)))
    if name in found.distributions and not entries:
        entries.append(_of_plugin(name, found))
    if not entries and ":" in name:
        entries = list(_of_path(name, found))
    if not entries:
        known = [*sections, *found.distributions, *(group.list_commands(ctx) if isinstance(group, click.Group) else ())]
        for catalogue in found.catalogues.values():
            known += catalogue.targets
        known += [row["name"] for row in installed(found)]
        raise UnknownName(f"unknown name {name!r}.{did_you_mean(name, known)} `finetune list` shows all names.")
    yield from entries


def _of_class(title: str, cls: type, **facts: Any) -> Entry:
    from finetune.recipe.options import document

    options = [option for option in document(cls) if not option.learned]
    return Entry(title=title, text=inspect.cleandoc(cls.__doc__ or ""), facts=facts, options=options)


def _of_core_reader(name: str) -> Iterator[Entry]:
    """Yield a file format that needs no plugin."""
    from finetune.cli.list_ import CORE_READERS
    from finetune.data.readers.formats import BINARY, OURS

    if name in OURS:
        yield _of_class(f"reader {name}", OURS[name], From="finetune", Files=list(OURS[name].suffixes))
    elif name in BINARY:
        facts = {"From": "finetune", "Files": list(BINARY[name])}
        yield Entry(title=f"reader {name}", text=CORE_READERS[name].summary, facts=facts)


def _of_name(ctx: click.Context, name: str, catalogue: Catalogue, found: Plugins) -> Iterator[Entry]:
    """Yield what a plugin's name stands for."""
    from finetune.interfaces import Importer, Task
    from finetune.recipe.options import document_without_import

    title = f"{catalogue.kind} {name}"
    brought = {"From": f"plugin {catalogue.owners[name]} of {found.distributions[catalogue.owners[name]]}"}
    path = catalogue.available.get(name) if catalogue.kind == "strategy" else None
    known = document_without_import(path) if isinstance(path, str) else None
    if known is not None:  # the libraries of a strategy take seconds to import
        text, options = known
        yield Entry(title=title, text=text, facts=brought, options=[each for each in options if not each.learned])
        return
    target = catalogue.load(name)
    if isinstance(target, Task):
        yield from _of_task(name, target, found, title=title, facts=brought)
    elif isinstance(target, click.Command):
        yield _of_command(ctx, name, target)
    elif isinstance(target, type):
        suffixes = list(getattr(target, "suffixes", ()))
        more: dict[str, Any] = {"Files": suffixes} if suffixes else {}
        if issubclass(target, Importer):
            more["Keys"] = {key: rule.described() for key, rule in target.keys.items()}
        yield _of_class(title, target, **brought, **more)
    else:
        yield Entry(
            title=title, text=inspect.cleandoc(target.__doc__ or ""),
            facts={**brought, **_names_beside(target, scheme=name)},
        )  # fmt: skip


def _names_beside(function: Any, *, scheme: str) -> dict[str, Any]:
    """Return what the function `names` in the module of a scheme lists; see `finetune.hookspecs.sources`."""
    names = getattr(sys.modules.get(function.__module__), "names", None)
    return {"Names": {f"{scheme}:{name}": text for name, text in names().items()}} if callable(names) else {}


def _of_task(name: str, task: Task, found: Plugins, *, title: str, facts: Mapping[str, Any]) -> Iterator[Entry]:
    """Yield a task, its preprocessor and its evaluator."""
    from finetune.plugins import resolve

    preprocessor, evaluator = resolve(task.preprocessor), resolve(task.evaluator)
    from finetune.recipe import gallery

    recipes = [one.name for one in gallery.found(found) if one.task == name]
    known: dict[str, Any] = {
        "Score that models are chosen by": evaluator().primary,
        "Model class": task.model_class,
        "Strategies": sorted(found.catalogues["strategies"].targets),
        "Recipe for your data": f"finetune init {name} --data FILE",
        "Recipe with a sample": f"finetune init {name}",
        **({"Ready recipes (finetune init --from NAME)": recipes} if recipes else {}),
        **({"Base models for your data": _base_models(task)} if task.base_models else {}),
        **_columns(preprocessor()),
    }
    sample = task.starter.get("dataset", {}).get("path", "")
    if rows := _rows(sample, found):
        known[f"Example row ({sample})"] = {key: _short(value) for key, value in next(iter(rows.values()))[0].items()}
    yield Entry(title=title, text=task.summary, facts={**facts, **known})
    for part, path, cls in (
        ("preprocessor", task.preprocessor, preprocessor), ("evaluator", task.evaluator, evaluator)
    ):  # fmt: skip
        yield _of_class(f"{name}: {part} ({path})", cls)


def _base_models(task: Task) -> dict[str, str]:
    """Return which base models `finetune init` writes for which texts."""
    texts = {"en": "English texts", "any": "other texts"}
    return {texts.get(language, language): path for language, path in task.base_models.items()}


def _columns(preprocessor: Preprocessor) -> dict[str, dict[str, str]]:
    """Return the columns of each form of data that a preprocessor reads, and what each holds."""
    hidden = preprocessor.needs().hidden
    shown: dict[str, dict[str, str]] = {}
    for form in preprocessor.forms():
        columns = {}
        for name, values in form.columns.items():
            columns[name] = f"required{', except to predict' if name in hidden else ''}: {values.what}"
        for name, values in form.groups.items():
            columns[f"columns listed in {name}"] = f"required: {values.what}"
        for name, values in form.optional.items():
            columns[name] = f"optional: {values.what}"
        options = ", ".join(
            [f"{name}: […]" for name in form.groups]
            + [f"{name}: {value}" for name, value in form.options.items() if value is not None]
        )
        title = "Columns" if not shown else f"Or these columns: {', '.join(form.columns)}"
        shown[f"{title}, with preprocessor: {{{options}}}" if options else title] = columns
    return shown


def _rows(path: Any, found: Plugins) -> dict[str, list[Mapping[str, Any]]]:
    """Return the rows of each split of a plugin's source; none for another path."""
    scheme, colon, rest = str(path).partition(":")
    if not colon or scheme not in found.catalogues["sources"].targets:
        return {}
    return {split: list(rows) for split, rows in found.catalogues["sources"].load(scheme)(rest).items()}


def _short(value: Any) -> str:
    from finetune.result import to_json

    text = value if isinstance(value, str) else to_json(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _of_command(ctx: click.Context, name: str, command: click.Command | None) -> Entry:
    assert command is not None
    with click.Context(command, info_name=f"finetune {name}", parent=None) as own:
        return Entry(title=f"command {name}", text=command.get_help(own))


def _of_plugin(name: str, found: Plugins) -> Entry:
    """Return what a plugin brings."""
    brings: dict[str, Any] = {}
    for catalogue in found.catalogues.values():
        names = [each for each, owner in catalogue.owners.items() if owner == name]
        if names:
            brings[f"{catalogue.kind[:1].upper()}{catalogue.kind[1:]}"] = sorted(names)
    problem = {"Broken": found.broken[name]} if name in found.broken else {}
    return Entry(title=f"plugin {name}", text="", facts={"From": found.distributions[name], **problem, **brings})


def _of_path(name: str, found: Plugins) -> Iterator[Entry]:
    """Yield what a name with a colon stands for: a data set or a model of a plugin's scheme, or a Python class."""
    from finetune.errors import UnknownName
    from finetune.interfaces import Task
    from finetune.plugins import resolve

    scheme = name.partition(":")[0]
    sources, bases = found.catalogues["sources"], found.catalogues["models"]
    if scheme in sources.targets or scheme in bases.targets:
        listed = _names_of(scheme, bases).get(name)
        if listed is not None:
            yield Entry(title=f"model {name}", text=listed, facts={"In a recipe": f"model: {name}"})
            return
        splits = _rows(name, found)
        row = {key: _short(value) for key, value in next(iter(splits.values()))[0].items()}
        yield Entry(
            title=f"data set {name}", text=_names_of(scheme, sources).get(name, ""),
            facts={"In a recipe": f"dataset: {{path: \"{name}\"}}",
                   "Rows": ", ".join(f"{len(rows):,} {split}" for split, rows in splits.items()), "First row": row},
        )  # fmt: skip
        return
    target = resolve(name)
    if isinstance(target, Task):
        yield from _of_task(name, target, found, title=f"task {name}", facts={})
    elif isinstance(target, type):
        yield _of_class(name, target)
    else:
        raise UnknownName(f"{name!r} is a {type(target).__name__}, which has no options. Name a class or a task.")


def _names_of(scheme: str, catalogue: Catalogue) -> dict[str, str]:
    """Return the names of a scheme, and what each is."""
    if scheme not in catalogue.targets:
        return {}
    names: dict[str, str] = _names_beside(catalogue.load(scheme), scheme=scheme).get("Names", {})
    return names
