"""Build an object from its options in a recipe: the constructor of its class is the schema."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from finetune import static_classes
from finetune.errors import BadOptions, did_you_mean, listed
from finetune.interfaces import Evaluator, Preprocessor
from finetune.plugins import Plugins, class_path, discover, find_code, resolve

T = TypeVar("T")

MOST_PROBLEMS = 5
"""Most problems that the message about the options of an object has."""


FURTHER = "further_options"
"""Attribute of a class: the field, a mapping, that takes the options which the class does not have itself."""


def build(cls: type[T], options: Mapping[str, Any], *, where: str) -> T:
    """Build an object from options, and check their names and types.

    Args:
        cls: A dataclass, or a class without options. If it has the attribute `FURTHER`, options that are no fields of
            the class go to the field with that name, and the class checks them.
        options: Name → value.
        where: The section that the options belong to, for the message: ``"preprocessor"``.

    Raises:
        BadOptions: An option is unknown or missing, or has a wrong type or value. The message has
            the nearest name. Or the class is abstract.
    """
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(vars(cls)["__abstractmethods__"]))
        raise BadOptions(f"{where}: {class_path(cls)} must define {missing}.")
    known = [f.name for f in fields(cls) if f.init] if is_dataclass(cls) else []
    if (field := getattr(cls, FURTHER, None)) is not None:
        options = _gathered(options, known, field, where=where)
    refuse_unknown(options, known=known, of=cls.__name__, where=where)
    if not is_dataclass(cls):
        return cls()
    try:
        schema: TypeAdapter[T] = adapter(cls)
        built = schema.validate_python(dict(options))
    except ValidationError as error:
        problems = [_problem(problem) for problem in error.errors()]
        more = f"; and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
        shown = "; ".join(problems[:MOST_PROBLEMS]) + more
        shown += "" if shown.endswith((".", "?")) else "."
        raise BadOptions(f"{where}: {shown} See `finetune show {cls.__module__}:{cls.__qualname__}`.") from error
    return built


def refuse_unknown(options: Iterable[str], *, known: Collection[str], of: str, where: str) -> None:
    """Check the names of options.

    Args:
        options: The names.
        known: Those that exist.
        of: The class that takes them, for the message.
        where: The section that the options belong to.

    Raises:
        BadOptions: One does not exist.
    """
    for name in options:
        if name not in known:
            takes = f"Its options are: {', '.join(known)}." if known else "It has no options."
            raise BadOptions(f"{where}: {name!r} is not an option of {of}.{did_you_mean(name, known)} {takes}")


def _gathered(options: Mapping[str, Any], known: list[str], field: str, *, where: str) -> dict[str, Any]:
    """Return options with those that are not known inside a mapping under the name of a field.

    >>> _gathered({"type": "MISS", "r": 4, "config": {"bias": "none"}}, ["type", "config"], "config", where="strategy")
    {'type': 'MISS', 'config': {'bias': 'none', 'r': 4}}

    Raises:
        BadOptions: An option is given twice.
    """
    gathered = {name: value for name, value in options.items() if name in known}
    further = {name: value for name, value in options.items() if name not in known}
    inside = options.get(field, {})
    if not further or not isinstance(inside, Mapping):
        return gathered
    if twice := sorted(set(further) & set(inside)):
        raise BadOptions(f"{where}: {twice[0]!r} is set twice: by itself, and in {field}. Remove one of them.")
    return {**gathered, field: {**inside, **further}}


def as_options(built: Any) -> dict[str, Any]:
    """Return the options of an object; empty if it is not a dataclass."""
    if not is_dataclass(built):
        return {}
    return {f.name: getattr(built, f.name) for f in fields(built) if f.init}


def describe(built: Any) -> dict[str, Any]:
    """Return an object as data, for `rebuild`: ``{"class": "module:Class", "options": {…}}``."""
    return {"class": class_path(type(built)), "options": as_options(built)}


def rebuild(described: Mapping[str, Any], *, where: str, plugins: Plugins | None = None) -> Any:
    """Build the object that `describe` described.

    Args:
        described: What `describe` returned.
        where: The section that it belongs to: ``"preprocessor"`` or ``"evaluator"``.
        plugins: Where classes are looked up; None to discover the installed plugins.

    Raises:
        UntrustedCode: No plugin provides the class, and the user has not said that its code may run;
            see `finetune.trust`.
        UnknownName: The class is not installed.
        BadOptions: It is no class of this section, or does not have these options.
    """
    path, base = str(described["class"]), {"preprocessor": Preprocessor, "evaluator": Evaluator}[where]
    is_plugin = (plugins or discover()).provides(f"{where}s", path)
    cls = resolve(path) if is_plugin else find_code(path, where=where)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise BadOptions(
            f"{where}: {path!r} is not a subclass of {base.__name__}. Restore the file as the run wrote it."
        )
    return build(cls, described["options"], where=where)


@cache
def adapter(cls: Any) -> TypeAdapter[Any]:
    """Return the type adapter of pydantic for a dataclass; it accepts lists for tuples."""
    try:
        return TypeAdapter(cls, config=ConfigDict(strict=False))
    except PydanticUserError:  # the class has its own configuration
        return TypeAdapter(cls)


def _problem(problem: Any) -> str:
    place = ".".join(map(str, problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
    if problem["type"] == "dict_type":
        message = "this is a section of keys with values"
    given = "" if problem["type"] == "missing" or not problem["loc"] else f", not {listed([repr(problem['input'])])}"
    return f"{place}: {message}{given}" if place else message


@dataclass(frozen=True)
class Option:
    """One option of a class, as `finetune show` prints it."""

    name: str
    type: str
    """Its annotation."""
    default: Any
    """`dataclasses.MISSING` if it is required."""
    doc: str
    """The docstring under the field."""
    required: bool
    learned: bool = False
    """Whether the object always learns it from data, so that nobody gives it."""


def document(cls: type) -> list[Option]:
    """Return the options of a class in order, with their types, defaults and docstrings; none if it is no dataclass.

    Examples:
        >>> from finetune.recipe import Source
        >>> document(Source)[0].name
        'path'
    """
    if not is_dataclass(cls):
        return []
    docs = docstrings(cls)
    return [
        Option(
            f.name,
            _annotation(f.type),
            _default(f),
            docs.get(f.name, ""),
            required=_default(f) is MISSING,
            learned=bool(f.metadata.get("learned")),
        )
        for f in fields(cls)
        if f.init
    ]


def document_without_import(path: str) -> tuple[str, list[Option]] | None:
    """Return the docstring of a class and what `document` returns, by its source code; None if that does not say it.

    Args:
        path: The class, as ``module:Class``.
    """
    found = static_classes.document(path)
    if found is None:
        return None
    text, fields_of_class = found
    options = []
    for name, each in fields_of_class.items():
        if not each.takes:
            continue
        try:
            default, learned = _written(each.value)
        except ValueError:  # it needs names that the module defines
            return None
        required = default is MISSING
        options.append(Option(name, each.annotation, default, each.doc, required=required, learned=learned))
    return text, options


_EMPTY: Mapping[str, Any] = {"dict": {}, "list": [], "tuple": (), "set": set()}


def _written(value: ast.expr | None) -> tuple[Any, bool]:
    """Return the default that a field has in source code, and whether its option is learned.

    Raises:
        ValueError: It is no plain value.
    """
    if value is None:
        return MISSING, False
    if not isinstance(value, ast.Call):
        return ast.literal_eval(value), False
    given = {keyword.arg: keyword.value for keyword in value.keywords}
    if not isinstance(value.func, ast.Name) or value.func.id != "field" or value.args:
        raise ValueError(ast.unparse(value))
    metadata = ast.literal_eval(given["metadata"]) if "metadata" in given else {}
    factory = given.get("default_factory")
    if factory is not None:
        if not isinstance(factory, ast.Name) or factory.id not in _EMPTY:
            raise ValueError(ast.unparse(factory))
        return _EMPTY[factory.id], bool(metadata.get("learned"))
    default = ast.literal_eval(given["default"]) if "default" in given else MISSING
    return default, bool(metadata.get("learned"))


def docstrings(cls: type) -> dict[str, str]:
    """Return the docstring under each field of a class and of its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if is_dataclass(base):
            found.update(_field_docs(base))
    return found


def _field_docs(cls: type) -> Iterator[tuple[str, str]]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = tree.body[0].body  # type: ignore[attr-defined]
    for node, after in pairwise(body):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            yield node.target.id, inspect.cleandoc(str(after.value.value))


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _default(option: Field[Any]) -> Any:
    if option.default_factory is not MISSING:
        return option.default_factory()
    return option.default
