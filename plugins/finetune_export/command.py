"""`finetune export`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from finetune.kit import cli_parameters
from finetune_export.formats import FORMATS

if TYPE_CHECKING:
    from finetune_export.exporting import Exported


@click.command("export")
@click.argument("model", type=cli_parameters.RunPath(file_okay=False))
@click.argument("output", type=click.Path(file_okay=False), callback=cli_parameters.not_empty)
@click.argument("options", nargs=-1, metavar="")
@click.option("--format", "format_", type=click.Choice(list(FORMATS)), help="What to write; it has no default.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help="Exit with 3, and keep nothing, if the primary score is worse by more points. A point is a hundredth of a "
    "score that goes to 1.",
)
@click.option(
    "--calibrate",
    type=click.IntRange(min=1),
    metavar="ROWS",
    help="For onnx-int8 and openvino-int8: quantize the activations with so many rows of train, once for all texts.",
)
@click.option(
    "--data",
    callback=cli_parameters.not_empty,
    help="Rows with answers on which to compare. Default: those that the run held out.",
)
@click.option("--split", help="Split to compare on. Default: test, or validation if there is no test split.")
@cli_parameters.task
@cli_parameters.base
@cli_parameters.accept_changes
@cli_parameters.modules
@cli_parameters.trust_code
@cli_parameters.as_json("Print what was measured as JSON.")
@cli_parameters.loudness
def command(
    model: str,
    output: str,
    options: tuple[str, ...],
    format_: str | None,
    tolerance: float | None,
    calibrate: int | None,
    data: str | None,
    split: str | None,
    task: str | None,
    base: str | None,
    accept_changes: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write MODEL for another runtime into the folder OUTPUT, and prove that it is as good.

    The held-out rows are scored again through that runtime. You see the difference of the score with its interval, the
    predictions that changed, and the size and the speed beside those of MODEL. `finetune predict`, `evaluate`, `serve`
    and `compare` take OUTPUT like a run.

    MODEL is a run, or a model of another program with --data, which takes options as in `finetune evaluate`.
    """
    sections, unknown = cli_parameters.sections(options)
    if unknown:
        raise click.UsageError(f"unexpected argument {unknown[0]!r}. Rows to compare on are given as --data.")
    if format_ is None:
        raise click.UsageError(f"say what to write: --format {'|'.join(FORMATS)}.")
    from finetune.kit import cli_output

    with cli_output.loading(quiet=quiet or as_json):
        from finetune_export.exporting import export

    found = export(
        model,
        output,
        format=format_,
        data=data,
        split=split,
        tolerance=tolerance,
        calibrate=calibrate or 0,
        task=task,
        base=base,
        accept_changes=accept_changes,
        **sections,
        reporter=cli_output.reporter(quiet=quiet or as_json),
    )
    if as_json:
        cli_output.as_json(_described(found))
    else:
        show(found)


def _described(found: Exported) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(found)


def show(found: Exported) -> None:
    """Print what an export changed."""
    from finetune.kit import cli_output
    from finetune_export.exporting import FLIPS

    cli_output.say(found.verdict)
    if found.proof.flips:
        first = found.proof.flips[0]
        cli_output.say(
            f"The first of the changed predictions, row {first.index}: {first.source} → {first.exported}. All of them "
            f"are in {found.directory}/{FLIPS}."
        )
    click.echo()
    rows = []
    for name in ("source", "exported"):
        one, many = found.speed[name]
        rows.append(
            [
                name if name == "source" else found.format,
                f"{found.bytes[name] / 1e6:.1f}",
                f"{one.p50_ms:.1f}",
                f"{one.p99_ms:.1f}",
                f"{many.p50_ms:.1f}",
                f"{many.p99_ms:.1f}",
                f"{many.rows_per_second:,.0f}",
            ]
        )
    headers = ["model", "MB", "1 row: p50 ms", "p99 ms", "32 rows: p50 ms", "p99 ms", "rows a second"]
    cli_output.table(headers, rows, title=f"{found.threads} threads, without the tokenizer")
    click.echo(f"\nWritten to {found.directory}.")
