"""The course on the command line: lessons, exercises that are checked, quizzes, and a rubric for a run."""

from __future__ import annotations

from collections.abc import Mapping

from finetune import hookimpl
from finetune.hookspecs import Command


@hookimpl
def commands() -> Mapping[str, Command]:
    """Register `learn`."""
    return {"learn": Command("finetune_learn.command:command", group="learn")}
