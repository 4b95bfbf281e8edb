"""`finetune evaluate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click

from finetune.cli import parameters


@click.command("evaluate")
@click.argument("run", type=parameters.RunPath(file_okay=False))
@click.argument("others", nargs=-1, metavar="")
@click.option(
    "--data",
    "dataset",
    callback=parameters.not_empty,
    help="Path of the data, or a plugin's source. Default: the data of the run.",
)
@click.option("--split", help="Split to score. Default: test, or validation if there is no test split.")
@click.option(
    "--on-bad",
    type=click.Choice(["error", "drop"]),
    help="What to do with bad rows of --data: stop, or leave them out. Default: as in the run.",
)
@parameters.cache
@parameters.task
@parameters.base
@parameters.accept_changes
@parameters.modules
@parameters.trust_code
@click.option(
    "--output",
    type=click.Path(),
    callback=parameters.not_empty,
    help="Folder for the predictions with their answers, in files of --block-rows rows, and for the scores in "
    "evaluation.json; or a .json file for the scores alone. After a stop, the same call predicts what is missing.",
)
@parameters.answering
@parameters.blocks
@parameters.as_json("Print the scores, their intervals and what was scored as JSON.")
@parameters.loudness
def command(
    run: str,
    others: tuple[str, ...],
    dataset: str | None,
    split: str | None,
    on_bad: Literal["error", "drop"] | None,
    cache: Path | None,
    task: str | None,
    base: str | None,
    accept_changes: bool,
    abstain_below: float | None,
    coverage: float | None,
    as_json: bool,
    quiet: bool,
    **blocks: Any,
) -> None:
    """Score the model of a finished RUN, or a model that another program trained.

    RUN can also be a folder that transformers or PEFT wrote, or an id of the Hub with --task. Such a model takes
    options: `preprocessor.max_length=384`, and the names of the columns: `columns.review=text`.
    """
    sections, unknown = parameters.sections(others)
    if unknown:
        raise click.UsageError(f"unexpected argument {unknown[0]!r}. Data to score is given as --data {unknown[0]}.")
    options = parameters.chosen(blocks, need_output=("overwrite", "block_rows"))
    if on_bad is not None and dataset is None:
        raise click.UsageError("--on-bad has an effect with --data only.")
    from finetune.cli import output

    with output.loading(quiet=quiet or as_json):
        from finetune import api

    opening = api.Opening(
        task=task,
        base=base,
        accept_changes=accept_changes,
        answering=api.Answering(abstain_below=abstain_below, coverage=coverage),
        **sections,
    )
    found = api.evaluation(
        api.open_without_weights(run, opening),
        dataset,
        split=split,
        on_bad=on_bad,
        reporter=output.reporter(quiet=quiet or as_json),
        cache=cache,
        **options,
    )
    if as_json:
        output.as_json(asdict(found))
        return
    output.evaluated(found)
