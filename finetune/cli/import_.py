"""`finetune import`."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetune.cli.parameters import not_empty

if TYPE_CHECKING:
    from finetune.conversion import Conversion

NARROWEST = 60
"""Fewest columns of the summary, however narrow the terminal is."""


@click.command("import")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--from", "tool", callback=not_empty, help="Name of the tool, if the file does not show it.")
@click.option("--task", callback=not_empty, help="Name of the task, if the file does not show it.")
def command(file: str, tool: str | None, task: str | None) -> None:
    """Print a recipe made of the settings of Axolotl, LLaMA-Factory, TRL or a Trainer script.

    FILE is a YAML or JSON file, or a shell script with the command that trains. What each key becomes goes to standard
    error; `finetune show axolotl` lists all keys of a tool.

    Example: finetune import axolotl.yaml > recipe.yaml
    """
    from finetune.cli import output
    from finetune.plugins import discover

    with output.loading():
        from finetune import importing

    path = Path(file)
    conversion = importing.convert(path, discover(), tool=tool, task=task)
    click.echo(importing.write(conversion, name=path.name), nl=False)
    _summarize(conversion, path.name)


def _summarize(conversion: Conversion, name: str) -> None:
    """Print to standard error what happened to each key."""
    by_status: dict[str, list[str]] = {"mapped": [], "unneeded": [], "missing": [], "empty": []}
    for key, outcome in conversion.outcomes.items():
        by_status[outcome.status].append(key)
    counts = {
        "mapped": "mapped",
        "unneeded": "not needed",
        "empty": "empty",
        "missing": "without a place in a recipe",
    }
    numbers = [f"{len(by_status[status])} {word}" for status, word in counts.items() if by_status[status]]
    if sys.stdout.isatty():
        click.echo(err=True)
    click.echo(f"{name} holds settings of {conversion.tool}. Keys: {', '.join(numbers)}.", err=True)
    different = [key for key in by_status["mapped"] if conversion.outcomes[key].notes]
    _section("Without a place in a recipe; do this if you need them:", by_status["missing"], conversion)
    _section("Mapped, with a difference:", different, conversion)
    _section("Not needed:", by_status["unneeded"], conversion)
    if by_status["empty"]:
        _wrap(f"Empty, so without effect: {', '.join(by_status['empty'])}.")
    click.echo("\nNext: finetune check recipe.yaml, then finetune plan recipe.yaml.", err=True)


def _section(title: str, keys: list[str], conversion: Conversion) -> None:
    if not keys:
        return
    click.echo(f"\n{title}", err=True)
    for key in keys:
        notes = " ".join(conversion.outcomes[key].notes)
        _wrap(f"{conversion.place_of(key)}: {notes}" if notes else conversion.place_of(key), first="  ", rest="      ")


def _wrap(text: str, *, first: str = "", rest: str = "  ") -> None:
    width = max(shutil.get_terminal_size((100, 24)).columns, NARROWEST)
    lines = textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
    for line in lines:
        click.echo(line, err=True)
