"""Write a recipe with those keys alone that somebody chose, each with the reason for it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune import recipe

WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What was chosen for the user's own data."""

    dataset: Mapping[str, Any]
    """The section that reads them."""
    model: str | None = None
    """The base model; None for the one of the task's sample."""
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    """Options of the preprocessor that the form of the data needs; None for those to leave at their defaults."""
    only_for_sample: frozenset[str] = frozenset()
    """Options of the preprocessor that the sample of the task needs, and these data may not."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Options of the training that fit the size of the data."""
    why: Mapping[str, str] = field(default_factory=dict)
    """Key, with dots, → the reason for its value: ``{"dataset.columns.stars": "5 different values"}``."""


def write(content: Mapping[str, Any], *, head: list[str], why: Mapping[str, str]) -> str:
    """Return a recipe, with its reasons as comments.

    Args:
        content: The recipe, without empty sections.
        head: Sentences above it.
        why: Key, with dots, → the reason for its value.
    """
    lines = []
    for sentence in head:
        lines += _comment(sentence, 0)
    for key, value in content.items():
        lines += _lines(key, value, place=key, indent=0, why=why)
    return "\n".join(lines) + "\n"


def _lines(key: str, value: Any, *, place: str, indent: int, why: Mapping[str, str]) -> Iterator[str]:
    if place in why:
        yield from _comment(why[place], indent)
    is_section = isinstance(value, Mapping) and value and (indent == 0 or place.endswith(".columns"))
    if not is_section:
        flow = isinstance(value, Mapping | list | tuple)
        dumped = recipe.dump({key: value}, flow=True) if flow else recipe.dump({key: value})
        for line in dumped.splitlines():
            yield " " * indent + line
        return
    yield " " * indent + recipe.dump({key: None}).rstrip().removesuffix(" null")
    for name, inner in value.items():
        yield from _lines(name, inner, place=f"{place}.{name}", indent=indent + 2, why=why)


def _comment(text: str, indent: int) -> list[str]:
    return [
        f"{' ' * indent}# {line}"
        for line in textwrap.wrap(" ".join(text.split()), WIDTH - indent, break_on_hyphens=False)
    ]
