"""YAML, read and written strictly: what surprises people is refused, with line and column."""

from __future__ import annotations

import re
from typing import Any

import yaml

from finetune.errors import BadRecipe

LARGEST = 1_000_000
"""Longest recipe, in characters."""


def dump(content: Any) -> str:
    """Return plain mappings as YAML that `load` reads back the same."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def load(text: str, *, name: str = "recipe") -> Any:
    """Read YAML strictly.

    Refused: duplicate keys, tabs, aliases, tags, ``yes`` and ``no`` (a country, or a boolean?), and files of more than
    a million characters. ``2e-5`` is a number.

    Examples:
        >>> load("learning_rate: 2e-5")
        {'learning_rate': 2e-05}

    Raises:
        BadRecipe: With line and column.
    """
    if len(text) > LARGEST:
        raise BadRecipe(f"{name}: {len(text):,} characters; a recipe has at most {LARGEST:,}.")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = (error.problem or str(error)).removeprefix("found character '\\t' that cannot start any token")
        raise BadRecipe(f"{name}{place}: {problem or 'a tab. Indent with spaces'}.") from error
    except yaml.YAMLError as error:
        raise BadRecipe(f"{name}: {error}") from error
    except RecursionError as error:
        raise BadRecipe(f"{name}: nested too deeply.") from error


class _Loader(yaml.SafeLoader):
    """YAML without what surprises: YAML 1.2's numbers and booleans, no aliases, no duplicate keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012, yaml's own attribute

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="an alias (*); write it out", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.MarkedYAMLError(problem="a key must be a plain word", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} stands here a second time", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return dict(super().construct_mapping(node, deep=deep))

    def construct_ambiguous(self, node: Any) -> Any:
        raise yaml.MarkedYAMLError(
            problem=f"{node.value!r} could be a word or a boolean; write true or false, or put it in quotes",
            problem_mark=node.start_mark,
        )


_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)$")  # 010 stays text: no octal
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$|[-+]?\.inf$|\.nan$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|)$"), ["~", "n", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|false|True|False)$"), list("tTfF"))
_Loader.add_implicit_resolver("!ambiguous", re.compile(r"(?i:yes|no|on|off|y|n)$"), list("yYnNoO"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
_Loader.add_constructor("!ambiguous", _Loader.construct_ambiguous)


class _Dumper(yaml.SafeDumper):
    """Writes every string that our loader or another would not read back as text in quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    node = dumper.represent_str(text)
    resolvers = (pattern for found in _Loader.yaml_implicit_resolvers.values() for _, pattern in found)
    if not node.style and any(pattern.match(text) for pattern in resolvers):
        node.style = "'"
    if not text.isprintable() and "\n" not in text:
        node.style = '"'  # PyYAML writes U+0085 and its kin bare, and reads them as line ends
    return node


def _represent_float(dumper: yaml.SafeDumper, number: float) -> yaml.ScalarNode:
    text = {float("inf"): ".inf", float("-inf"): "-.inf"}.get(number, ".nan" if number != number else repr(number))
    text = text if "." in text else text.replace("e", ".0e")  # YAML 1.1 wants the point: 3.0e-05
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(float, _represent_float)
