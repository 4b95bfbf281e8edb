"""Strict YAML: values that people misread are refused, with line and column."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import yaml

from finetune.errors import BadRecipe

LARGEST = 1_000_000
"""Longest recipe, in characters."""

MOST_VALUES = 50_000
"""Most keys and values of a recipe; PyYAML reads about 20,000 in a second."""

MOST_DIGITS = 100
"""Most digits of an integer. Python refuses to convert over 4,300."""


def dump(content: Any, *, flow: bool = False) -> str:
    """Return plain mappings as YAML. `load` returns the same mappings from it, whatever their texts hold.

    Args:
        content: The mappings.
        flow: Whether to write the innermost ones on one line: ``{a: 1, b: 2}``.

    Raises:
        BadRecipe: `load` would refuse it, because it is too long or has too many values.
    """
    found = _count(content)
    if found > MOST_VALUES:
        raise BadRecipe(
            f"the recipe has {found:,} keys and values, with every option and label. It can have at most "
            f"{MOST_VALUES:,}."
        )
    style = None if flow else False
    text: str = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=style
    )
    if len(text) > LARGEST:
        raise BadRecipe(
            f"the recipe has {len(text):,} characters, with every option and label. It can have at most {LARGEST:,}."
        )
    return text


def _count(content: Any) -> int:
    """Return how many keys and values plain mappings have, themselves included."""
    if isinstance(content, Mapping):
        return 1 + len(content) + sum(_count(value) for value in content.values())
    if isinstance(content, list | tuple):
        return 1 + sum(_count(value) for value in content)
    return 1


def scalar(text: str, *, style: Literal['"', "|"] = '"') -> str:
    """Return text as one YAML value, to be put into a file by a template.

    Args:
        text: Any text.
        style: ``"`` for one line in double quotes; ``|`` for a block of lines that are indented by two, if YAML can
            hold the text so, and else one line.

    >>> print(scalar("runs/a: b #1"))
    "runs/a: b #1"
    >>> print(scalar("a: 1\\nb: 2\\n", style="|"))
    |
      a: 1
      b: 2
    """
    written: str = yaml.dump(text, Dumper=_Dumper, default_style=style, allow_unicode=True, width=math.inf)
    return written.removesuffix("\n").removesuffix("\n...")


def load(text: str, *, name: str = "recipe") -> Any:
    """Read YAML strictly.

    Duplicate keys, tabs, aliases, tags, ``yes`` and ``no`` (words or booleans), more than a million characters, and
    more than 50,000 keys and values are errors. ``2e-5`` is a number, as in YAML 1.2.

    Args:
        text: The YAML.
        name: What the text is, for error messages: the path of a file.

    Examples:
        >>> load("learning_rate: 2e-5")
        {'learning_rate': 2e-05}

    Raises:
        BadRecipe: The text is not strict YAML. The message gives line and column.
    """
    if len(text) > LARGEST:
        raise BadRecipe(f"{name} has {len(text):,} characters. A recipe has at most {LARGEST:,}.")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = (error.problem or str(error)).removeprefix("found character '\\t' that cannot start any token")
        raise BadRecipe(f"{name}{place}: {problem or 'a tab cannot indent. Use spaces'}.") from error
    except yaml.YAMLError as error:
        raise BadRecipe(f"{name}: {error}") from error
    except RecursionError as error:
        raise BadRecipe(f"{name}: the values are nested too deeply.") from error


class _Loader(yaml.SafeLoader):
    """YAML with the numbers and booleans of YAML 1.2, without aliases, tags and duplicate keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012, yaml's own attribute

    values = 0
    """How many keys and values were read."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark: Any = event.start_mark
        self.values += 1
        if self.values > MOST_VALUES:
            problem = f"a recipe has at most {MOST_VALUES:,} keys and values"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="an alias (*) is not allowed. Write the value again", problem_mark=mark)
        if event.tag is not None:
            raise yaml.MarkedYAMLError(
                problem="a tag (!) is not allowed. Write the value without it, or put the text in quotes",
                problem_mark=mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.MarkedYAMLError(
                    problem="a key must be a plain value, not a list or a mapping", problem_mark=key_node.start_mark
                )
            if key in seen:
                problem = f"the key {key!r} is repeated. Keep one of them"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key)
        return dict(super().construct_mapping(node, deep=deep))

    def construct_integer(self, node: Any) -> int:
        if len(node.value) > MOST_DIGITS:
            problem = f"the number has {len(node.value):,} digits. Write at most {MOST_DIGITS}, or put it in quotes"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return int(node.value)

    def construct_ambiguous(self, node: Any) -> Any:
        raise yaml.MarkedYAMLError(
            problem=f"{node.value!r} can mean a word or a boolean. Write true or false, or put it in quotes",
            problem_mark=node.start_mark,
        )


_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)$")  # 010 stays text: no octal
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$|[-+]?\.inf$|\.nan$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|)$"), ["~", "n", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|false|True|False)$"), list("tTfF"))
_Loader.add_implicit_resolver("!ambiguous", re.compile(r"(?i:yes|no|on|off|y|n)$"), list("yYnNoO"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
_Loader.add_constructor("!ambiguous", _Loader.construct_ambiguous)


class _Dumper(yaml.SafeDumper):
    """Puts a string in quotes if this loader or another one would not read it back as the same string."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    node = dumper.represent_str(text)
    resolvers = (pattern for found in _Loader.yaml_implicit_resolvers.values() for _, pattern in found)
    if not node.style and any(pattern.match(text) for pattern in resolvers):
        node.style = "'"
    if not text.replace("\n", "").isprintable():
        # PyYAML writes U+0085, U+2028 and U+2029 without quotes or escapes, and reads them as line
        # ends.
        node.style = '"'
    return node


def _represent_float(dumper: yaml.SafeDumper, number: float) -> yaml.ScalarNode:
    text = {float("inf"): ".inf", float("-inf"): "-.inf"}.get(number, ".nan" if number != number else repr(number))
    text = text if "." in text else text.replace("e", ".0e")  # YAML 1.1 wants the point: 3.0e-05
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(float, _represent_float)
