"""What the source code says of a class, without importing it: a library can take seconds to import.

Source code is read as text and never run. What it does not say plainly is not known, and None is returned.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from inspect import cleandoc
from itertools import zip_longest
from pathlib import Path

_ROOTS = frozenset({"object", "ABC", "Generic", "Protocol"})
MOST_STEPS = 20
"""Most modules that a name is followed through."""


@dataclass(frozen=True)
class _Found:
    """A class, and the module that defines it."""

    module: str
    node: ast.ClassDef


@dataclass(frozen=True, kw_only=True)
class StaticField:
    """A field of a dataclass, as its source code writes it."""

    annotation: str
    value: ast.expr | None
    """What stands behind the equals sign."""
    doc: str
    """The docstring under the field, or under that of a base with the same name."""
    takes: bool
    """Whether the constructor takes it."""


def document(path: str) -> tuple[str, dict[str, StaticField]] | None:
    """Return the docstring of a class and its fields in order; None if the source code does not say it.

    Args:
        path: The class, as ``module:Class``.
    """
    module, _, name = path.partition(":")
    found = _find(module, name)
    text = None if found is None else ast.get_docstring(found.node)
    fields = None if found is None else _fields(found, steps=MOST_STEPS)
    return None if text is None or fields is None else (text, fields)


def options_of(path: str) -> tuple[str, list[str]] | None:
    """Return the name of a class and the names of its options: those that the constructor of a dataclass takes.

    Args:
        path: The class, as ``module:Class``.

    Returns:
        None if the source code does not say it, or if the class takes further options.
    """
    module, _, name = path.partition(":")
    found = _find(module, name)
    if found is None or _takes_more(found, steps=MOST_STEPS):
        return None
    fields = _fields(found, steps=MOST_STEPS)
    if fields is None:
        return None
    return found.node.name, [name for name, each in fields.items() if each.takes]


def _takes_more(found: _Found, *, steps: int) -> bool:
    """Return whether a class or a base of it takes options that are no fields of it; see `recipe.options.FURTHER`."""
    for node in found.node.body:
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id == "further_options":
            return True
    for base in found.node.bases:
        above = _find(found.module, base.id, steps=steps) if isinstance(base, ast.Name) else None
        if above is not None and steps and _takes_more(above, steps=steps - 1):
            return True
    return False


def _fields(found: _Found, *, steps: int) -> dict[str, StaticField] | None:
    """Return the fields of a class and its bases in order."""
    fields: dict[str, StaticField] = {}
    for base in reversed(found.node.bases):
        inherited = _of_base(base, found.module, steps=steps)
        if inherited is None:
            return None
        fields.update(inherited)
    if _is_dataclass(found.node):
        for name, own in _own(found.node):
            inherited_doc = fields[name].doc if name in fields else ""
            fields[name] = replace(own, doc=own.doc or inherited_doc)
    elif any(isinstance(node, ast.FunctionDef) and node.name == "__init__" for node in found.node.body):
        return None
    return fields


def _of_base(base: ast.expr, module: str, *, steps: int) -> dict[str, StaticField] | None:
    if isinstance(base, ast.Subscript):
        base = base.value
    if not isinstance(base, ast.Name) or steps == 0:
        return None
    if base.id in _ROOTS:
        return {}
    found = _find(module, base.id, steps=steps - 1)
    return None if found is None else _fields(found, steps=steps - 1)


def _is_dataclass(node: ast.ClassDef) -> bool:
    for decorator in node.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(called, ast.Name) and called.id == "dataclass":
            return True
        if isinstance(called, ast.Attribute) and called.attr == "dataclass":
            return True
    return False


def _own(node: ast.ClassDef) -> Iterator[tuple[str, StaticField]]:
    """Yield each field that a dataclass defines itself."""
    for each, after in zip_longest(node.body, node.body[1:]):
        if not isinstance(each, ast.AnnAssign) or not isinstance(each.target, ast.Name):
            continue
        kind = ast.unparse(each.annotation)
        if "ClassVar" in kind:
            continue
        takes = True
        if isinstance(each.value, ast.Call):
            for keyword in each.value.keywords:
                if keyword.arg == "init":
                    takes = not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
        doc = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            doc = cleandoc(str(after.value.value))
        yield each.target.id, StaticField(annotation=kind, value=each.value, doc=doc, takes=takes)


def _find(module: str, name: str, *, steps: int = MOST_STEPS) -> _Found | None:
    """Return a class by its name in a module, which can import it from another one."""
    tree = _tree(module)
    if tree is None or steps == 0:
        return None
    for node in _statements(tree.body):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _Found(module, node)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _find(_absolute(node, module), alias.name, steps=steps - 1)
    return None


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, also those under ``if TYPE_CHECKING`` and in ``try``."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from _statements(node.body)
            yield from _statements(node.orelse)


def _absolute(node: ast.ImportFrom, module: str) -> str:
    """Return the full name of the module that a statement imports from."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    is_package = _file(module) is not None and _file(module).name == "__init__.py"  # type: ignore[union-attr]
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, *([node.module] if node.module else [])])


@lru_cache(maxsize=64)
def _tree(module: str) -> ast.Module | None:
    path = _file(module)
    try:
        return None if path is None else ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):  # the import says what is wrong with it
        return None


@lru_cache(maxsize=256)
def _file(module: str) -> Path | None:
    """Return the file of a module. Only the top package is looked up: Python would import the packages of others."""
    top, *rest = module.split(".")
    try:
        spec = (PathFinder.find_spec(top) or find_spec(top)) if top else None  # the second knows editable packages
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        base = Path(folder).joinpath(*rest)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None
