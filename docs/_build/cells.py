"""Split a tutorial, a Python script in ``# %%`` cells, into its cells."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass

MARKER = re.compile(r"# %%(?P<words>(?:\s.*)?)$")
WORDS = frozenset({"hide", "varies"})


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Prose, and the code that follows it."""

    text: str
    """Markdown."""
    code: str
    """Python; may be empty."""
    line: int
    """Line of the script at which the code begins, from 1."""
    words: frozenset[str] = frozenset()
    """What stood after the marker: ``hide`` runs the cell and shows nothing of it; ``varies`` shows what it printed,
    which a test must not compare, because it differs from one machine to another."""


def parse(source: str) -> list[Cell]:
    r"""Return the cells of a script; the first one is the module docstring: title and introduction.

    Comment lines right after a marker are Markdown; the first line that is no comment begins the code.

    >>> [cell.text for cell in parse('"# Title"\n# %%\n# Prose.\n\nprint(1)')]
    ['# Title', 'Prose.']

    Raises:
        SyntaxError: No docstring with a title, code before the first marker, or an unknown word after one.
    """
    tree = ast.parse(source)
    intro = ast.get_docstring(tree) or ""
    if not intro.startswith("# "):
        raise SyntaxError("line 1: a tutorial begins with a docstring whose first line is its title: '# Title'")
    lines = source.splitlines()
    starts = _markers(source)
    begin = tree.body[0].end_lineno or 1
    before = [number for number in range(begin, starts[0] if starts else len(lines)) if lines[number].strip()]
    if before:
        raise SyntaxError(f"line {before[0] + 1}: code before the first '# %%'")
    ends = [*starts, len(lines)][1:]
    cells = [_cell(lines, start, end) for start, end in zip(starts, ends, strict=True)]
    return [Cell(text=intro, code="", line=1), *cells]


def _markers(source: str) -> list[int]:
    """Return the indices of the marker lines; what only looks like one, in a string, is none."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token for token in tokens if token.type == tokenize.COMMENT and token.start[1] == 0]
    return [comment.start[0] - 1 for comment in comments if MARKER.match(comment.string)]


def _cell(lines: list[str], start: int, end: int) -> Cell:
    found = MARKER.match(lines[start])
    words = frozenset(found["words"].split() if found else ())
    if words - WORDS:
        raise SyntaxError(f"line {start + 1}: {lines[start]!r}; only {', '.join(sorted(WORDS))} may follow '# %%'")
    code = start + 1
    while code < end and re.match(r"#( |$)", lines[code]):
        code += 1
    text = "\n".join(line[2:] for line in lines[start + 1 : code])
    while code < end and not lines[code].strip():
        code += 1
    return Cell(text=text.strip("\n"), code="\n".join(lines[code:end]).rstrip(), line=code + 1, words=words)
