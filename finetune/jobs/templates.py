"""Fill in the templates."""

from __future__ import annotations

import shlex
import textwrap
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from finetune import __version__
from finetune.errors import BadOptions
from finetune.jobs.job import Job
from finetune.recipe import scalar

WARNING = 300
"""Seconds before the end of a job at which it is stopped, so that it can save a checkpoint."""


def write(job: Job, *, scheduler: str) -> str:
    """Return the job file.

    Args:
        job: The run.
        scheduler: ``"slurm"``, ``"kubernetes"`` or ``"skypilot"``.

    Raises:
        BadOptions: The scheduler cannot run the job.
    """
    if scheduler != "slurm" and (job.output.startswith(("/", "~")) or ".." in job.output.split("/")):
        raise BadOptions(
            f"output: {job.output!r} is a folder of this machine only. Add a folder below the current one to the "
            "command: output=runs/NAME."
        )
    if scheduler == "kubernetes" and job.gpus.kind:
        raise BadOptions(
            f"--gpus: the types of GPUs have other names in each Kubernetes cluster, so {job.gpus.kind!r} cannot be "
            f"asked for. Write --gpus {job.gpus.count}, and the type into nodeSelector of the file."
        )
    return _templates().get_template(f"{scheduler}.txt").render(job=job, version=__version__, warning=WARNING)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("finetune.jobs", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["shell"] = shlex.quote
    environment.filters["yaml"] = scalar
    environment.filters["block"] = _block
    return environment


def _block(text: str, indent: int) -> str:
    """Return text as a YAML value of several lines, for a key that is indented by a number of spaces."""
    first, line_end, rest = scalar(text, style="|").partition("\n")
    return first + line_end + textwrap.indent(rest, " " * indent)
