"""Find plugins, keep what they bring, and answer a misspelt name with the nearest.

One rule everywhere, recipes included: a name with a colon is Python (``my_module:MyStrategy``), a name without is
looked up in the catalogue of its kind.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from finetune import hookspecs
from finetune.errors import BrokenPlugin, DuplicateName, UnknownName, did_you_mean

GROUP = "finetune"
"""The entry-point group."""

SWITCH = "FINETUNE_LOAD_PLUGINS"
"""Environment variable: comma-separated names of the only plugins to load; empty for none."""


def resolve(target: Any) -> Any:
    """Return what ``"module:attribute"`` names; anything else is already resolved.

    Raises:
        UnknownName: The module or its attribute does not exist.
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
            f"{target!r}: there is no module {error.name!r}. A name with a colon is Python, 'module:attribute'; "
            "the module must be importable from here."
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        public = [name for name in vars(module) if not name.startswith("_")]
        raise UnknownName(
            f"{target!r}: module {module_name!r} has no {attribute!r}.{did_you_mean(attribute, public)}"
        ) from error


@dataclass(frozen=True)
class Catalogue:
    """The names of one kind, and who brought each."""

    kind: str
    targets: Mapping[str, Any] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    """Plugins that could not be loaded: name → why."""

    def find(self, name: str) -> Any:
        """Return what a name stands for.

        Raises:
            UnknownName: No plugin brings it; the message names the nearest, and the plugins that are broken.
        """
        if ":" in name:
            return resolve(name)
        if name not in self.targets:
            broken = "".join(f" Plugin {plugin!r} is broken: {why}." for plugin, why in self.broken.items())
            error = BrokenPlugin if broken and not did_you_mean(name, self.targets) else UnknownName
            raise error(
                f"unknown {self.kind} {name!r}.{did_you_mean(name, self.targets)} "
                f"Installed: {', '.join(sorted(self.targets)) or 'none'}.{broken}"
            )
        return resolve(self.targets[name])


@dataclass(frozen=True)
class Plugins:
    """What discovery found: working plugins, and why the others do not work."""

    manager: pluggy.PluginManager
    distributions: Mapping[str, str]
    """Plugin → the distribution that brought it."""
    broken: Mapping[str, str]
    """Plugin → why it could not be loaded."""

    @cached_property
    def catalogues(self) -> Mapping[str, Catalogue]:
        """One catalogue for every hook that asks.

        Raises:
            DuplicateName: Two plugins bring one name.
        """
        return {hook: self._catalogue(hook, kind) for hook, kind in hookspecs.ASKING.items()}

    def find(self, hook: str, name: str) -> Any:
        """Return what a name of one kind stands for: ``find("strategies", "lora")``."""
        return self.catalogues[hook].find(name)

    def _catalogue(self, hook: str, kind: str) -> Catalogue:
        targets: dict[str, Any] = {}
        owners: dict[str, str] = {}
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            owner = implementation.plugin_name
            for name, target in implementation.function().items():
                if name in targets:
                    raise DuplicateName(
                        f"{kind} {name!r} is brought by both {self._who(owners[name])} and {self._who(owner)}. "
                        f"Uninstall one, or name the plugins to load in {SWITCH}."
                    )
                targets[name] = target
                owners[name] = owner
        return Catalogue(kind, targets, owners, self.broken)

    def _who(self, plugin: str) -> str:
        return f"plugin {plugin!r} of {self.distributions.get(plugin, 'unknown')}"


def discover(group: str = GROUP) -> Plugins:
    """Load the plugins of an entry-point group; one that cannot be loaded is kept aside with its reason."""
    manager = pluggy.PluginManager("finetune")
    manager.add_hookspecs(hookspecs)
    distributions: dict[str, str] = {}
    broken: dict[str, str] = {}
    for entry in _wanted(group):
        distribution = entry.dist.name if entry.dist else "unknown"
        if entry.name in distributions:
            if distributions[entry.name] == distribution:
                continue  # an editable install seen twice on sys.path
            raise DuplicateName(
                f"plugin {entry.name!r} is brought by both {distributions[entry.name]} and {distribution}. "
                "Uninstall one."
            )
        distributions[entry.name] = distribution
        try:
            manager.register(entry.load(), name=entry.name)
            manager.check_pending()
            _ask(manager, entry.name)
        except Exception as error:  # noqa: BLE001, whatever a stranger's module may raise; `finetune list` shows it
            if manager.has_plugin(entry.name):
                manager.unregister(name=entry.name)
            broken[entry.name] = f"{type(error).__name__}: {error}"
    return Plugins(manager, distributions, broken)


def _ask(manager: pluggy.PluginManager, plugin: str) -> None:
    """Ask a plugin everything once, so that one that cannot answer is known to be broken before it is needed."""
    for hook in hookspecs.ASKING:
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.plugin_name == plugin and not isinstance(answer := implementation.function(), Mapping):
                raise TypeError(f"{hook}() returns {type(answer).__name__}, not a mapping of names")


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
