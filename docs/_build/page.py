"""Turn a tutorial's cells and what they printed into a page of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from cells import Cell

RULE = re.compile(r"\|(?:\s*:?-+:?\s*\|)+$")
"""The second line of a Markdown table."""


def render(name: str, cells: Sequence[Cell], record: Sequence[Mapping[str, Any]]) -> str:
    """Return the page's body: title, how long it takes, then every cell and what it printed."""
    title, _, intro = cells[0].text.partition("\n")
    seconds = max(1, round(sum(item["seconds"] for item in record)))
    meta = (
        f'<p class="ft-meta" markdown>:material-clock-outline: about {seconds} s on two CPU cores &nbsp; '
        f":material-download: [{name}.py]({name}.py){{ download }}</p>"
    )
    parts = [title, intro.strip("\n"), meta]
    for cell, item in zip(cells[1:], record[1:], strict=True):
        if "hide" not in cell.words:
            parts += _shown(name, cell, item)
    return "\n\n".join(part for part in parts if part) + "\n"


def _shown(name: str, cell: Cell, item: Mapping[str, Any]) -> Iterator[str]:
    yield cell.text
    if cell.code:
        yield fenced(cell.code, "python")
    made = [*_printed(clean(item["printed"])), *_pictures(name, item["pictures"])]
    if made:
        css = "ft-output ft-varies" if "varies" in cell.words else "ft-output"
        yield f'<div class="{css}" markdown>\n\n' + "\n\n".join(made) + "\n\n</div>"


def _printed(text: str) -> Iterator[str]:
    """Yield what a cell printed, tables as tables and the rest as it stood."""
    for bars, lines in groupby(text.split("\n"), key=lambda line: line.startswith("|")):
        block = list(lines)
        if bars and len(block) > 1 and RULE.match(block[1]):
            yield "\n".join(block)
        elif any(block):
            yield fenced("\n".join(block).strip("\n"), "{ .text .no-copy }")


def _pictures(name: str, pictures: Sequence[Mapping[str, str]]) -> Iterator[str]:
    for picture in pictures:
        alt = re.sub(r"[\[\]]", "", picture["title"]) or "Drawn by the code above"
        for mode in ("light", "dark"):
            yield f"![{alt}]({name}/{picture['name']}-{mode}.png#only-{mode})"


def clean(text: str) -> str:
    r"""Return what a terminal would show in the end: no colours, no overwritten progress.

    >>> clean("10%\r100%\x1b[1m done\x1b[0m \n")
    '100% done'
    """
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")
    return "\n".join(line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")).strip("\n")


def fenced(text: str, info: str) -> str:
    """Return text in a fence longer than any inside it."""
    longest = max((len(ticks) for ticks in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{'' if info.isalpha() else ' '}{info}\n{text}\n{fence}"
