"""The model card of a run, and `finetune push`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from finetune import hookimpl
from finetune.hookspecs import Command

if TYPE_CHECKING:
    from finetune.interfaces import Job
    from finetune.kit import Result, SeedsResult


@hookimpl
def commands() -> Mapping[str, Command]:
    """Register `card` and `push`."""
    return {
        "card": Command("finetune_hub.card_command:command", group="share"),
        "push": Command("finetune_hub.push_command:command", group="share"),
    }


@hookimpl
def before_training(job: Job) -> None:
    """Check the recipe's `card` section before the first step."""
    from finetune_hub.facts import check_fields

    if job.recipe is not None:
        check_fields(job.recipe.card)


@hookimpl
def after_run(result: Result, directory: Path) -> None:
    """Write the card of a finished run."""
    from finetune_hub.card import write

    write(result, directory)


@hookimpl
def after_seeds(result: SeedsResult, directory: Path) -> None:
    """Write the card of several seeds, whose runs have all finished."""
    from finetune_hub.seeds_card import write

    write(result, directory)
