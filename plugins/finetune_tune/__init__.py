"""Learning curves: what more labels are worth."""

from __future__ import annotations

from collections.abc import Mapping

from finetune import hookimpl
from finetune.hookspecs import Command


@hookimpl
def commands() -> Mapping[str, Command]:
    """Register `curve`."""
    return {"curve": Command("finetune_tune.curve_command:command", group="train")}
