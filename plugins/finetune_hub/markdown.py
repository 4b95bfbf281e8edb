"""Text that comes from data, as Markdown that shows it and does nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MEANING = re.compile(r"([\\`*_{}\[\]()#!|~<>&$])")
_ADDRESS = re.compile(r"(?i)(https?|ftp)://|www\.")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
LONGEST = 300


def plain(value: object, *, longest: int | None = LONGEST) -> str:
    r"""Return a value as Markdown that a reader sees as it is, on one line, at most `longest` characters of it.

    >>> plain("<b>|`x`")
    '\\<b\\>\\|\\`x\\`'
    """
    text = _CONTROL.sub(" ", str(value)).strip()
    kept = text if longest is None or len(text) <= longest else text[:longest] + "…"
    shown = _MEANING.sub(r"\\\1", kept)
    # a bare address would become a link
    return _ADDRESS.sub(lambda found: found.group().replace(":", "\\:").replace(".", "\\."), shown)


def fenced(text: str, language: str) -> str:
    """Return a block of code, its fence longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are Markdown already. All columns but the first stand at the right."""
    lines = [f"| {' | '.join(headers)} |", f"|---|{'---:|' * (len(headers) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def bullets(lines: Iterable[str]) -> str:
    """Return a list of sentences."""
    return "\n".join(f"- {line}" for line in lines)
