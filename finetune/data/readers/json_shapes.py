"""The shapes in which one JSON value holds a table, and what to say of those that hold no rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from finetune import errors
from finetune.interfaces import Finding

AS_ROWS = 'Write a list of rows. In pandas: df.to_json(path, orient="records").'
_LISTED = 8


def by_column(value: Any) -> str:
    """Return how an object holds a table column by column; an empty text if it does not.

    >>> by_column({"text": {"0": "a", "1": "b"}, "label": {"0": 1, "1": 0}})
    'one object of columns, as pandas to_json writes it by default'
    >>> by_column({"columns": ["text"], "index": [0], "data": [["a"]]})
    'an object with columns, index and data, as pandas to_json writes it with orient="split"'
    >>> by_column({"text": ["a", "b"], "label": [1, 0]})
    'one object of columns, with a list for each'
    """
    if not isinstance(value, Mapping) or not value:
        return ""
    if {"columns", "data"} <= value.keys() <= {"columns", "index", "data"} and isinstance(value["columns"], list):
        return 'an object with columns, index and data, as pandas to_json writes it with orient="split"'
    columns = list(value.values())
    if all(isinstance(column, Mapping) and _are_numbers(column) for column in columns):
        keys = {tuple(column) for column in columns}
        return "one object of columns, as pandas to_json writes it by default" if len(keys) == 1 else ""
    if all(isinstance(column, list) for column in columns):
        sizes = {len(column) for column in columns}
        return "one object of columns, with a list for each" if len(columns) > 1 and len(sizes) == 1 else ""
    return ""


def _are_numbers(keys: Collection[str]) -> bool:
    return bool(keys) and all(key.isdigit() for key in keys)


def no_rows(what: str, *, line: int, fix: str = AS_ROWS) -> Finding:
    """Return the finding of a JSON file that holds no rows."""
    return Finding(code="not-an-array", message=f"the file is {what}.", fix=fix, level="error", line=line)


def stated(what: str, *, line: int) -> Finding:
    """Return the warning that says where in an object the rows are."""
    return Finding(code="rows-in-object", message=what, level="warning", line=line)


def listed(keys: Collection[str]) -> str:
    """Return some keys for a message.

    >>> listed(["a", "b"]), listed([str(i) for i in range(10)])
    ("'a', 'b'", "'0', '1', '2', '3', '4', '5', '6', '7', … (10 in all)")
    """
    return errors.listed(list(map(repr, keys)), most=_LISTED)
