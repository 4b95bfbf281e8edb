"""`finetune adopt`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from finetune.cli import parameters


@click.command("adopt")
@click.argument("folder", type=click.Path())
@click.argument("options", nargs=-1, metavar="")
@click.option(
    "--output", required=True, type=click.Path(), callback=parameters.not_empty, help="Folder of the run to write."
)
@click.option(
    "--data",
    "dataset",
    callback=parameters.not_empty,
    help="Rows with answers that the model has not seen. It is scored on them as on a test split.",
)
@click.option("--split", help="Split of --data to score. Default: test, or validation if there is no test split.")
@parameters.task
@parameters.base
@parameters.loudness
def command(
    folder: str,
    options: tuple[str, ...],
    output: str,
    dataset: str | None,
    split: str | None,
    task: str | None,
    base: str | None,
    quiet: bool,
) -> None:
    """Make a run of a model that another program trained.

    FOLDER is what Trainer, TRL or PEFT wrote. Its model is copied, and its log is read: the loss curves, the verdicts
    on overfitting and underfitting, and which checkpoint was best. `report`, `evaluate`, `compare` and `card` work on
    the run. What the folder does not say, such as the training data, is listed as unknown.

    Such a model takes options: `preprocessor.max_length=384`, and the names of the columns: `columns.review=text`.
    """
    sections, unknown = parameters.sections(options)
    if unknown:
        raise click.UsageError(f"unexpected argument {unknown[0]!r}. Data to score is given as --data {unknown[0]}.")
    if split is not None and dataset is None:
        raise click.UsageError("--split has an effect with --data only.")
    from finetune.cli import output as shown

    with shown.loading(quiet=quiet):
        from finetune import adoption
        from finetune.evaluation import verdicts
        from finetune.report.page import REPORT

    result = adoption.adopt(
        folder,
        output,
        dataset,
        split=split,
        task=task,
        base=base,
        **sections,
        reporter=shown.reporter(quiet=quiet),
    )
    if result.scores:
        shown.scores(result.scores, {}, result.details, primary=result.primary)
        click.echo()
    for sentence in verdicts.all_verdicts(result):
        shown.say(sentence)
    click.echo(f"Report: {Path(output) / REPORT}")
    if not result.scores:
        click.echo(f"Score it: finetune evaluate {shlex.quote(output)} --data FILE")
    click.echo(f"Run folder: {output}")
