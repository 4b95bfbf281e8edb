"""The kind of a column: learned from its values, and widened only if that loses nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

MOST_COLUMNS = 2_000
"""Most columns of a table, and most keys of the objects in one column if all objects have the same keys. Each operation
of `datasets` takes 0.1 s for 1,000 columns, and reading a table needs a dozen."""

MOST_KEYS = 1_000
"""Most keys that only some rows have: columns that first appear after the first row of a split, or keys of nested
objects. A mapping with more must be a list of pairs."""

MOST_LEVELS = 50
"""Most lists and objects inside each other. Arrow cannot store 63."""

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Control characters; tabs and line ends, which a name in a spreadsheet can hold, are none here."""


@dataclass(frozen=True)
class ListOf:
    """A list of values of one kind."""

    item: Kind


@dataclass(frozen=True)
class ObjectOf:
    """A nested object with these keys."""

    fields: Mapping[str, Kind] = field(default_factory=dict)


Kind = str | ListOf | ObjectOf
"""`null`, `boolean`, `integer`, `number` or `text`; a list or an object of them."""

SCALARS: dict[type, Kind] = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "text"}
_LISTS: dict[type, Kind] = {of: ListOf(kind) for of, kind in SCALARS.items()}
_ARROW = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "text": pa.string(),
}
_BASIC: tuple[tuple[type, Any], ...] = ((int, int.__int__), (float, float.__float__), (str, str.__str__))


class ClashError(Exception):
    """Two kinds that no common kind can hold; ``path`` says where inside a nested value."""

    def __init__(self, path: str, old: Kind, new: Kind) -> None:
        super().__init__(path)
        self.path, self.old, self.new = path, old, new


class UnsupportedError(Exception):
    """A value that a table cannot hold."""


def kind_of(value: Any, path: str = "", gaps: dict[str, None] | None = None, *, level: int = 0) -> Kind:
    """Return the kind of one value.

    Args:
        value: The value.
        path: Where it is inside a nested value, for errors.
        gaps: Takes the nested keys that only some objects of a list have.
        level: How many lists and objects it is inside of.

    >>> kind_of({"text": ["a"], "start": [3, 4.5, None]})
    ObjectOf(fields={'text': ListOf(item='text'), 'start': ListOf(item='number')})

    Raises:
        ClashError: A list mixes kinds.
        UnsupportedError: The value has a type that JSON does not have, or is nested too deeply.
    """
    scalar = SCALARS.get(type(value))
    if scalar is not None:
        return scalar
    if level == MOST_LEVELS:
        raise UnsupportedError(f"the value has more than {MOST_LEVELS} lists or objects inside each other.")
    if type(value) is list:
        types = set(map(type, value))
        if len(types) == 1 and (simple := _LISTS.get(next(iter(types)))) is not None:
            return simple
        item: Kind = "null"
        for element in value:
            item = merge(item, kind_of(element, path, gaps, level=level + 1), path, gaps)
        return ListOf(item)
    if type(value) is dict:
        fields: dict[str, Kind] = {}
        for key, below in value.items():
            refuse_key(key)
            fields[key] = kind_of(below, f"{path}.{key}", gaps, level=level + 1)
        return ObjectOf(fields)
    raise UnsupportedError(f"the value has the type {type(value).__name__}.")


def refuse_key(key: Any) -> None:
    """Check that a key can name a column.

    Raises:
        UnsupportedError: The key is not text, or contains half of a surrogate pair or a control character.
    """
    if type(key) is not str:
        raise UnsupportedError(f"the key {key!r} is not text.")
    if key.isprintable():  # the usual case
        return
    control = control_in(key)
    if control:
        raise UnsupportedError(f"the key {key!r} contains the control character {control}.")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise UnsupportedError(
            f"the key {key!r} is not valid Unicode text: it contains half of a surrogate pair."
        ) from error


def control_in(name: str) -> str:
    r"""Return the first control character in a name as ``U+0000``, or an empty text if it has none.

    >>> control_in("a\0b"), control_in("price\n(EUR)")
    ('U+0000', '')
    """
    found = _CONTROL.search(name)
    return f"U+{ord(found[0]):04X}" if found else ""


def merge(old: Kind, new: Kind, path: str = "", gaps: dict[str, None] | None = None) -> Kind:
    """Return the kind that holds both: null merges with any kind, integers with numbers.

    Args:
        old: One kind.
        new: The other.
        path: Where the kinds are inside a nested value, for the error.
        gaps: Takes the nested keys that one of the kinds lacks.

    Raises:
        ClashError: No kind holds both.
    """
    if old == new or new == "null":
        return old
    if old == "null":
        return new
    if isinstance(old, ListOf) and isinstance(new, ListOf):
        return ListOf(merge(old.item, new.item, path, gaps))
    if isinstance(old, ObjectOf) and isinstance(new, ObjectOf):
        merged = dict(old.fields)
        for key, kind in new.fields.items():
            merged[key] = merge(merged.get(key, "null"), kind, f"{path}.{key}", gaps)
        if gaps is not None:
            for key in old.fields.keys() ^ new.fields.keys():
                gaps[f"{path}.{key}"] = None
        return ObjectOf(merged)
    if [old, new] in (["integer", "number"], ["number", "integer"]):
        return "number"
    raise ClashError(path, old, new)


def arrow(kind: Kind) -> pa.DataType:
    """Return the Arrow type of a kind."""
    if isinstance(kind, ListOf):
        return pa.list_(arrow(kind.item))
    if isinstance(kind, ObjectOf):
        return pa.struct([(key, arrow(below)) for key, below in kind.fields.items()])
    return _ARROW[kind]


def described(kind: Kind) -> str:
    """Return the name of a value of a kind, for messages.

    >>> described("integer"), described(ListOf("text")), described(ListOf(ListOf("number")))
    ('an integer', 'a list of texts', 'a list of lists of numbers')
    """
    if isinstance(kind, ListOf):
        return "a list" if kind.item == "null" else f"a list of {plural(kind.item)}"
    if isinstance(kind, ObjectOf):
        return "an object"
    return {"null": "null", "boolean": "a boolean", "integer": "an integer", "number": "a number", "text": "text"}[kind]


def plural(kind: Kind) -> str:
    """Return the name of several values of a kind, for messages."""
    if isinstance(kind, ListOf):
        return "lists" if kind.item == "null" else f"lists of {plural(kind.item)}"
    if isinstance(kind, ObjectOf):
        return "objects"
    return "nulls" if kind == "null" else f"{kind}s"


def count_keys(kind: Kind) -> int:
    """Return the number of keys of all objects inside a kind.

    >>> count_keys(kind_of([{"a": 1, "b": {"c": 2}}]))
    3
    """
    if isinstance(kind, ListOf):
        return count_keys(kind.item)
    if isinstance(kind, ObjectOf):
        return len(kind.fields) + sum(map(count_keys, kind.fields.values()))
    return 0


def plain(value: Any) -> Any:
    """Return a Python value as JSON can hold it: lists for tuples and arrays, Python numbers for those of numpy.

    >>> plain({"at": (np.int64(3), np.float32(0.5))})
    {'at': [3, 0.5]}
    """
    if type(value) in SCALARS:
        return value
    if isinstance(value, np.generic):
        return plain(value.item()) if not isinstance(value, np.datetime64 | np.timedelta64) else value
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(below) for below in value]
    if isinstance(value, Mapping):
        return {plain(key): plain(below) for key, below in value.items()}
    for basic, convert in _BASIC:  # a subclass, such as a `StrEnum`
        if isinstance(value, basic):
            return convert(value)
    return value
