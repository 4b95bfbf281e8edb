"""A model behind HTTP, by FastAPI and uvicorn."""

from __future__ import annotations

from collections.abc import Mapping

from finetune import hookimpl
from finetune.hookspecs import Command


@hookimpl
def commands() -> Mapping[str, Command]:
    """Register `serve`."""
    return {"serve": Command("finetune_serve.command:command", group="use")}


@hookimpl
def requirements() -> Mapping[str, Mapping[str, str]]:
    """Return what `serve` needs."""
    extra = "finetune-kit[serve]"
    return {"serve": {"fastapi": extra, "uvicorn": extra, "prometheus_client": extra}}
