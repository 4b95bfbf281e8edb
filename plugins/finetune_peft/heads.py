"""Which modules must train whole."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def born_outside_lora(model: Any, fresh: Collection[str]) -> set[str]:
    """Return the modules that hold what was born random, as PEFT names them.

    A part of the head stands for the whole head, since PEFT wraps heads whole: with RoBERTa, ``classifier.dense`` and
    ``classifier.out_proj`` give ``classifier``. A part of the body stands for itself: ``bert.pooler.dense``.
    """
    body = model.base_model_prefix
    return {name if name.startswith(f"{body}.") else name.split(".")[0] for name in fresh if name}
