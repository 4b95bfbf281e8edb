"""The errors of `finetune`. Their messages say what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune.interfaces import Finding


_LONGEST_NAME = 80
"""Most characters of a name that `listed` shows."""


class FinetuneError(Exception):
    """Base class of all errors of `finetune`; the command line prints them without a traceback."""

    exit_code = 2
    """Exit status of the command line: 2 for a wrong call, recipe or data; 1 for a failure during a
    run."""

    def __str__(self) -> str:
        """Return the message without credentials, which a library may have put into its own error."""
        from finetune.secrets import redacted

        return redacted(super().__str__())


class UnknownName(FinetuneError):
    """A name that no plugin provides."""


class DuplicateName(FinetuneError):
    """A name that two plugins provide."""


class BrokenPlugin(FinetuneError):
    """A plugin that a recipe needs cannot be loaded."""


class UntrustedCode(FinetuneError):
    """A run folder names Python code, and the user has not said that it may run."""


class MissingLibrary(FinetuneError):
    """An optional library that a recipe needs, and that is not installed."""


class BadOptions(FinetuneError):
    """Options that are unknown or wrong for their class, or that contradict each other."""


class BadRecipe(FinetuneError):
    """A recipe that cannot be read, or that names something that does not exist."""


class BadData(FinetuneError):
    """Data that cannot be used; holds the findings with their places."""

    def __init__(
        self, message: str, *, findings: Sequence[Finding] = (), counts: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(message)
        self.findings = tuple(findings)
        """At most 20 findings of each code."""
        self.counts = dict(counts or {})
        """Code → number of all findings."""


class Incompatible(FinetuneError):
    """A task, strategy and model that cannot be combined."""


class UpstreamChanged(FinetuneError):
    """A library that finetune builds on lacks a name that finetune needs; says which, and which version to install."""


class OutputExists(FinetuneError):
    """An output folder that the run must not write into, because it is not empty."""


class BadCheckpoint(FinetuneError):
    """A checkpoint from which the run cannot resume."""


class TrainingFailed(FinetuneError):
    """A run that failed after it began to train."""

    exit_code = 1


class Diverged(TrainingFailed):
    """A loss, a gradient or a weight is not a finite number; nothing of it was saved."""

    exit_code = 3


class NoRoom(TrainingFailed):
    """The disk is full, or has too little room for the run."""

    exit_code = 4


class OutOfMemory(TrainingFailed):
    """The memory of the machine or of a GPU is not enough for the run."""

    exit_code = 5


class CannotWrite(TrainingFailed):
    """The run folder cannot be written: it is read-only, belongs to someone else, or the disk fails."""

    exit_code = 6


class UserCodeFailed(FinetuneError):
    """An error that Python code of the user raised; the command line shows it with the file and the line."""

    exit_code = 1


class Interrupted(FinetuneError):
    """A run that a signal stopped, after it saved a checkpoint."""

    def __init__(self, message: str, *, signal: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


class Paused(FinetuneError):
    """A run that a sweep paused after a checkpoint, to continue it later or never."""

    exit_code = 1


class ProcessFailed(FinetuneError):
    """Another process of the run has an error, which it shows."""

    exit_code = 1

    def __init__(self, message: str, *, number: int | None = None) -> None:
        super().__init__(message)
        self.number = number
        """The process; None if it is not known."""


def listed(names: Collection[object], *, most: int = 12) -> str:
    """Return names for a message: all of them, or the first and how many there are.

    >>> listed(["a", "b"]), listed(range(20), most=3), listed([])
    ('a, b', '0, 1, 2, … (20 in all)', 'nothing')
    """
    shown = ", ".join(_shortened(str(name)) for name in islice(names, most)) or "nothing"
    return shown if len(names) <= most else f"{shown}, … ({len(names):,} in all)"


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def did_you_mean(name: object, known: Collection[str]) -> str:
    """Return a hint with the most similar known name; an empty text if none is similar.

    >>> did_you_mean("lroa", ["lora", "full"])
    " Did you mean 'lora'?"
    >>> did_you_mean("zebra", ["lora", "full"])
    ''
    """
    close = get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
