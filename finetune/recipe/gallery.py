"""Complete recipes that plugins bring, each for one kind of data: files in the folder `gallery` of their package."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from finetune.errors import UnknownName, did_you_mean
from finetune.plugins import Plugins
from finetune.recipe.strict_yaml import dump, load

FOLDER = "gallery"
_PATH = re.compile(r"(?m)^(dataset:\n(?:  #.*\n)*  path: ).*$")
_OUTPUT = re.compile(r"(?m)^(output: ).*$")


@dataclass(frozen=True, kw_only=True)
class Ready:
    """One recipe of the gallery."""

    name: str
    """Name of its file, without the suffix."""
    plugin: str
    """The plugin that brings it."""
    text: str
    """The recipe, with comments."""

    @property
    def content(self) -> dict[str, Any]:
        """The recipe as plain mappings."""
        content: dict[str, Any] = load(self.text, name=self.name)
        return content

    @property
    def task(self) -> str:
        """Its task."""
        return str(self.content["task"])

    @property
    def title(self) -> str:
        """The first line of its comment, without its point."""
        return self.text.splitlines()[0].lstrip("# ").rstrip(".")

    def with_paths(self, *, data: str | None, output: str | None) -> str:
        """Return the recipe for other data, or with another folder of the run; comments stay.

        Args:
            data: Path of the data; None for the one that it names.
            output: Folder of the run; None for the one that it names.
        """
        text = self.text
        for pattern, value in ((_PATH, data), (_OUTPUT, output)):
            if value is not None:
                written = dump({"x": value}).rstrip("\n").removeprefix("x: ")
                text = pattern.sub(lambda found, written=written: found[1] + written, text, count=1)  # type: ignore[misc]
        return text


def found(plugins: Plugins) -> list[Ready]:
    """Return the recipes of all plugins, by name."""
    recipes = [
        recipe for plugin in plugins.distributions if plugin not in plugins.broken for recipe in _of(plugin, plugins)
    ]
    return sorted(recipes, key=lambda recipe: recipe.name)


def find(name: str, plugins: Plugins) -> Ready:
    """Return the recipe with a name.

    Raises:
        UnknownName: There is none; the message lists all.
    """
    recipes = {recipe.name: recipe for recipe in found(plugins)}
    if name not in recipes:
        raise UnknownName(
            f"there is no ready recipe {name!r}.{did_you_mean(name, recipes)} There are: {', '.join(recipes)}."
        )
    return recipes[name]


def _of(plugin: str, plugins: Plugins) -> Iterator[Ready]:
    module = plugins.manager.get_plugin(plugin)
    package = getattr(module, "__package__", None)
    if not package:
        return
    importlib.import_module(package)
    folder = files(package) / FOLDER
    if not folder.is_dir():
        return
    for file in folder.iterdir():
        if file.name.endswith(".yaml"):
            yield Ready(name=file.name.removesuffix(".yaml"), plugin=plugin, text=file.read_text(encoding="utf-8"))
