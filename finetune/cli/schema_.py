"""`finetune schema`."""

from __future__ import annotations

import click


@click.command("schema")
@click.argument("what", type=click.Choice(["recipe", "result"]), default="recipe", metavar="[recipe|result]")
def command(what: str) -> None:
    """Print the JSON Schema of recipes, or of `result.json`.

    Editors complete and check recipes with the first, and programs read the result of a run with the second.

    Write it to recipe.schema.json. In VS Code with the YAML extension, the first line of a recipe
    is then `# yaml-language-server: $schema=recipe.schema.json`.
    """
    from finetune.cli import output
    from finetune.plugins import discover

    with output.loading():
        if what == "result":
            from finetune import result_schema

            made = result_schema.schema()
        else:
            from finetune.recipe.schema import schema

            made = schema(discover())
    output.as_json(made)
