"""Fine-tune any pretrained transformer: one task, one strategy, one recipe."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from finetune.hookspecs import hookimpl

if TYPE_CHECKING:
    from finetune.api import evaluate, load, train

# transformers imports peft, and peft this: on a CPU with AVX512-BF16 it complains of a kernel that it did not fetch.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

__version__ = "0.1.0"

__all__ = ["__version__", "evaluate", "hookimpl", "load", "train"]


def __getattr__(name: str) -> Any:
    """Import what is heavy when it is first asked for."""
    if name in {"train", "load", "evaluate"}:
        from finetune import api

        return getattr(api, name)
    raise AttributeError(f"module 'finetune' has no attribute {name!r}")
