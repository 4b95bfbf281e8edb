"""What a name of a catalogue is, in one line, without importing it."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from finetune.hookspecs import Command

_END = re.compile(r"(?<!e\.g)(?<!i\.e)[.:](?=\s|$)")
"""The end of a first sentence, or of what it introduces."""


def summary(target: Any) -> str:
    """Return the first sentence about what a name stands for; an empty text if there is none.

    Nothing is imported: the docstring is read from the source.

    Args:
        target: What a hook returns for a name: an object with a `summary`, or ``"module:attribute"``.
    """
    if own := getattr(target, "summary", ""):
        return str(own)
    target = target.target if isinstance(target, Command) else target
    if isinstance(target, str):
        module, _, attribute = target.partition(":")
        return first_sentence(_documentation(module, attribute))
    return first_sentence(target.__doc__ or "")


def first_sentence(text: str) -> str:
    """Return the first sentence of a docstring in one line, without its point.

    >>> first_sentence("Train every parameter: it needs\\n    the most memory. More.")
    'Train every parameter'
    >>> first_sentence('Reads ``{"data": rows}``, as SQuAD writes it.')
    'Reads ``{"data": rows}``, as SQuAD writes it'
    """
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    for found in _END.finditer(paragraph):
        if paragraph[: found.start()].replace("``", "`").count("`") % 2 == 0:  # not inside of code
            return paragraph[: found.start()]
    return paragraph


@cache
def _documentation(module: str, attribute: str) -> str:
    """Return the docstring of a class or a function at the top of a module."""
    try:
        body = ast.parse(_source(module)).body
    except (ImportError, OSError, SyntaxError, ValueError):
        return ""  # `finetune show` says what is wrong with it
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
            return ast.get_docstring(node) or ""
    return ""


def _source(module: str) -> str:
    """Return the source of a module; no package around it is imported, which `find_spec` of the module would do."""
    root, *parts = module.split(".")
    spec = find_spec(root)
    if spec is None:
        return ""
    if not parts:
        return Path(str(spec.origin)).read_text(encoding="utf-8")
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *parts)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file.read_text(encoding="utf-8")
    return ""
