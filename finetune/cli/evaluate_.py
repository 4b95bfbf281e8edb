"""`finetune evaluate`."""

from __future__ import annotations

import click

from finetune.cli.flags import trust_code_flag


@click.command("evaluate")
@click.argument("run", type=click.Path(file_okay=False))
@click.option("--data", "dataset", help="Path of the data, or a plugin's source. Default: the data of the run.")
@click.option("--split", default="test", show_default=True, help="Split to score. It has no effect for a single file.")
@click.option("--base", help="Folder or Hub id of the base model, if it has moved since the run was trained.")
@trust_code_flag
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def command(run: str, dataset: str | None, split: str, base: str | None, as_json: bool) -> None:
    """Score the model of a finished RUN."""
    from finetune import api
    from finetune.cli import output
    from finetune.progress import Console, Reporter

    reporter: Reporter = Reporter() if as_json else Console()
    scores = api.evaluate(run, dataset, split=split, base=base, reporter=reporter)
    if as_json:
        output.as_json(scores)
    else:
        output.table(["score", split], list(scores.items()))
