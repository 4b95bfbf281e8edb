"""How commands print: tables on a terminal, plain aligned lines elsewhere, JSON for machines."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from finetune.errors import BadOptions
from finetune.interfaces import Finding

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters of a label that would move the cursor, colour the terminal or turn a line round."""


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Print rows under headers; numbers stand at the right."""
    cells = [["" if cell is None else _text(cell) for cell in row] for row in rows]
    kinds = list(zip(*[list(row) for row in cells], strict=True)) if cells else [()] * len(headers)
    right = [bool(column) and all(_is_number(cell) for cell in column) for column in kinds]
    if sys.stdout.isatty():
        _rich_table(headers, cells, right, title)
        return
    widths = [max([len(header), *(len(row[i]) for row in cells)]) for i, header in enumerate(headers)]
    if title:
        click.echo(title)
    for row in [list(headers), *cells]:
        pieces = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        click.echo("  ".join(pieces).rstrip())


def _rich_table(headers: Sequence[str], cells: list[list[str]], right: list[bool], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for header, is_right in zip(headers, right, strict=True):
        shown.add_column(header, justify="right" if is_right else "left", overflow="fold")
    for row in cells:
        shown.add_row(*map(escape, row))
    Console(highlight=False).print(shown)


def findings(found: Sequence[Finding], counts: Mapping[str, int]) -> None:
    """Print findings by code, each with its place, and how many there are beyond those shown."""
    rank = {"error": 0, "row": 1, "warning": 2}
    worst = {code: min((rank[f.level] for f in found if f.code == code), default=2) for code in counts}
    for code, count in sorted(counts.items(), key=lambda item: worst[item[0]]):
        shown = [finding for finding in found if finding.code == code]
        click.secho(f"\n{code}", bold=True, nl=False, err=True)
        told = f"  {count} {'warning' if worst[code] == 2 else 'found'}{'s' if worst[code] == 2 and count > 1 else ''}"
        click.echo(told + (f", {len(shown)} shown" if len(shown) < count else ""), err=True)
        for finding in shown:
            click.echo(f"  {place(finding)}{finding.message}", err=True)
            if finding.fix:
                click.secho(f"      {finding.fix}", dim=True, err=True)


def place(finding: Finding) -> str:
    """Return where a finding is: ``reviews.csv:17: label: ``."""
    where = finding.file or finding.split or ""
    if finding.line is not None:
        where += f":{finding.line}"
    elif finding.row is not None:
        where += f" row {finding.row}"
    column = f" {finding.column}:" if finding.column else ""
    return f"{where}:{column} " if where else f"{column.strip()} ".lstrip()


def as_json(content: Any) -> None:
    """Print JSON to standard output."""
    click.echo(json.dumps(content, indent=1, ensure_ascii=False, default=str))


def scores(result_scores: Mapping[str, Mapping[str, float]], base_scores: Mapping[str, Mapping[str, float]]) -> None:
    """Print scores, a row each, with the base model's beside them."""
    columns = [(split, kind) for split in result_scores for kind in ("base model", "fine-tuned")]
    columns = [(s, k) for s, k in columns if k == "fine-tuned" or s in base_scores]
    names = list(dict.fromkeys(name for part in result_scores.values() for name in part))
    source = {"base model": base_scores, "fine-tuned": result_scores}
    rows = [[name, *(source[kind][split].get(name) for split, kind in columns)] for name in names]
    table(["score", *(f"{split} {kind}" for split, kind in columns)], rows)


def page(path: Path, text: str) -> None:
    """Write a page where the user wants it.

    Raises:
        BadOptions: It cannot be written there.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadOptions(
            f"{path} cannot be written: {error.strerror}. Name a file in a folder that is there."
        ) from error


def _text(cell: object) -> str:
    shown = f"{cell:.4g}" if isinstance(cell, float) else str(cell)
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], shown)


def _is_number(cell: str) -> bool:
    return not cell or cell.replace(",", "").replace(".", "", 1).replace("e-", "", 1).lstrip("-").isdigit()
