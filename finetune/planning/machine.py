"""The memory of this machine: what is free, and what a step has taken."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")
_LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Names of the files with the limit and the use of a control group, and the key of what the system can take back, in
`memory.stat`. Sources: the kernel's documentation, "Control Group v2" and "Memory Resource Controller" (version 1)."""


def free_memory() -> int:
    """Return the bytes that a program can still take: of the GPU if there is one, else of the machine's memory.

    A container can have less than the machine: the limits of its control groups count.
    """
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    import psutil

    own = Path("/proc/self/cgroup")
    groups = own.read_text(encoding="utf-8") if own.is_file() else ""
    return min(int(psutil.virtual_memory().available), *left_by_groups(groups, root=CGROUP), 2**62)


def left_by_groups(groups: str, *, root: Path) -> list[int]:
    """Return the bytes that each control group of a process leaves it; groups without a limit are left out.

    Args:
        groups: The content of ``/proc/self/cgroup``.
        root: Where the control groups are mounted.
    """
    found = []
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = root / controllers
        # In a container the group can be the root of the mount, and the path that of the host.
        place = top / path.lstrip("/")
        for folder in (place, *place.parents):
            if folder.is_relative_to(top) and (left := _left(folder)) is not None:
                found.append(left)
    return found


def _left(folder: Path) -> int | None:
    """Return the bytes that a control group leaves; None without a limit."""
    for limit, used, reclaimable in _LIMITS:
        if (folder / limit).is_file() and (folder / used).is_file():
            text = (folder / limit).read_text(encoding="utf-8").strip()
            if text == "max" or int(text) >= 2**60:  # version 1 writes a very large number for none
                return None
            facts = dict.fromkeys([reclaimable], 0)
            if (folder / "memory.stat").is_file():
                for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines():
                    name, _, number = line.partition(" ")
                    facts[name] = int(number)
            return max(int(text) - int((folder / used).read_text(encoding="utf-8")) + facts[reclaimable], 0)
    return None


class Peak:
    """The most memory that was taken since an object of this class was made."""

    def __init__(self) -> None:
        self.before: int | None = None
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self.before = int(torch.cuda.memory_reserved())
            return
        _trim()  # what an earlier trial has freed would not be taken again
        try:
            # Linux lets a process reset its high-water mark. Source: proc_pid_clear_refs(5), value 5.
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
            self.before = _high_water()
        except OSError:  # another system, or a container without the right
            return

    def bytes(self) -> int | None:
        """Return the bytes above those at the beginning; None if this system does not say."""
        if self.before is None:
            return None
        now = int(torch.cuda.max_memory_reserved()) if torch.cuda.is_available() else _high_water()
        return max(now - self.before, 0)


def _trim() -> None:
    """Give freed memory back to the system, where the C library has a function for it (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _high_water() -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
