"""`finetune compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from finetune.cli import parameters
from finetune.cli.parameters import not_empty

if TYPE_CHECKING:
    from finetune.evaluation.comparison import Comparison

NOT_BETTER = 3
"""Exit status of ``--require-better`` if the last run is not better than the first."""


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...", type=parameters.RunPath(file_okay=False))
@click.option("--split", callback=not_empty, help="Split to compare on. Default: test if it exists, else validation.")
@parameters.modules
@parameters.trust_code
@parameters.as_json("Print the comparison as JSON.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False),
    callback=not_empty,
    help="Write the comparison as an HTML page to this file.",
)
@click.option("--require-better", is_flag=True, help="Exit with 3 unless the last run is better than the first.")
@parameters.loudness
def command(
    runs: tuple[str, ...], split: str | None, as_json: bool, html: str | None, require_better: bool, quiet: bool
) -> None:
    """Compare finished runs with the first of them, row by row.

    RUN can also be the folder of several seeds: their mean is compared.

    A run is better or worse if the 95% interval of the paired difference does not contain 0;
    otherwise the comparison is inconclusive.
    """
    from dataclasses import asdict
    from pathlib import Path

    from finetune.cli import output

    if len(runs) < 2:
        raise click.UsageError("name at least two run folders.")
    with output.loading(quiet=quiet):
        from finetune.evaluation import comparison
        from finetune.report import comparison_page

    with output.loading("Comparing", quiet=quiet):
        found = comparison.compare(runs, split=split)
    if html:
        output.page(Path(html), comparison_page(found))
    if as_json:
        output.as_json(asdict(found))
    else:
        show(found)
    if require_better and found.runs[-1].verdict != "better":
        click.get_current_context().exit(NOT_BETTER)


def show(found: Comparison) -> None:
    """Print a comparison: the scores, then the cost, then the differences between the recipes."""
    from finetune.cli import output
    from finetune.evaluation.verdicts import format_percent, format_score

    scores: list[list[object]] = []
    costs: list[list[object]] = []
    for run in found.runs:
        change = format_score(run.difference["value"]) if run.difference else ""
        interval, span = _span(run.interval), _span(run.difference)
        scores.append([run.run, format_score(run.score), interval, change, span, run.verdict])
        share = format_percent(run.trainable_parameters, run.total_parameters)
        seconds, memory = round(run.training_seconds, 1), round(run.peak_memory_mb)
        saved = f"{run.saved_bytes / 1e6:.1f}"
        costs.append([run.run, run.trainable_parameters, share, run.steps, seconds, memory, saved])
    several = [run for run in found.runs if len(run.seeds) > 1]
    headers = ["run", f"{found.split} {found.primary}", "95% interval", "difference", "95% interval", "verdict"]
    output.table(headers, scores, title=f"{found.size:,} rows of {found.split}")
    for run in several:
        deviation = "unknown" if run.deviation is None else format_score(run.deviation)
        click.echo()
        output.say(
            f"{run.run}: the mean of {len(run.seeds)} seeds; standard deviation between them {deviation}. The cost "
            "is that of one run."
        )
    for run in found.runs:
        if run.basis:
            output.say(f"{run.run}: {run.basis}")
    click.echo()
    output.table(["run", "trained", "share", "steps", "seconds", "memory MiB", "saved MB"], costs)
    if not found.recipes:
        click.echo("\nThe recipes of the runs are the same.")
        return
    click.echo()
    names = [run.run for run in found.runs]
    output.table(["recipe", *names], [[key, *map(_short, values)] for key, values in found.recipes.items()])


def _span(bounds: Any) -> str:
    from finetune.evaluation.verdicts import format_score

    return f"{format_score(bounds['low'])} to {format_score(bounds['high'])}" if bounds else ""


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"
