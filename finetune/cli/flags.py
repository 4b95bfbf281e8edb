"""Flags that several commands take, ours and those of plugins."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from finetune import trust


def _trust(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        stack = ExitStack()
        stack.enter_context(trust.everything())
        ctx.call_on_close(stack.close)


def trust_code_flag(command: Any) -> Any:
    """Add ``--trust-code`` to a command that reads a run folder; the command gets no argument for it."""
    return click.option(
        "--trust-code",
        is_flag=True,
        expose_value=False,
        callback=_trust,
        help="Run the Python code that the run folder names. Use it only if you trust whoever wrote the folder.",
    )(command)
