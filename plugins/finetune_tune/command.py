"""`finetune tune`."""

from __future__ import annotations

from pathlib import Path

import click

from finetune.kit import cli_parameters


@click.command("tune")
@click.argument("recipe", type=cli_parameters.RecipePath(dir_okay=False))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--trials", type=click.IntRange(min=1), default=27, show_default=True, help="How many trials the study has in all."
)
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True),
    help="Start no trial after this many hours of trials, those of earlier calls included.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="With how many new seeds the winner and the recipe as it is written are trained at the end.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many processes of this machine work on the study. On several machines, call the same command on each.",
)
@click.option(
    "--storage",
    callback=cli_parameters.not_empty,
    help="Storage of Optuna: a URL of a database, or the path of a journal file.  [default: OUTPUT/study.db]",
)
@click.option("--worker", "is_worker", is_flag=True, hidden=True)
@cli_parameters.trust_code
@cli_parameters.as_json("Print what was found as JSON.")
@cli_parameters.loudness
def command(
    recipe: str,
    overrides: tuple[str, ...],
    trials: int,
    hours: float | None,
    seeds: int,
    workers: int,
    storage: str | None,
    is_worker: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Search the options of RECIPE that its `search` section names, and test the winner.

    Each trial is an ordinary run. Trials are compared on validation after a ninth and a third of their steps, and the
    better ones continue from their checkpoints. At the end, the winner and the recipe as it is written are trained
    with new seeds and scored on the test split, which no trial has read.

    Without a `search` section, the learning rate and the options that the strategy names are searched. The same
    command continues a study that was stopped.
    """
    from dataclasses import asdict

    from finetune.kit import cli_output

    with cli_output.loading(quiet=quiet):
        from finetune_tune import summary
        from finetune_tune.tune import tune

    trusts = click.get_current_context().get_parameter_source("trust_code") is not click.core.ParameterSource.DEFAULT
    found = tune(
        Path(recipe),
        overrides,
        trials=trials,
        hours=hours,
        seeds=seeds,
        workers=workers,
        storage=storage,
        trust_code=trusts,
        reporter=cli_output.reporter(quiet=quiet),
    )
    if is_worker:
        return
    if as_json:
        cli_output.as_json(asdict(found.conclusion))
        return
    headers = ["trial", found.settings.primary, "rung", "state", "values"]
    cli_output.table(headers, summary.rows(found.trials, found.settings))
    click.echo()
    for sentence in summary.sentences(found.conclusion, found.trials, found.settings):
        cli_output.say(sentence)
    click.echo(f"Report: {found.output / 'report.html'}")
    click.echo(f"Best recipe: {found.output / 'best.yaml'}")
    click.echo(f"Study: {found.output}")
