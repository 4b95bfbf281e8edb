"""`finetune curve`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from finetune.kit import cli_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command("curve")
@click.argument("recipe", type=cli_parameters.RecipePath())
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Seeds of each subset.")
@cli_parameters.as_json("Print the curve as JSON.")
@cli_parameters.loudness
def command(recipe: str, overrides: tuple[str, ...], seeds: int, as_json: bool, quiet: bool) -> None:
    """Say what more labels would be worth: train RECIPE on parts of its rows.

    It trains with 12.5%, 25%, 50% and 100% of train, each with several seeds, scores all runs on the same rows, and
    says what twice the labels would be worth. The recipe's output gets a folder for each run, curve.json and
    report.html. A call that was interrupted is repeated: finished runs are kept, the others continue.
    """
    from pathlib import Path

    from finetune.kit import add_recipe_folder, cli_output, discover, read_recipe

    read = read_recipe(recipe, overrides)
    add_recipe_folder(Path(recipe))
    with cli_output.loading(quiet=quiet):
        from finetune_tune import curve, curve_page
    found = curve.curve(read, discover(), seeds=seeds, reporter=cli_output.reporter(quiet=quiet))
    page = curve_page.write(found, Path(read.output))
    if as_json:
        cli_output.as_json(found)
        return
    show(found)
    click.echo(f"Report: {page}")
    click.echo(f"Run folders: {read.output}/{found['runs'][0]} …")


def show(found: Mapping[str, Any]) -> None:
    """Print a curve: a table of the sizes, and the sentence."""
    from finetune.kit import cli_output, verdicts

    rows: list[list[object]] = []
    for point in found["points"]:
        each = ", ".join(verdicts.format_score(score) for score in point["scores"])
        span = f"{verdicts.format_score(point['low'])} to {verdicts.format_score(point['high'])}"
        score = verdicts.format_score(point["value"])
        rows.append([f"{point['size']:,}", f"{point['share']:.1%}", f"{point['steps']:,}", score, span, each])
    headers = ["rows of train", "share", "steps", f"{found['split']} {found['score']}", "95% interval", "each seed"]
    cli_output.table(headers, rows, title=f"mean of {len(found['seeds'])} seeds on {found['rows']:,} rows")
    click.echo()
    cli_output.say(found["training"])
    if found["selected_on_split"]:
        cli_output.say("Validation also chose a checkpoint or a threshold of each run, so these scores are optimistic.")
    cli_output.say(found["sentence"])
