"""`finetune evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from finetune.cli import parameters


@click.command("evaluate")
@click.argument("run", type=parameters.RunPath(file_okay=False))
@click.option(
    "--data",
    "dataset",
    callback=parameters.not_empty,
    help="Path of the data, or a plugin's source. Default: the data of the run.",
)
@click.option("--split", default="test", show_default=True, help="Split to score. It has no effect for a single file.")
@parameters.cache
@parameters.base
@parameters.accept_changes
@parameters.modules
@parameters.trust_code
@click.option(
    "--output",
    type=click.Path(file_okay=False),
    callback=parameters.not_empty,
    help="Folder for the predictions with their answers, in files of --block-rows rows. After a stop, the same call "
    "makes the files that are missing.",
)
@parameters.blocks
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def command(
    run: str,
    dataset: str | None,
    split: str,
    cache: Path | None,
    base: str | None,
    accept_changes: bool,
    as_json: bool,
    **blocks: Any,
) -> None:
    """Score the model of a finished RUN."""
    options = parameters.chosen(blocks, need_output=("overwrite", "block_rows"))
    from finetune.cli import output

    with output.loading():
        from finetune import api
    from finetune.progress import Console, Reporter

    reporter: Reporter = Reporter() if as_json else Console()
    scores = api.evaluate(
        run,
        dataset,
        split=split,
        base=base,
        accept_changes=accept_changes,
        reporter=reporter,
        cache=cache,
        **options,
    )
    if as_json:
        output.as_json(scores)
    else:
        output.table(["score", split], list(scores.items()))
