"""`finetune card`."""

from __future__ import annotations

import click

from finetune.kit import cli_parameters


@click.command("card")
@click.argument("run", type=cli_parameters.RunPath(file_okay=False))
@click.argument("fields", nargs=-1, metavar="[FIELD=TEXT]...")
@cli_parameters.modules
@cli_parameters.trust_code
def command(run: str, fields: tuple[str, ...]) -> None:
    """Write the model card of a finished RUN again, with your facts.

    Fields are those of the recipe's `card` section: license=apache-2.0 language=en intended_use="Sorting letters."
    They are saved in the run's recipe and result; those of several seeds in each of their runs, too.
    """
    from pathlib import Path

    from finetune.kit import cli_output

    with cli_output.loading():
        from finetune.kit import Result, SeedsResult, load_result
        from finetune_hub import seeds_card
        from finetune_hub.card import set_fields, write
        from finetune_hub.facts import facts_of
        from finetune_hub.hub_rules import card_problems

    given, result = dict(_split(field) for field in fields), load_result(run)
    if isinstance(result, SeedsResult):
        if given:
            result = seeds_card.set_fields(result, Path(run), given)
        click.echo(str(seeds_card.write(result, Path(run))))
        return
    if given:
        set_fields(Path(run), given)
        result = Result.load(run)
    click.echo(str(write(result, Path(run))))
    facts = facts_of(result, Path(run))
    for problem in card_problems(facts.fields, facts.license, Path(run)):
        click.echo(f"not ready to push: {problem}", err=True)


def _split(field: str) -> tuple[str, str]:
    name, sign, value = field.partition("=")
    if not sign:
        raise click.UsageError(f"{field!r}: write FIELD=TEXT, such as license=apache-2.0.")
    return name, value
