"""`finetune card`."""

from __future__ import annotations

import click


@click.command("card")
@click.argument("run", type=click.Path(file_okay=False))
@click.argument("words", nargs=-1, metavar="[WORD=TEXT]...")
def command(run: str, words: tuple[str, ...]) -> None:
    """Write the model card of a finished run again, with what only you can say.

    Words are those of the recipe's `card` section: license=apache-2.0 language=en intended_use="Sorting letters."
    They are kept in the run's record.
    """
    from pathlib import Path

    from finetune.kit import Result
    from finetune_hub.card import say, write

    if words:
        say(Path(run), dict(_parted(word) for word in words))
    click.echo(str(write(Result.load(run), Path(run))))


def _parted(word: str) -> tuple[str, str]:
    key, sign, value = word.partition("=")
    if not sign:
        raise click.UsageError(f"{word!r}: write WORD=TEXT, such as license=apache-2.0.")
    return key, value
