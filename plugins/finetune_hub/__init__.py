"""A model card that is true, and the way to the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from finetune import hookimpl

if TYPE_CHECKING:
    from finetune.interfaces import Job
    from finetune.kit import Result


@hookimpl
def commands() -> Mapping[str, str]:
    """Bring `card` and `push`."""
    return {"card": "finetune_hub.card_command:command", "push": "finetune_hub.push_command:command"}


@hookimpl
def before_training(job: Job) -> None:
    """Refuse an unknown word of the recipe's `card` section before the first step."""
    from finetune_hub.facts import require_words

    require_words(job.recipe.card)


@hookimpl
def after_run(result: Result, directory: Path) -> None:
    """Write the card of a run that has ended."""
    from finetune_hub.card import write

    write(result, directory)
