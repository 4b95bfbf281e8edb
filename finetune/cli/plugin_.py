"""`finetune plugin`."""

from __future__ import annotations

from pathlib import Path

import click

from finetune.cli.scaffold import KINDS


@click.group("plugin")
def command() -> None:
    """Write plugins."""


@command.command("new")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), default="task", show_default=True, help="What the plugin provides.")
@click.option(
    "--parent", type=click.Path(file_okay=False), default=".", help="Where to make the folder.  [default: here]"
)
def new(name: str, kind: str, parent: str) -> None:
    """Write the folder of a new plugin called NAME: a small working task or strategy with tests.

    finetune plugin new finetune-mine --kind strategy
    """
    from finetune.cli.scaffold import short_name, write
    from finetune.errors import DuplicateName
    from finetune.plugins import discover

    found = discover()
    short = short_name(name)
    if short in found.distributions:
        raise DuplicateName(
            f"a plugin {short!r} is installed already, by {found.distributions[short]}. Choose another name."
        )
    for catalogue in found.catalogues.values():
        if catalogue.kind == kind and short in catalogue.targets:
            raise DuplicateName(
                f"{kind} {short!r} exists already, in plugin {catalogue.owners[short]!r}. Choose another name."
            )
    for path in write(name, kind=kind, parent=Path(parent)):
        click.echo(path)
    click.echo(f'\nNext: cd {Path(parent) / name} && pip install -e ".[test]" && pytest && finetune check recipe.yaml')
