"""Progress bars of datasets, whose place our own take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from datasets import disable_progress_bars, enable_progress_bars
from datasets.utils.logging import is_progress_bar_enabled


@contextmanager
def without_bars() -> Iterator[None]:
    """Silence them for a while."""
    shown = is_progress_bar_enabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()
