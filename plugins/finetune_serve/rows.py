"""The body of a request → rows, with everything checked that needs no tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from finetune_serve.limits import Limits
from finetune_serve.refusals import Refused

ROWS, HIGHLIGHTS = "rows", "highlights"
"""Keys of a body with several rows: the rows, and whether to say which parts of the texts to highlight."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a client asks for."""

    rows: list[Any]
    """Column → value; or something that is no row, which gets an error of its own."""
    is_single: bool
    """Whether the body is a row."""
    highlights: bool
    """Whether to say which parts of the texts to highlight."""
    characters: int
    """Characters of all rows."""
    tokens: bool = False
    """Whether each answer says how many tokens the model read."""


def parse(body: bytes, limits: Limits) -> Any:
    """Return what a body holds.

    Raises:
        Refused: It is not JSON.
    """
    try:
        content = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise Refused("bad-json", f"the body is not text in UTF-8: {error.reason}.", "Encode it as UTF-8.") from error
    except RecursionError as error:
        raise _too_deep(limits) from error
    except ValueError as error:
        raise Refused("bad-json", f"the body is not JSON: {error}.", 'Send {"rows": [{…}]}.') from error
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise Refused("bad-json", f"the body holds {name}, which JSON does not have.", "Write null, or a number.")


def rows_of(content: Any, limits: Limits) -> Asked:
    """Return the rows of a body.

    >>> rows_of({"text": "tar"}, Limits()).is_single, rows_of({"rows": ["tar", "salt"]}, Limits()).rows
    (True, ['tar', 'salt'])

    Args:
        content: A row, or a mapping with `ROWS`.
        limits: What they can be.

    Raises:
        Refused: There are none, too many, or one of them is too long.
    """
    if not isinstance(content, Mapping):
        raise Refused(
            "not-an-object",
            f"the body is {_named(content)}, and must be an object.",
            'Send one row, {"column": value}, or several, {"rows": [{…}, {…}]}.',
        )
    is_single = not isinstance(content.get(ROWS), list)
    rows = [content] if is_single else list(content[ROWS])
    if not rows or not content:
        raise Refused("no-rows", "there are no rows.", "Send at least one.")
    if len(rows) > limits.rows:
        raise Refused(
            "too-many-rows",
            f"the request has {len(rows):,} rows, and at most {limits.rows:,} are taken.",
            "Send several requests; `finetune predict` reads files of any size.",
        )
    characters = 0
    for number, row in enumerate(rows):
        size = measure(row, limits)
        if size > limits.characters:
            where = "" if is_single else f"row {number}: "
            raise Refused(
                "text-too-long",
                f"{where}the texts have {size:,} characters, and at most {limits.characters:,} are taken.",
                "Shorten them, or start the server with a greater --max-characters.",
            )
        characters += size
    highlights = not is_single and content.get(HIGHLIGHTS) is True
    return Asked(rows=rows, is_single=is_single, highlights=highlights, characters=characters)


def measure(value: Any, limits: Limits, depth: int = 0) -> int:
    """Return the number of characters of all texts in a value.

    >>> measure({"text": "tar", "tags": ["a", "b"], "n": 5}, Limits())
    5

    Raises:
        Refused: It is nested too deeply.
    """
    if isinstance(value, str):
        return len(value)
    if not isinstance(value, Mapping | list):
        return 0
    if depth > limits.depth:
        raise _too_deep(limits)
    inside = value.values() if isinstance(value, Mapping) else value
    return sum(measure(each, limits, depth + 1) for each in inside)


def _too_deep(limits: Limits) -> Refused:
    return Refused("bad-json", f"the body is nested deeper than {limits.depth} levels.", "Send rows of plain values.")


def _named(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
