"""`finetune schema`."""

from __future__ import annotations

import click


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of a recipe, so that editors complete it.

    In VS Code with the YAML extension, begin the recipe with `# yaml-language-server: $schema=recipe.schema.json`.
    """
    from finetune.cli import output
    from finetune.plugins import discover
    from finetune.recipe.schema import schema

    output.as_json(schema(discover()))
