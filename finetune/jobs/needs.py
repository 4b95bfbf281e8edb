"""What a recipe needs on another machine: packages, and files of this one."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from finetune import gguf, result
from finetune.models import PACKAGE
from finetune.plugins import EVERY, Plugins
from finetune.recipe import Recipe, parts, to_mapping

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?")


def packages(recipe: Recipe | None, plugins: Plugins, own_extras: Iterable[str] = ()) -> list[str]:
    """Return what ``pip install`` needs to run a recipe: ``["finetune-kit[llm]==0.1.0"]``.

    Each package has the version that is installed here.

    Args:
        recipe: The recipe; None for the library alone.
        plugins: The plugins that it names things of.
        own_extras: Extras of finetune-kit that are needed besides.

    Raises:
        UnknownName: No plugin provides what the recipe names.
    """
    extras: dict[str, set[str]] = {result.DISTRIBUTION: set(own_extras)}
    for hook, name in _names(recipe) if recipe is not None else ():
        catalogue = plugins.catalogues[hook]
        scheme, colon, _ = name.partition(":")
        known = name if name in catalogue.targets else f"{scheme}{colon}"
        if known not in catalogue.targets:
            if not colon:
                catalogue.find(name)  # raises an error that names the nearest
            continue  # Python of the user
        owner = catalogue.owners[known]
        extras.setdefault(plugins.distributions[owner], set())
        declared = plugins.requirements.get(owner, {})
        for requirement in {**declared.get(EVERY, {}), **declared.get(known, {})}.values():
            package, extra = _REQUIREMENT.match(requirement).groups()  # type: ignore[union-attr]  # plugins.py checked it
            extras.setdefault(package, set()).update(extra.split(",") if extra else ())
    if recipe is not None and gguf.is_one(recipe.model.path):
        extras[result.DISTRIBUTION].add("llm")
    if recipe is not None and recipe.model.path.startswith(PACKAGE):
        module = recipe.model.path.removeprefix(PACKAGE).partition("/")[0].partition(".")[0]
        for distribution in packages_distributions().get(module, ())[:1]:
            extras.setdefault(distribution, set())
    return [_pinned(package, sorted(wanted)) for package, wanted in extras.items()]


def versions() -> list[str]:
    """Return constraints for pip: the installed versions of what finetune uses."""
    found = []
    for package, installed in result.versions().items():
        if package != result.DISTRIBUTION:
            found.append(f"{package}=={installed.partition('+')[0]}")  # 2.13.0+cpu is on no index
    return found


def away_from(recipe: Recipe, folder: Path) -> list[str]:
    """Return the files and folders of this machine that a recipe reads: data, models, and modules next to the recipe.

    Args:
        recipe: The recipe.
        folder: Where the recipe lies.
    """
    sources = [recipe.dataset, *(source for source, _ in parts(recipe.dataset).values())]
    places = list(_texts([recipe.model.path, recipe.model.tokenizer, [source.path for source in sources]]))
    content = to_mapping(recipe)
    for key in ("general_text", "preprocessor", "evaluator", "strategy"):
        places += [text for text in _texts(content[key]) if "/" in text or "." in text]
    found: dict[str, None] = {}
    for text in places:
        path = os.path.expanduser(text)
        if os.path.exists(path) or glob.glob(path):  # a pattern stands for its files
            found[text] = None
    for text in _texts(content):
        module, colon, _ = text.partition(":")
        if colon and module.isidentifier() and (folder / f"{module}.py").is_file():
            found[str(folder / f"{module}.py")] = None
    return list(found)


def missing_files(recipe: Recipe, plugins: Plugins) -> list[str]:
    """Return the data files that a recipe names and that are not on this machine."""
    from finetune.data import sources  # loads datasets, which takes seconds
    from finetune.data.readers.formats import Formats

    found: dict[str, None] = {}
    for source in [recipe.dataset, *(source for source, _ in parts(recipe.dataset).values())]:
        if not source.path:  # the data set is a mixture
            continue
        for place in sources.missing(source, formats=Formats(plugins)):
            found[place] = None
    return list(found)


def _names(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield the hook and the name of each thing that plugins provide and a recipe names."""
    yield "tasks", recipe.task
    yield "strategies", recipe.strategy.name
    for hook, choice in (("preprocessors", recipe.preprocessor), ("evaluators", recipe.evaluator)):
        if choice is not None and choice.name:
            yield hook, choice.name
    for metric in recipe.metrics:
        yield "metrics", metric


def _pinned(package: str, extras: list[str]) -> str:
    """Return a requirement with the installed version of its package."""
    wanted = f"{package}[{','.join(extras)}]" if extras else package
    try:
        return f"{wanted}=={version(package)}"
    except PackageNotFoundError:  # what a plugin needs, and this machine lacks
        return wanted


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
