"""`finetune report`."""

from __future__ import annotations

import click

from finetune.cli import parameters
from finetune.cli.parameters import not_empty


@click.command("report")
@click.argument("run", type=parameters.RunPath(file_okay=False))
@click.option(
    "--output",
    type=click.Path(dir_okay=False),
    callback=not_empty,
    help="File to write. Default: report.html in the run folder.",
)
@parameters.loudness
def command(run: str, output: str | None, quiet: bool) -> None:
    """Write the HTML report of a finished RUN, or of the folder of several seeds.

    It is made of `result.json` alone.
    """
    from pathlib import Path

    from finetune.cli.output import loading
    from finetune.cli.output import page as write_page

    with loading(quiet=quiet):
        from finetune import report
        from finetune.report import seeds_page
        from finetune.seeds_result import SeedsResult, load_any

    result = load_any(run)
    if output:
        path = Path(output)
        links = report.path_to(Path(run), path)
        if isinstance(result, SeedsResult):
            write_page(path, seeds_page.render(result, links=links))
        else:
            write_page(path, report.page(result, links=links))
    elif isinstance(result, SeedsResult):
        path = seeds_page.write(result, Path(run))
    else:
        path = report.write(result, Path(run))
    click.echo(str(path))
