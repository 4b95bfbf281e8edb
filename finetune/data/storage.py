"""The temporary folder of a process for its tables; it is deleted when the process ends."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path


def folder() -> Path:
    """Return a new folder for one table, inside the temporary folder of the process.

    The folder is where `tempfile` puts files (``TMPDIR``). No later process reads it, so rows are
    never stale, as they can be in the cache of `datasets`, which identifies a file by its size and
    modification time.
    """
    return Path(tempfile.mkdtemp(dir=_root(os.getpid())))


@cache
def _root(process: int) -> str:
    root = tempfile.mkdtemp(prefix="finetune-data-")
    atexit.register(_remove, root, process)
    return root


def _remove(root: str, process: int) -> None:
    if os.getpid() == process:  # a forked child must not delete the tables of its parent
        shutil.rmtree(root, ignore_errors=True)
