"""The temporary folder of a process for its tables; it is deleted when the process ends.

A process that is killed cannot delete its folder. So each holds a file that its process keeps locked. The next process
that loads data deletes the folders of the same user whose lock the system has released. The lock goes last, so that a
process that is killed while it deletes leaves a folder that the next one can finish.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import stat
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

if sys.platform != "win32":
    import fcntl

PREFIX = "finetune-data-"
LOCK = "lock"
"""The file in a folder that its process keeps locked."""
_SECONDS_TO_LOCK = 60
"""A folder without a lock that is empty after this time was left by a process that was killed before it could lock."""


_parent: list[str] = []
"""The temporary folder of the process that started this one, if it is used."""


def root() -> str:
    """Return the temporary folder of this process."""
    return _parent[0] if _parent else _root(os.getpid())


def use(root: str) -> None:
    """Make the folders of this process inside that of the one that started it, which deletes them."""
    _parent[:] = [root]


def folder() -> Path:
    """Return a new folder for one table, inside the temporary folder of the process.

    The folder is where `tempfile` puts files (``TMPDIR``). No later process reads it, so rows are
    never stale, as they can be in the cache of `datasets`, which identifies a file by its size and
    modification time.
    """
    return Path(tempfile.mkdtemp(dir=root()))


@cache
def _root(process: int) -> str:
    remove_abandoned()
    root = tempfile.mkdtemp(prefix=PREFIX)
    if sys.platform != "win32":
        _lock(Path(root))
    atexit.register(_remove, root, process)
    return root


def _lock(root: Path) -> None:
    """Lock a folder until this process and its children end."""
    new = root / f"{LOCK}.new"
    file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)  # stays open
    fcntl.flock(file, fcntl.LOCK_EX)
    new.rename(root / LOCK)  # so that no process sees it before it is locked


def remove_abandoned() -> None:
    """Delete the folders of this user's processes that were killed; leave those of living processes and of others."""
    if sys.platform == "win32":
        return
    with os.scandir(tempfile.gettempdir()) as entries:
        names = [entry.path for entry in entries if entry.name.startswith(PREFIX)]
    for path in names:
        try:
            _remove_if_abandoned(path)
        except OSError:
            continue  # in use, of another user, a link, or deleted by another process in this moment


def _remove_if_abandoned(path: str) -> None:
    """Delete a folder if no process has locked the file in it, or if it is old, empty and never had that file.

    Raises:
        OSError: It is locked, it has files but not this one, it belongs to another user, or it is a link.
    """
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(directory)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            return  # not made by `tempfile.mkdtemp` for this user
        if not set(os.listdir(directory)) - {f"{LOCK}.new"}:
            if found.st_mtime < time.time() - _SECONDS_TO_LOCK:
                _delete(path)
            return
        lock = os.open(LOCK, os.O_RDWR | os.O_NOFOLLOW, dir_fd=directory)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _delete(path)
        finally:
            os.close(lock)
    finally:
        os.close(directory)


def _remove(root: str, process: int) -> None:
    if os.getpid() == process:  # a forked child must not delete the tables of its parent
        with contextlib.suppress(OSError):
            _delete(root)


def _delete(root: str) -> None:
    """Delete a folder, its lock last."""
    with os.scandir(root) as entries:
        tables = [entry for entry in entries if entry.name != LOCK]
    for entry in tables:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(root, LOCK))
    os.rmdir(root)
