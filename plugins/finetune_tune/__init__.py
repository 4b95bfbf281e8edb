"""Sweeps over the options of a recipe, by Optuna, and learning curves."""

from __future__ import annotations

from collections.abc import Mapping

from finetune import hookimpl
from finetune.hookspecs import Command


@hookimpl
def commands() -> Mapping[str, Command]:
    """Register `tune` and `curve`."""
    return {
        "tune": Command("finetune_tune.command:command", group="train"),
        "curve": Command("finetune_tune.curve_command:command", group="train"),
    }


@hookimpl
def requirements() -> Mapping[str, Mapping[str, str]]:
    """Return what `tune` needs."""
    return {"tune": {"optuna": "finetune-kit[tune]"}}
