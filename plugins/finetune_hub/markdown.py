"""Markdown that shows text from data as it is: no markup in it takes effect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from finetune.kit import visible

_MARKUP = re.compile(r"([\\`*_{}\[\]()#!|~<>&$])")
_URL_PREFIX = re.compile(r"(?i)(https?|ftp)://|www\.")
_ENDS = re.compile(r"[\t-\r\x1c-\x1f\x85\u2028\u2029]+")
"""Characters that end a line, and tabs."""
MAX_LENGTH = 300


def plain(value: object, *, max_length: int | None = MAX_LENGTH) -> str:
    r"""Return a value as Markdown that shows it literally, on one line, cut to `max_length` characters.

    >>> plain("<b>|`x`")
    '\\<b\\>\\|\\`x\\`'
    """
    text = visible(_ENDS.sub(" ", str(value))).strip()
    if max_length is not None and len(text) > max_length:
        text = text[:max_length] + "…"
    return _URL_PREFIX.sub(_escape_url, _MARKUP.sub(r"\\\1", text))


def _escape_url(match: re.Match[str]) -> str:
    # a bare address would become a link
    return match.group().replace(":", "\\:").replace(".", "\\.")


def plain_sentence(text: str) -> str:
    """Return one of our sentences, which may contain names from the data."""
    return plain(text, max_length=None).replace("\\(", "(").replace("\\)", ")")


def plain_paragraphs(text: object) -> str:
    """Return what an author wrote as plain text; only the paragraphs are kept."""
    paragraphs = str(text).split("\n\n")
    return "\n\n".join(plain_sentence(paragraph) for paragraph in paragraphs if paragraph.strip())


def fenced(text: str, language: str) -> str:
    """Return a code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{visible(text.rstrip())}\n{fence}"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already. All columns but the first are aligned right."""
    lines = [f"| {' | '.join(headers)} |", f"|---|{'---:|' * (len(headers) - 1)}"]
    for row in rows:
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def bullets(lines: Iterable[str]) -> str:
    """Return a list of sentences."""
    return "\n".join(f"- {line}" for line in lines)
