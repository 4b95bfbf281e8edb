"""The ``search`` section of a recipe: which keys a sweep changes, and to which values.

The section is read and checked here; `finetune tune` draws the values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune.errors import BadRecipe, did_you_mean, listed

_KEYS = ("low", "high", "log", "step", "values", "when")
SEARCHABLE = ("model", "strategy", "preprocessor", "training", "generation", "teacher")
"""Sections whose keys can be searched."""
_NOT_SEARCHABLE: Mapping[str, str] = {
    "seed": "a seed that is chosen by its score is luck; `finetune tune --seeds` trains the winner with several",
    "dataset": "scores on other rows cannot be compared",
    "evaluator": "scores of another evaluator cannot be compared",
    "metrics": "they change no model",
    "task": "scores of another task cannot be compared",
    "output": "each trial has its own folder",
}
"""Keys that cannot be searched although a recipe has them, and why."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One key of a recipe that is searched."""

    key: str
    """Dotted: ``training.learning_rate``."""
    values: tuple[Any, ...] = ()
    """What the key can be; empty for a range."""
    low: float = 0.0
    """The lower end of a range."""
    high: float = 0.0
    """The upper end of a range; it can be drawn, too."""
    log: bool = False
    """Whether the logarithm is drawn, so that 1e-5 to 1e-4 is as likely as 1e-4 to 1e-3."""
    step: float | None = None
    """Distance of the numbers that can be drawn; None for any."""
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other searched key → labels of its values (see `label`) with which this key is searched."""

    @property
    def is_whole(self) -> bool:
        """Whether the range holds whole numbers only."""
        return not self.values and isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the values."""
        return tuple(label(value) for value in self.values)

    def applies(self, chosen: Mapping[str, Any]) -> bool:
        """Return whether the key is searched, given the labels and numbers that are chosen for the keys before it."""
        return all(key in chosen and str(chosen[key]) in labels for key, labels in self.when.items())

    def value_of(self, chosen: Any) -> Any:
        """Return what the recipe gets for a label, or for a number of the range."""
        return self.values[self.labels.index(str(chosen))] if self.values else chosen

    def holds(self, value: Any) -> bool:
        """Return whether a value can be drawn."""
        if self.values:
            return label(value) in self.labels
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.is_whole and value != int(value):
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def ends(self) -> list[Any]:
        """Return the labels of the values, or the ends of the range."""
        return list(self.labels) if self.values else [self.low, self.high]


def label(value: Any) -> str:
    """Return the text by which a value is known: a mapping with nothing but a name has that name.

    >>> label("lora"), label({"name": "full"}), label({"name": "lora", "r": 4}), label(16), label(None)
    ('lora', 'full', '{"name": "lora", "r": 4}', '16', 'null')
    """
    if isinstance(value, Mapping) and set(value) == {"name"}:
        return str(value["name"])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def parse(section: Any, *, where: str = "search") -> tuple[Parameter, ...]:
    """Return the parameters of a ``search`` section, those that others depend on first.

    Args:
        section: Dotted key → a range ``{low, high, log, step}``, ``{values: [...]}`` or a list; each mapping can have
            ``when: {other key: value or list}``.
        where: What the section is, for error messages.

    Raises:
        BadRecipe: A key cannot be searched, a range is empty, or ``when`` names a key or a value that is not searched.
    """
    if not isinstance(section, Mapping):
        raise BadRecipe(f"{where}: write a mapping: {{training.learning_rate: {{low: 1e-5, high: 1e-3, log: true}}}}.")
    found = [_parameter(key, given, where=f"{where}: {key}") for key, given in section.items()]
    by_key = {each.key: each for each in found}
    for each in found:
        _check_when(each, by_key, where=f"{where}: {each.key}")
    return tuple(_in_order(found, where=where))


def _parameter(key: Any, given: Any, *, where: str) -> Parameter:
    if not isinstance(key, str) or not all(key.split(".")):
        raise BadRecipe(f"{where}: write a key of the recipe, such as training.learning_rate.")
    section = key.split(".")[0]
    if section in _NOT_SEARCHABLE:
        raise BadRecipe(f"{where}: {section} cannot be searched: {_NOT_SEARCHABLE[section]}.")
    if section not in SEARCHABLE:
        hint = did_you_mean(section, SEARCHABLE)
        raise BadRecipe(f"{where}: only keys of {', '.join(SEARCHABLE)} can be searched.{hint}")
    if key in ("training", "preprocessor", "generation"):
        raise BadRecipe(f"{where}: name the option, such as {key}.{_example(key)}.")
    if isinstance(given, list | tuple):
        return Parameter(key=key, values=_values(given, where=where))
    if not isinstance(given, Mapping):
        raise BadRecipe(f"{where}: {given!r} is neither a list of values nor a range {{low: …, high: …}}.")
    for name in given:
        if name not in _KEYS:
            known = ", ".join(_KEYS)
            raise BadRecipe(f"{where}: {name!r} is not a key of a space.{did_you_mean(name, _KEYS)} Write {known}.")
    when = _when(given.get("when"), where=where)
    if "values" in given:
        extra = [name for name in given if name not in ("values", "when")]
        if extra:
            raise BadRecipe(f"{where}: give either values or a range, not both: remove {', '.join(extra)}.")
        return Parameter(key=key, values=_values(given["values"], where=where), when=when)
    return _range(key, given, when, where=where)


