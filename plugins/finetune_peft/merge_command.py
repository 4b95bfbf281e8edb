"""`finetune merge`."""

from __future__ import annotations

import click


@click.command("merge")
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.option("--output", type=click.Path(file_okay=False), help="New folder.  [default: RUN-merged]")
def command(run: str, output: str | None) -> None:
    """Merge the adapter of a finished RUN into the weights of its base model.

    For `lora` (DoRA and rsLoRA too), `ia3` and `layernorm`. The new folder loads like any model of transformers,
    without PEFT, and `finetune predict` and `finetune evaluate` take it like a run. The outputs of the merged model
    are compared with those of the run's model.
    """
    from finetune_peft.merging import merge

    output = output or f"{run.rstrip('/')}-merged"
    difference = merge(run, output)
    click.echo(f"Merged into {output}: plain weights; outputs differ by at most {difference:.1g}.")
