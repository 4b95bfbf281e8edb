"""What can go wrong, said so that a person can act on it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune.interfaces import Finding


class FinetuneError(Exception):
    """Anything `finetune` refuses or fails at; the command line prints it without a traceback."""

    exit_code = 2
    """What the command line exits with: 2 for usage, recipe or data; 1 for a failure while running."""


class UnknownName(FinetuneError):
    """A name that no plugin brings."""


class DuplicateName(FinetuneError):
    """One name, brought by two plugins."""


class BrokenPlugin(FinetuneError):
    """A plugin that a recipe needs, and that cannot be loaded."""


class MissingLibrary(FinetuneError):
    """An optional library that a recipe needs, and that is not installed."""


class BadOptions(FinetuneError):
    """Options that do not fit the class they are for."""


class BadRecipe(FinetuneError):
    """A recipe that cannot be read, or asks for what does not exist."""


class BadData(FinetuneError):
    """Data that cannot be trained on; carries the findings, by place."""

    def __init__(
        self, message: str, *, findings: Sequence[Finding] = (), counts: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(message)
        self.findings = tuple(findings)
        """At most 20 findings a code."""
        self.counts = dict(counts or {})
        """How many findings there were of each code, shown or not."""


class Incompatible(FinetuneError):
    """A task and a strategy (or a model) that cannot be joined, with the reason."""


class UpstreamChanged(FinetuneError):
    """A library that finetune builds on lacks a name that finetune needs; says which, and which version to install."""


class OutputExists(FinetuneError):
    """An output folder that already holds something."""


class BadCheckpoint(FinetuneError):
    """A checkpoint that cannot be resumed from as asked."""


class TrainingFailed(FinetuneError):
    """A run that began and could not end well."""

    exit_code = 1


class Interrupted(FinetuneError):
    """A run stopped by a signal, after saving what it could."""

    def __init__(self, message: str, *, signal: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


def did_you_mean(name: object, known: Collection[str]) -> str:
    """Return a hint that names the nearest of ``known``, or nothing.

    >>> did_you_mean("lroa", ["lora", "full"])
    " Did you mean 'lora'?"
    >>> did_you_mean("zebra", ["lora", "full"])
    ''
    """
    close = get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
