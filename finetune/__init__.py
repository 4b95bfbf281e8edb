"""Fine-tune any pretrained transformer: one task, one strategy, one recipe."""

from __future__ import annotations

import sys

if getattr(sys, "argv", [])[:1] == ["-m"] and not sys.flags.safe_path:
    del sys.path[0]  # `python -m finetune` puts the current folder first, and the files of a stranger can lie there

from typing import TYPE_CHECKING, Any

from finetune.hookspecs import hookimpl

if TYPE_CHECKING:
    from finetune.adoption import adopt
    from finetune.api import evaluate, load, predict, train

__version__ = "0.1.0"

__all__ = ["__version__", "adopt", "evaluate", "hookimpl", "load", "predict", "train"]


def __getattr__(name: str) -> Any:
    """Import `finetune.api` on first use, because it imports torch and transformers."""
    if name in {"train", "load", "evaluate", "predict"}:
        from finetune import api

        return getattr(api, name)
    if name == "adopt":
        from finetune import adoption

        return adoption.adopt
    raise AttributeError(f"module 'finetune' has no attribute {name!r}")
