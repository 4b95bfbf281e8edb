"""Job files for the schedulers of clusters: Slurm, Kubernetes and SkyPilot.

The text files of this package are templates, one named after each scheduler. Whatever comes from the user goes through
the filter ``shell`` or ``yaml``, and never into a comment.
"""

from finetune.jobs.job import DAY, Gpus, Job, describe, name_of, parse_gpus, parse_time
from finetune.jobs.needs import away_from, missing_files, packages, versions
from finetune.jobs.templates import write

__all__ = [
    "DAY",
    "Gpus",
    "Job",
    "away_from",
    "describe",
    "missing_files",
    "name_of",
    "packages",
    "parse_gpus",
    "parse_time",
    "versions",
    "write",
]
