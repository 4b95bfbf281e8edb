"""Modules of 🤗 evaluate as further metrics, and the scores of any task as a module of evaluate."""

from __future__ import annotations

from collections.abc import Mapping

from finetune import hookimpl


@hookimpl
def metrics() -> Mapping[str, str]:
    """Register `evaluate:…` for the recipe's ``metrics``."""
    return {"evaluate:": "finetune_evaluate.metric:metric"}


@hookimpl
def requirements() -> Mapping[str, Mapping[str, str]]:
    """Return what the metrics need: 🤗 evaluate."""
    return {"*": {"evaluate": "finetune-kit[evaluate]"}}
