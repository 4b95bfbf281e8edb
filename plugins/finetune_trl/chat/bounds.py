"""Limits for chat templates: a template is a program, and a stranger can write one that does not end."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Environment, TemplateSyntaxError

if sys.platform != "win32":
    import resource

SECONDS = 10.0
"""How long a template may take for one dialogue; those of models take a millisecond."""

MEMORY = 2 * 2**30
"""Bytes that a template may allocate at a time."""

MOST = 2
"""How often a template may go over a limit; then it is refused at once, so that a long file does not take hours."""

_exceeded: dict[str, tuple[int, str]] = {}
"""Template → how often it went over a limit in this process, and what was said."""


@contextmanager
def bounded(template: str) -> Iterator[None]:
    """Limit the time and the memory that a template takes within a `with` block.

    The limits need Unix; that of time holds in the main thread, where features are made.

    Raises:
        TimeoutError: It took too long, or it did so before, or took too much memory.
        MemoryError: It took too much memory.
        ValueError: It computes a power, which no limit of time can interrupt.
    """
    if _computes_power(template):
        raise ValueError("it computes a power (**), which can take very long")
    exceeded, said = _exceeded.get(template, (0, ""))
    if 0 < exceeded <= MOST:
        gc.collect()  # its variables can hold gigabytes, in cycles
    if exceeded >= MOST:
        _exceeded[template] = MOST + 1, said
        raise TimeoutError(f"{said}; it is not tried again")
    try:
        with _limited():
            yield
    except (TimeoutError, MemoryError) as error:
        _exceeded[template] = exceeded + 1, str(error)
        raise


@contextmanager
def _limited() -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    with _limited_memory():
        if threading.current_thread() is threading.main_thread():
            with _limited_time():
                yield
        else:
            yield


@contextmanager
def _limited_time() -> Iterator[None]:
    before, began = signal.signal(signal.SIGALRM, _stop), time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # somebody else waits for the signal
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 1e-3), interval)


def _stop(*_: Any) -> NoReturn:
    raise TimeoutError(f"it takes longer than {SECONDS:g} seconds for one dialogue")


@contextmanager
def _limited_memory() -> Iterator[None]:
    try:
        file = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:  # not Linux
        yield
        return
    pages = int(os.read(file, 100).split()[0])
    os.close(file)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + MEMORY
    if soft != resource.RLIM_INFINITY:
        wanted = min(wanted, soft)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    except MemoryError as error:
        raise MemoryError(f"it takes more than {MEMORY / 2**30:g} GiB of memory") from error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@lru_cache(maxsize=64)
def _computes_power(template: str) -> bool:
    """Return whether a template has the operator ``**`` between two values, not before keyword arguments."""
    before = ""
    try:
        for _, kind, text in Environment().lex(template):
            if kind == "whitespace":
                continue
            if kind == "operator" and text == "**" and before not in {"", "(", ","}:
                return True
            before = "" if kind.endswith(("begin", "end")) else text
    except TemplateSyntaxError:
        return False  # rendering says where the error is
    return False
