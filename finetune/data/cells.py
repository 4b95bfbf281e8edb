"""Read a list or a mapping that stands in one cell of a table, as JSON or as Python prints it."""

from __future__ import annotations

import ast
import io
import json
import math
import tokenize
from typing import Any

LONGEST = 1_000_000
"""Most characters of a cell that is read as Python; JSON has no such limit."""


def parse_cell(text: str) -> Any:
    """Return the value of a cell that is JSON or a Python literal.

    pandas and numpy print a list in several ways. ``array([…])`` is a list, and so are the texts of ``['a' 'b']``,
    which Python itself would join. A tuple is a list, too.

    >>> parse_cell('["a", "b"]'), parse_cell("['a' 'b']"), parse_cell("{'text': array(['a'], dtype=object)}")
    (['a', 'b'], ['a', 'b'], {'text': ['a']})

    Args:
        text: The cell.

    Raises:
        ValueError: It is neither.
    """
    stripped = text.strip()
    try:
        return json.loads(stripped)
    except (ValueError, RecursionError):
        pass  # a Python literal?
    if len(stripped) > LONGEST:
        raise ValueError(f"the cell has {len(stripped):,} characters, and is not JSON.")
    try:
        return _literal(ast.parse(stripped, mode="eval").body, stripped)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:  # {[1]: 2} is a TypeError
        raise ValueError("the cell is neither JSON nor a Python literal.") from error


def _literal(node: ast.expr, text: str) -> Any:
    """Return the value of a Python literal.

    Raises:
        ValueError: It is not a literal.
    """
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "array" and node.args:
        return _literal(node.args[0], text)
    if isinstance(node, ast.Dict):
        keys = [None if key is None else _literal(key, text) for key in node.keys]
        return dict(zip(keys, [_literal(value, text) for value in node.values], strict=True))
    if isinstance(node, ast.List | ast.Tuple):
        if len(node.elts) == 1:
            return _neighbours(node.elts[0], text)
        return [_literal(element, text) for element in node.elts]
    if isinstance(node, ast.Name) and node.id == "nan":
        return math.nan
    return ast.literal_eval(node)


def _neighbours(node: ast.expr, text: str) -> list[Any]:
    """Return the only element of a list, or the texts that stand there without commas, as numpy prints them."""
    source = ast.get_source_segment(text, node)
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or source is None:
        return [_literal(node, text)]
    tokens = tokenize.generate_tokens(io.StringIO(f"({source})").readline)
    return [ast.literal_eval(token.string) for token in tokens if token.type == tokenize.STRING]
