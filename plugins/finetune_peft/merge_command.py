"""`finetune merge`."""

from __future__ import annotations

import click

from finetune.kit import cli_parameters


@click.command("merge")
@click.argument("run", type=cli_parameters.RunPath(file_okay=False))
@click.option(
    "--output",
    type=click.Path(file_okay=False),
    callback=cli_parameters.not_empty,
    help="New folder.  [default: RUN-merged]",
)
@cli_parameters.base
@cli_parameters.accept_changes
@cli_parameters.modules
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Data type of the weights.  [default: that of the base model in the run; for qlora, that of its files]",
)
@cli_parameters.trust_code
def command(run: str, output: str | None, base: str | None, accept_changes: bool, dtype: str | None) -> None:
    """Merge the adapter of a finished RUN into its base model.

    For `lora` (DoRA and rsLoRA too), `qlora`, `ia3` and `layernorm`. The new folder loads like any model of
    transformers, without PEFT, and `finetune predict` and `finetune evaluate` take it like a run. The weights are
    merged in float32 and rounded once. The outputs of the merged model are compared with those of the run's model.
    """
    from finetune.kit import cli_output

    with cli_output.loading():
        from finetune_peft.merging import merge

    output = output or f"{run.rstrip('/')}-merged"
    with cli_output.loading("Merging, and comparing the outputs"):
        change = merge(run, output, base=base, accept_changes=accept_changes, dtype=dtype)
    click.echo(
        f"Merged into {output}: plain weights in {change.dtype}; outputs differ by at most {change.difference:.1g}."
    )
    if change.dtype != "float32":
        click.echo(f"Rounding to {change.dtype} changes an output by at most {change.rounding:.1g} of the greatest.")
