"""Where tables lie while a process lives: one temporary folder, deleted at its end."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path


def folder() -> Path:
    """Return a new folder for one table, below one that the process deletes when it ends.

    It lies where `tempfile` puts things (``TMPDIR``). Nothing is ever read back by a later process, so no stale rows
    can be: `datasets` keys its cache by size and time of change.
    """
    return Path(tempfile.mkdtemp(dir=_root(os.getpid())))


@cache
def _root(process: int) -> str:
    root = tempfile.mkdtemp(prefix="finetune-data-")
    atexit.register(_remove, root, process)
    return root


def _remove(root: str, process: int) -> None:
    if os.getpid() == process:  # a forked child must not delete what its parent reads
        shutil.rmtree(root, ignore_errors=True)
