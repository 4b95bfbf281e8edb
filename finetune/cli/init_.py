"""`finetune init`."""

from __future__ import annotations

import click

from finetune.cli.parameters import not_empty


@click.command("init")
@click.argument("task")
@click.option("--strategy", default="full", show_default=True, help="Name of the strategy.")
@click.option("--data", callback=not_empty, help="Path of the data. Default: a sample data set that needs no download.")
@click.option("--output", callback=not_empty, help="Folder of the run. Default: runs/TASK.")
def command(task: str, strategy: str, data: str | None, output: str | None) -> None:
    """Print a recipe for TASK, with a comment for each option.

    Example: finetune init question-answering > recipe.yaml
    """
    from finetune.plugins import discover
    from finetune.recipe import starter

    text = starter.write(task, discover(), strategy=strategy, output=output or f"runs/{task}", data=data)
    click.echo(text, nl=False)
