"""Check the values of PEFT's options against the types that its configurations declare; PEFT checks few of them."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from peft import PeftConfig
from pydantic import TypeAdapter, ValidationError


def check_values(method: type[PeftConfig], options: Mapping[str, Any]) -> None:
    """Check that options have the types of the fields of a configuration.

    Args:
        method: PEFT's configuration.
        options: Name of a field → value.

    Raises:
        ValueError: One has another type. The message has what is wanted, and what was given.
    """
    hints = typing.get_type_hints(method)
    for name, value in options.items():
        problem = _problem(hints[name], value)
        if problem:
            raise ValueError(f"config: {name!r} of {method.__name__} {problem}, not {value!r}.")


def _problem(hint: Any, value: Any) -> str:
    """Return what is wrong with a value, or an empty text."""
    adapter: TypeAdapter[Any] = TypeAdapter(hint)
    try:
        adapter.validate_python(value, strict=not isinstance(value, list))  # YAML has lists only, PEFT has tuples, too
    except ValidationError:
        return f"must be {_words(hint)}"
    return ""


def _words(hint: Any) -> str:
    """Return a type in the words of a recipe: ``a whole number or a list of whole numbers``."""
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
    if hint in names:
        return names[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is list:
        return f"a list of which each is {_words(inner[0])}"
    if origin is dict or hint is dict:
        return "a mapping"
    if inner:
        return " or ".join(
            dict.fromkeys(sorted((_words(each) for each in inner), key=lambda words: (words == "null", len(words))))
        )
    return f"a {getattr(hint, '__name__', hint)}"