def _example(section: str) -> str:
    return {"training": "learning_rate", "preprocessor": "max_length", "generation": "num_beams"}[section]


def _values(given: Any, *, where: str) -> tuple[Any, ...]:
    if not isinstance(given, list | tuple) or not given:
        raise BadRecipe(f"{where}: values must be a list with at least one value, not {given!r}.")
    labels = [label(value) for value in given]
    for name in labels:
        if labels.count(name) > 1:
            raise BadRecipe(f"{where}: the value {name} stands there twice. Remove one.")
    return tuple(given)


def _range(key: str, given: Mapping[str, Any], when: Mapping[str, tuple[str, ...]], *, where: str) -> Parameter:
    missing = [name for name in ("low", "high") if name not in given]
    if missing:
        raise BadRecipe(f"{where}: {' and '.join(missing)} is missing. Write {{low: …, high: …}} or {{values: [...]}}.")
    for name in ("low", "high", "step"):
        _check_number(given.get(name), where=f"{where}: {name}", optional=name == "step")
    low, high, log, step = given["low"], given["high"], given.get("log", False), given.get("step")
    if not isinstance(log, bool):
        raise BadRecipe(f"{where}: log must be true or false, not {log!r}.")
    if low >= high:
        raise BadRecipe(f"{where}: low is {low} and high is {high}. low must be less than high.")
    if log and low <= 0:
        raise BadRecipe(f"{where}: low is {low}. With log: true it must be greater than 0.")
    if log and step is not None:
        raise BadRecipe(f"{where}: step has no effect with log: true. Remove one of them.")
    if step is not None and not 0 < step <= high - low:
        raise BadRecipe(f"{where}: step is {step}. It must be greater than 0 and at most high - low.")
    whole = isinstance(low, int) and isinstance(high, int) and (step is None or isinstance(step, int))
    if not whole:
        low, high = float(low), float(high)
    return Parameter(key=key, low=low, high=high, log=log, step=step, when=when)


def _check_number(value: Any, *, where: str, optional: bool) -> None:
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadRecipe(f"{where} must be a number, not {value!r}.")


def _when(given: Any, *, where: str) -> dict[str, tuple[str, ...]]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not given:
        raise BadRecipe(f"{where}: when must name another searched key and its value: {{strategy: lora}}.")
    found = {}
    for key, values in given.items():
        wanted = values if isinstance(values, list | tuple) else [values]
        found[str(key)] = tuple(label(value) for value in wanted)
    return found


def _check_when(parameter: Parameter, by_key: Mapping[str, Parameter], *, where: str) -> None:
    for key, labels in parameter.when.items():
        other = by_key.get(key)
        if other is None or other is parameter:
            hint = did_you_mean(key, [each for each in by_key if each != parameter.key])
            raise BadRecipe(f"{where}: when: {key!r} is not another key of the search section.{hint}")
        if not other.values:
            raise BadRecipe(f"{where}: when: {key!r} is a range. It must have a list of values.")
        for name in labels:
            if name not in other.labels:
                hint = did_you_mean(name, other.labels)
                raise BadRecipe(
                    f"{where}: when: {name!r} is not a value of {key!r}.{hint} Its values are {listed(other.labels)}."
                )


def _in_order(found: Iterable[Parameter], *, where: str) -> list[Parameter]:
    """Return the parameters so that each comes after those that its ``when`` names, and a key after its section."""
    left = sorted(found, key=lambda each: each.key.count("."))
    ordered: list[Parameter] = []
    while left:
        known = {each.key for each in ordered}
        ready = [each for each in left if set(each.when) <= known]
        if not ready:
            raise BadRecipe(f"{where}: {', '.join(each.key for each in left)}: `when` goes round in a circle.")
        ordered += ready
        left = [each for each in left if each not in ready]
    return ordered


def apply(content: Mapping[str, Any], parameters: Iterable[Parameter], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe, as plain mappings, with the chosen values.

    A value of ``strategy`` or ``model`` replaces the whole section, as an override on the command line does.

    Args:
        content: The recipe.
        parameters: As `parse` returned them.
        chosen: Key → label or number, for the keys that apply.

    >>> space = parse({"strategy": ["full", "lora"], "strategy.r": {"values": [4, 8], "when": {"strategy": "lora"}}})
    >>> apply({"strategy": {"name": "full"}}, space, {"strategy": "lora", "strategy.r": "8"})
    {'strategy': {'name': 'lora', 'r': 8}}
    """
    changed = dict(content)
    for parameter in parameters:
        if parameter.key not in chosen:
            continue
        value = parameter.value_of(chosen[parameter.key])
        section, *path = parameter.key.split(".")
        if section == "strategy" and not path and isinstance(value, str):
            value = {"name": value}
        if section == "model" and not path and isinstance(value, str):
            value = {"path": value}
        changed[section] = _with(changed.get(section), path, value)
    return changed


def _with(content: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    below = dict(content) if isinstance(content, Mapping) else {}
    below[path[0]] = _with(below.get(path[0]), path[1:], value)
    return below
