"""What lies where a file is wanted: a pipe or a device is noticed before it is opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from finetune.errors import BadRecipe

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def not_a_file(path: str | Path) -> str:
    """Return what a path is that cannot be read as a file, such as ``a pipe``; an empty text for a file or for nothing.

    To open a pipe waits until somebody writes into it, and a device may never end.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # a link to nothing, or a name that no file can have
        return ""
    if stat.S_ISREG(mode):
        return ""
    return _KINDS.get(stat.S_IFMT(mode), "a device")


def require_files(run: Path) -> None:
    """Check that a run folder holds files and folders alone; each command that reads one does so first.

    Raises:
        BadRecipe: It holds something else.
    """
    for place, _, names in os.walk(run):
        for name in names:
            path = Path(place, name)
            if what := not_a_file(path):
                raise BadRecipe(f"{path} is {what}, not a file. Remove it, or restore the file as the run wrote it.")
