"""Modules of evaluate that leave nothing behind."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

import evaluate


def in_memory(cls: type[Any], *arguments: Any, **options: Any) -> Any:
    """Return an instance of a subclass of `evaluate.EvaluationModule` that writes no file.

    Even in memory, evaluate makes an empty folder for each module, which is never used: here, one that is gone again.
    """
    assert issubclass(cls, evaluate.EvaluationModule)
    with TemporaryDirectory() as folder:
        return cls(*arguments, keep_in_memory=True, cache_dir=folder, **options)
