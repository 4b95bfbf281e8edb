"""Names that the shell completes: of tasks, strategies, samples and everything that `finetune list` shows.

Nothing here imports torch or transformers.
"""

from __future__ import annotations

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

from finetune.descriptions import summary

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete(hook: str) -> Complete:
    """Return a function that completes the names of one kind, each with its summary.

    Args:
        hook: A hook of plugins: ``"tasks"``, ``"strategies"``.
    """

    def names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from finetune.plugins import discover

        targets = discover().catalogues[hook].targets
        return [
            CompletionItem(name, help=summary(target))
            for name, target in sorted(targets.items())
            if name.startswith(incomplete)
        ]

    return names


def complete_any(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete each name that `finetune list` shows, and each command."""
    from finetune.cli.list_ import installed
    from finetune.plugins import discover

    found: dict[str, str] = {}
    for row in installed(discover()):
        found.setdefault(row["name"], row["summary"])
    group = context.parent.command if context.parent else None
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            found.setdefault(name, "a command")
    return [CompletionItem(name, help=found[name]) for name in sorted(found) if name.startswith(incomplete)]


def complete_ready(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the recipes of the gallery."""
    from finetune.plugins import discover
    from finetune.recipe import gallery

    recipes = gallery.found(discover())
    return [CompletionItem(one.name, help=one.title) for one in recipes if one.name.startswith(incomplete)]
