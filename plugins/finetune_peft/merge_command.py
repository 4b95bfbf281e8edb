"""`finetune merge`."""

from __future__ import annotations

import click


@click.command("merge")
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.option("--output", type=click.Path(file_okay=False), help="New folder.  [default: RUN-merged]")
def command(run: str, output: str | None) -> None:
    """Fold the adapter of a finished RUN into the weights of its base.

    For `lora` (DoRA and rsLoRA too), `ia3` and `layernorm`. The folder that is written loads as any model of
    transformers, without PEFT, and `finetune predict` and `finetune evaluate` take it as they take a run. What it
    computes is compared with what the run's model computes.
    """
    from finetune_peft.merging import merge

    output = output or f"{run.rstrip('/')}-merged"
    difference = merge(run, output)
    click.echo(f"Merged into {output}: plain weights; outputs differ by {difference:.1g} at most.")
