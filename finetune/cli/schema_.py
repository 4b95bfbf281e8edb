"""`finetune schema`."""

from __future__ import annotations

import click


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of recipes.

    Editors complete and check recipes with it.

    Write it to recipe.schema.json. In VS Code with the YAML extension, the first line of a recipe
    is then `# yaml-language-server: $schema=recipe.schema.json`.
    """
    from finetune.cli import output
    from finetune.plugins import discover

    with output.loading():
        from finetune.recipe.schema import schema

        made = schema(discover())
    output.as_json(made)
