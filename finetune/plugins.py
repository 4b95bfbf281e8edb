"""Discover plugins, and look up the names that they provide.

The same rule applies everywhere, also in recipes: a name with a colon is Python
(``my_module:MyStrategy``); a name without a colon is looked up in the catalogue of its kind.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pluggy

from finetune import hookspecs, trust
from finetune.errors import BrokenPlugin, DuplicateName, FinetuneError, MissingLibrary, UnknownName, did_you_mean
from finetune.interfaces import Strategy
from finetune.user_code import described

GROUP = "finetune"
"""The entry-point group of plugins."""

SWITCH = "FINETUNE_LOAD_PLUGINS"
"""Environment variable: comma-separated names of the only plugins to load; empty for none."""

EVERY = "*"
"""Key of `requirements` that stands for every name of a plugin."""

Libraries = Mapping[str, str]
"""Module → what ``pip install`` takes to install it: ``{"peft": "finetune-kit[peft]"}``."""


def add_recipe_folder(recipe: Path) -> None:
    """Let a recipe name the Python modules in its folder, ``my_module:load``.

    Only `finetune check`, `finetune plan` and `finetune train` call this, for the recipe file that the user names. The
    recipe in a run folder adds nothing without ``--trust-code``: such a folder may come from somebody else, and a
    library could import one of its files in the place of an optional module. Commands that load a run take
    ``--modules``.
    """
    if trust.is_own(recipe):
        add_folder(recipe.resolve().parent)


def add_folder(folder: Path) -> None:
    """Let Python find the modules in a folder that the user names.

    The folder comes last on ``sys.path``, so no file in it takes the place of an installed module.
    """
    path = str(folder.resolve())
    if path not in sys.path:
        sys.path.append(path)
    _added.pop(path, None)
    _added[path] = None


_added: dict[str, None] = {}
"""The folders that users named in this process; the latest is last."""


def _hidden(module_name: str) -> tuple[str, str] | None:
    """Return the file of a module, and the file of the latest folder that it hides; else None.

    Python keeps a module once imported, so the ``mine.py`` of a second recipe would be that of the first.
    """
    first = module_name.partition(".")[0]
    if not _added or (origin := getattr(sys.modules.get(first), "__file__", None)) is None:
        return None
    *earlier, latest = ([Path(folder, f"{first}.py"), Path(folder, first, "__init__.py")] for folder in _added)
    found = Path(origin).resolve()
    own = next((place for place in latest if place.is_file()), found)
    is_of_another = any(found in places for places in earlier)  # an installed module may be below such a folder
    return (str(found), str(own)) if own != found and is_of_another else None


def resolve(target: Any) -> Any:
    """Import the object that ``"module:attribute"`` names; return anything that is not text as it is.

    Raises:
        UnknownName: The module or its attribute does not exist.
        BrokenPlugin: The module needs another module that is not installed, or raises an error.
    """
    if not isinstance(target, str):
        return target
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise BrokenPlugin(
                f"{target!r} needs the module {error.name!r}, which is not installed. Install it with pip."
            ) from error
        raise UnknownName(
            f"{target!r}: there is no module {error.name!r}. A name with a colon is Python, 'module:attribute', and "
            "the module must be installed, in the folder of the recipe, or in a folder of PYTHONPATH. For a run, "
            "--modules names its folder."
        ) from error
    except FinetuneError:
        raise
    except Exception as error:  # the module can raise any error while it is imported
        raise BrokenPlugin(f"{target!r} cannot be imported: {described(error)}.") from error
    if hidden := _hidden(module_name):
        raise BrokenPlugin(
            f"{target!r}: this Python process has already imported {hidden[0]}, and a module is imported once. "
            f"To use {hidden[1]}, start a new process, or give one of the two files another name."
        )
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        public = [name for name in vars(module) if not name.startswith("_")]
        raise UnknownName(
            f"{target!r}: {getattr(module, '__file__', None) or 'the module'} has no {attribute!r}."
            f"{did_you_mean(attribute, public)}"
        ) from error


def find_code(name: str, *, where: str) -> Any:
    """Import what a recipe names as ``"module:attribute"``.

    Args:
        name: The name.
        where: The section that holds it, for messages.

    Raises:
        UntrustedCode: Only a run folder names it; see `finetune.trust`.
        UnknownName: The module or its attribute does not exist.
        BrokenPlugin: The module needs another module that is not installed, or raises an error.
    """
    trust.require(name, where=where)
    found = resolve(name)
    trust.require_own(found, name, where=where)
    return found


def class_path(cls: Any) -> str:
    """Return where a class is defined, as ``"module:Class"``."""
    return f"{cls.__module__}:{cls.__qualname__}"


def is_strategy(target: Any) -> bool:
    """Return whether a target is a class of strategies."""
    return isinstance(target, type) and issubclass(target, Strategy)


@dataclass(frozen=True)
class Catalogue:
    """The names of one kind, and the plugin that provides each."""

    kind: str
    targets: Mapping[str, Any] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    """Plugins that could not be loaded: name → why."""
    missing: Mapping[str, Libraries] = field(default_factory=dict)
    """Names that need a library which is not installed: name → these libraries."""

    @property
    def available(self) -> dict[str, Any]:
        """The targets whose libraries are all installed, by name."""
        return {name: target for name, target in self.targets.items() if name not in self.missing}

    def problem(self, name: str) -> str:
        """Return what a name needs and how to install it; an empty text if nothing is missing."""
        return describe_missing(self.missing[name]) if name in self.missing else ""

    def find(self, name: str) -> Any:
        """Return what a name stands for.

        Raises:
            UnknownName: No plugin provides it; the message names the nearest, and the plugins that
                are broken.
            MissingLibrary: It needs a library that is not installed; the message has the command
                that installs it.
            UntrustedCode: It is Python code that only a run folder names.
        """
        if ":" in name:
            return find_code(name, where=self.kind)
        if name not in self.targets:
            broken = "".join(f" Plugin {plugin!r} is broken: {why}." for plugin, why in self.broken.items())
            error = BrokenPlugin if broken and not did_you_mean(name, self.targets) else UnknownName
            raise error(
                f"unknown {self.kind} {name!r}.{did_you_mean(name, self.targets)} "
                f"Installed: {', '.join(sorted(self.targets)) or 'none'}.{broken}"
            )
        return self.load(name)

    def load(self, name: str) -> Any:
        """Return what a name of this catalogue stands for, also one that ends with a colon.

        Raises:
            MissingLibrary: It needs a library that is not installed.
        """
        if name in self.missing:
            raise MissingLibrary(f"{self.kind} {name!r} {self.problem(name)}")
        target = self.targets[name]
        return resolve(target.target if isinstance(target, hookspecs.Command) else target)


@dataclass(frozen=True)
class Plugins:
    """What discovery found: working plugins, and why the others do not work."""

    manager: pluggy.PluginManager
    distributions: Mapping[str, str]
    """Plugin → the distribution that brought it."""
    broken: Mapping[str, str]
    """Plugin → why it could not be loaded."""
    requirements: Mapping[str, Mapping[str, Libraries]] = field(default_factory=dict)
    """Plugin → name → the libraries that it needs."""

    @cached_property
    def catalogues(self) -> Mapping[str, Catalogue]:
        """One catalogue for each hook that returns names.

        Raises:
            DuplicateName: Two plugins provide the same name.
        """
        return {hook: self._catalogue(hook, kind) for hook, kind in hookspecs.COLLECTING.items()}

    def find(self, hook: str, name: str) -> Any:
        """Return what a name of one kind stands for: ``find("strategies", "lora")``."""
        if ":" in name and hook in {"preprocessors", "evaluators", "strategies"} and self.provides(hook, name):
            return resolve(name)  # the recipe of a run names the class
        return self.catalogues[hook].find(name)

    def provides(self, hook: str, path: str) -> bool:
        """Return whether a class, named as ``"module:Class"``, is one of a hook or the default of a task.

        Args:
            hook: ``"preprocessors"``, ``"evaluators"`` or ``"strategies"``, which can be any of a plugin's package.
            path: Where the class is defined; the plugin can offer it under another path.
        """
        package = path.partition(":")[0].partition(".")[0]
        if hook == "strategies":  # a merged run, or a model of another program, has one that no recipe can name
            plugins = {
                str(target).partition(":")[0].partition(".")[0] for target in self.catalogues[hook].targets.values()
            }
            return package in {*plugins, "finetune"} and is_strategy(resolve(path))
        section = hook.removesuffix("s")
        targets = list(self.catalogues[hook].available.values())
        targets += [getattr(task, section, None) for task in self.catalogues["tasks"].available.values()]
        if path in targets:
            return True
        for target in targets:
            if isinstance(target, str) and target.partition(":")[0].partition(".")[0] != package:
                continue  # do not import other plugins
            if target is not None and class_path(resolve(target)) == path:
                return True
        return False

    def announce(self, hook: str, **arguments: Any) -> None:
        """Call a ``before_x`` or ``after_x`` hook in every plugin, except those that lack a library of ``"*"``."""
        disabled = [self.manager.get_plugin(plugin) for plugin in self.requirements if self._missing(plugin, EVERY)]
        self.manager.subset_hook_caller(hook, remove_plugins=disabled)(**arguments)

    def _missing(self, plugin: str, name: str) -> Libraries:
        """Return the libraries that a name of a plugin needs and that are not installed."""
        declared = self.requirements.get(plugin, {})
        needed = {**declared.get(EVERY, {}), **declared.get(name, {})}
        return not_installed(needed)

    def _catalogue(self, hook: str, kind: str) -> Catalogue:
        targets: dict[str, Any] = {}
        owners: dict[str, str] = {}
        missing: dict[str, Libraries] = {}
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            owner = implementation.plugin_name
            for name, target in implementation.function().items():
                if name in targets:
                    raise DuplicateName(
                        f"{kind} {name!r} is provided by both {self._who(owners[name])} and {self._who(owner)}. "
                        f"Uninstall one, or name the plugins to load in {SWITCH}."
                    )
                targets[name] = target
                owners[name] = owner
                if lacking := self._missing(owner, name):
                    missing[name] = lacking
        return Catalogue(kind, targets, owners, self.broken, missing)

    def _who(self, plugin: str) -> str:
        return f"plugin {plugin!r} of {self.distributions.get(plugin, 'unknown')}"


def discover(group: str = GROUP) -> Plugins:
    """Load the plugins of an entry-point group; one that cannot be loaded is listed in `broken` with the reason."""
    manager = pluggy.PluginManager("finetune")
    manager.add_hookspecs(hookspecs)
    distributions: dict[str, str] = {}
    broken: dict[str, str] = {}
    requirements: dict[str, Mapping[str, Libraries]] = {}
    for entry in _wanted(group):
        distribution = entry.dist.name if entry.dist else "unknown"
        if entry.name in distributions:
            if distributions[entry.name] == distribution:
                continue  # an editable install seen twice on sys.path
            raise DuplicateName(
                f"plugin {entry.name!r} is provided by both {distributions[entry.name]} and {distribution}. "
                "Uninstall one."
            )
        distributions[entry.name] = distribution
        try:
            manager.register(entry.load(), name=entry.name)
            manager.check_pending()
            names = _ask(manager, entry.name)
            requirements[entry.name] = _requirements(manager, entry.name, names)
        except Exception as error:  # noqa: BLE001, a plugin can raise any error; `finetune list` shows it
            if manager.has_plugin(entry.name):
                manager.unregister(name=entry.name)
            broken[entry.name] = f"{type(error).__name__}: {error}"
    return Plugins(manager, distributions, broken, requirements)


def not_installed(libraries: Libraries) -> dict[str, str]:
    """Return those libraries that are not installed; none is imported."""
    return {module: package for module, package in libraries.items() if find_spec(module) is None}


def describe_missing(libraries: Libraries) -> str:
    """Return what is missing, and the command that installs it.

    >>> describe_missing({"peft": "finetune-kit[peft]"})
    "needs peft, which is not installed. Install it: pip install 'finetune-kit[peft]'"
    >>> describe_missing({"peft": "finetune-kit[qlora]", "bitsandbytes": "finetune-kit[qlora]"})
    "needs peft and bitsandbytes, which are not installed. Install them: pip install 'finetune-kit[qlora]'"
    """
    verb, them = ("is", "it") if len(libraries) == 1 else ("are", "them")
    packages = dict.fromkeys(libraries.values())
    command = " ".join(f"'{package}'" for package in packages)
    return f"needs {' and '.join(libraries)}, which {verb} not installed. Install {them}: pip install {command}"


def _ask(manager: pluggy.PluginManager, plugin: str) -> set[str]:
    """Call each hook of a plugin, so that a broken plugin is found before it is needed.

    Returns:
        Every name that it provides.
    """
    names: set[str] = set()
    for hook in hookspecs.COLLECTING:
        for answer in _answers(manager, plugin, hook):
            names.update(answer)
    return names


def _requirements(manager: pluggy.PluginManager, plugin: str, names: set[str]) -> Mapping[str, Libraries]:
    """Return what a plugin declares that its names need.

    Raises:
        ValueError: It declares something about a name that it does not provide, or names no top-level
            module.
    """
    declared: dict[str, Libraries] = {}
    for answer in _answers(manager, plugin, "requirements"):
        declared.update(answer)
    for name, libraries in declared.items():
        if name not in {*names, EVERY}:
            raise ValueError(
                f"requirements() names {name!r}, which the plugin does not provide.{did_you_mean(name, names)}"
            )
        for module in libraries:
            if not module.isidentifier():  # looking up a module inside a package would import the package
                raise ValueError(f"requirements() names {module!r}; write a top-level module, without dots")
    return declared


def _answers(manager: pluggy.PluginManager, plugin: str, hook: str) -> Iterator[Mapping[str, Any]]:
    for implementation in getattr(manager.hook, hook).get_hookimpls():
        if implementation.plugin_name != plugin:
            continue
        answer = implementation.function()
        if not isinstance(answer, Mapping):
            raise TypeError(f"{hook}() returns {type(answer).__name__}, not a mapping of names")
        yield answer


def _wanted(group: str) -> list[EntryPoint]:
    """Return the entry points that the switch lets through, in order of their names."""
    found = sorted(entry_points(group=group), key=lambda entry: entry.name)
    switch = os.environ.get(SWITCH)
    if switch is None:
        return found
    wanted = {name.strip() for name in switch.split(",") if name.strip()}
    missing = wanted - {entry.name for entry in found}
    if missing:
        raise UnknownName(
            f"{SWITCH} names {', '.join(sorted(map(repr, missing)))}, which is not installed. "
            f"Installed: {', '.join(entry.name for entry in found) or 'none'}."
        )
    return [entry for entry in found if entry.name in wanted]
