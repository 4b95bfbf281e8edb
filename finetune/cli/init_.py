"""`finetune init`."""

from __future__ import annotations

import click

from finetune.cli import names
from finetune.cli.parameters import not_empty


@click.command("init")
@click.argument("task", required=False, shell_complete=names.complete("tasks"))
@click.option(
    "--data",
    callback=not_empty,
    help="Path of your data: a file, a folder or an id of the Hub. Without TASK, the task is found from it. "
    "Default: a sample data set that needs no download.",
)
@click.option(
    "--strategy",
    callback=not_empty,
    shell_complete=names.complete("strategies"),
    help="Name of the strategy.  [default: full]",
)
@click.option("--model", callback=not_empty, help="Base model: an id of the Hub, or a folder. Default: one that fits.")
@click.option("--output", callback=not_empty, help="Folder of the run. Default: runs/TASK.")
@click.option(
    "--from",
    "ready",
    shell_complete=names.complete_ready,
    help="Print this recipe of the gallery instead. An unknown name lists all.",
)
@click.option("--full", is_flag=True, help="Write every option with its documentation and its default.")
def command(
    task: str | None,
    strategy: str | None,
    data: str | None,
    model: str | None,
    output: str | None,
    ready: str | None,
    full: bool,
) -> None:
    """Print a recipe for your data, or for TASK.

    Standard error says what was chosen and why. On a terminal, you are asked what is not clear.

    Example: finetune init --data reviews.csv > recipe.yaml
    """
    from finetune.cli import output as shown

    with shown.loading():
        from finetune.cli import meant, quick
        from finetune.errors import BadData, BadOptions
        from finetune.plugins import discover
        from finetune.recipe import gallery, starter
        from finetune.recipe.short import Chosen

    if ready is not None:
        if task is not None or strategy is not None or model is not None or full:
            raise BadOptions("--from prints a complete recipe. With it, only --data and --output have an effect.")
        click.echo(gallery.find(ready, discover()).with_paths(data=data, output=output), nl=False)
        return
    meant.require_task(task)
    quick.require_task_or_data(task, data)
    plugins = discover()
    chosen = None
    if data is not None:
        try:
            settled = quick.settle(data, plugins, task=task, model=model)
        except BadData as error:
            if task is None:
                raise
            click.echo(f"The data cannot be looked at, so their columns are not filled in. {error}", err=True)
            chosen = Chosen(dataset={"path": data}, model=model)
        else:
            task, chosen = settled.task, settled.chosen
    elif model is not None:
        sample = plugins.find("tasks", str(task)).starter.get("dataset", {"path": "data.csv"})
        chosen = Chosen(dataset=sample, model=model)
    assert task is not None
    folder = output or f"runs/{task}"
    with shown.loading():
        text = starter.write(task, plugins, strategy=strategy or "full", output=folder, chosen=chosen, full=full)
    click.echo(text, nl=False)
