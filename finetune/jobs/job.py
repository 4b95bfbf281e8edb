"""What a job file says: the call of `finetune train`, the machines, and the places of files."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from finetune.errors import BadOptions
from finetune.jobs.needs import packages, versions
from finetune.plugins import Plugins
from finetune.recipe import Recipe

DAY = "24:00:00"
"""The time limit of a Slurm job, if the user gives none."""

_GPUS = re.compile(r"(?:([A-Za-z][A-Za-z0-9_.-]*):)?([0-9]{1,4})")
_TIME = re.compile(r"(?:([0-9]{1,3})-)?([0-9]{1,3}):([0-5][0-9]):([0-5][0-9])")
_LONGEST_NAME = 40
"""Kubernetes adds to the name of a job, and the name of a pod has at most 63 characters."""


@dataclass(frozen=True)
class Gpus:
    """The GPUs of each machine."""

    count: int
    kind: str = ""
    """The scheduler's name of the GPU; empty for any."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training run as a job."""

    recipe: str
    """Path of the recipe, from the current folder."""
    content: str
    """Text of the recipe."""
    overrides: Sequence[str]
    output: str
    """The run folder that the recipe and the overrides name."""
    folder: str
    """The current folder, to which relative paths refer."""
    python: str
    """The Python that has finetune."""
    nodes: int
    gpus: Gpus
    time: str
    """The time limit as Slurm writes it."""
    packages: Sequence[str]
    """What ``pip install`` takes."""
    versions: Sequence[str]
    """Constraints for pip: the versions that are installed here."""

    @property
    def name(self) -> str:
        """Return the name of the job."""
        return f"finetune-{self.short_name}"

    @property
    def short_name(self) -> str:
        """Return the name of the run."""
        return name_of(self.output)

    @property
    def recipe_below(self) -> str:
        """Return the path of the recipe below the current folder, whatever path the user gave.

        Raises:
            BadOptions: The recipe is in another folder.
        """
        below = os.path.relpath(Path(self.folder, self.recipe), self.folder)
        if below.startswith(".."):
            raise BadOptions(
                f"{self.recipe!r} is not in the current folder, which SkyPilot copies. Change to its folder."
            )
        return f"./{below}" if below.startswith("-") else below

    @property
    def processes(self) -> int:
        """Return how many processes train on each machine."""
        return max(self.gpus.count, 1)

    @property
    def bucket(self) -> str:
        """Return the name of the bucket of this run; buckets of all users of a cloud have different names."""
        place = f"{getpass.getuser()}@{socket.gethostname()}:{Path(self.folder, self.output)}"
        return f"{self.name}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:10]}"


def describe(
    recipe: Recipe,
    plugins: Plugins,
    *,
    path: str,
    content: str,
    overrides: Sequence[str],
    nodes: int,
    gpus: Gpus,
    time: str = DAY,
) -> Job:
    """Return the job of a recipe in the current folder and with the Python that runs.

    Raises:
        UnknownName: No plugin provides what the recipe names.
        BadOptions: A path is not UTF-8 text.
    """
    places = {"the path of the recipe": path, "the current folder": os.getcwd(), "the path of Python": sys.executable}
    for what, place in places.items():
        _require_text(place, what)
    return Job(
        recipe=f"./{path}" if path.startswith("-") else path,
        content=content,
        overrides=tuple(overrides),
        output=recipe.output,
        folder=places["the current folder"],
        python=sys.executable,
        nodes=nodes,
        gpus=gpus,
        time=time,
        packages=packages(recipe, plugins),
        versions=versions(),
    )


def parse_gpus(text: str) -> Gpus:
    """Return the GPUs that an option names.

    >>> parse_gpus("4"), parse_gpus("h100:8")
    (Gpus(count=4, kind=''), Gpus(count=8, kind='h100'))

    Raises:
        BadOptions: It names none.
    """
    found = _GPUS.fullmatch(text)
    if found is None:
        raise BadOptions(f"{text!r} is no number of GPUs. Write 4, or a type and a number: h100:4.")
    return Gpus(int(found[2]), found[1] or "")


def parse_time(text: str) -> str:
    """Return a time limit as Slurm reads it.

    >>> parse_time("2-00:30:00")
    '2-00:30:00'

    Raises:
        BadOptions: It is none.
    """
    if _TIME.fullmatch(text) is None:
        raise BadOptions(f"{text!r} is no time limit. Write hours:minutes:seconds, such as 24:00:00, or 2-00:00:00.")
    return text


def name_of(output: str) -> str:
    """Return a name that every scheduler takes, made of the name of a run folder.

    >>> name_of("runs/Reviews 2"), name_of("../Ä"), name_of("runs/reviews/")
    ('reviews-2', 'run', 'reviews')
    """
    last = PurePosixPath(output).name.lower()
    return re.sub(r"[^a-z0-9]+", "-", last).strip("-")[:_LONGEST_NAME].rstrip("-") or "run"


def _require_text(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadOptions(f"{what}, {text!r}, is not UTF-8, so a job file cannot hold it. Rename it.") from error
