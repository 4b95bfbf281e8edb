"""What evaluators and trainers need from options and preprocessors, and the errors where it is missing."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from finetune.errors import BadOptions, did_you_mean
from finetune.interfaces import Preprocessor


def require_key(found: Mapping[str, Any], key: str, preprocessor: Preprocessor, *, method: str, remedy: str) -> Any:
    """Return a value that an evaluator or a trainer needs from a preprocessor.

    Args:
        found: What the preprocessor's method returned, or one row of it.
        key: The key that is needed.
        preprocessor: The preprocessor, for the message.
        method: The method, for the message: ``canonical()``.
        remedy: What the author of the preprocessor must do.

    Raises:
        BadOptions: The key is missing.
    """
    if key in found:
        return found[key]
    given = f"only {', '.join(map(str, found))}" if found else "nothing"
    raise BadOptions(f"preprocessor: {type(preprocessor).__name__}.{method} gives no {key!r}, but {given}. {remedy}")


def check_primary(name: str, scores: Collection[str], per_group: Collection[str] = ()) -> None:
    """Check that an evaluator has its primary score.

    Args:
        name: The primary score.
        scores: The names of the evaluator's scores.
        per_group: The scores that each label, or another group, has for itself: ``f1`` for ``f1/<label>``.

    Raises:
        ValueError: There is no such score; the message names the nearest one.
    """
    score, slash, _ = name.partition("/")
    if name in scores or (slash and score in per_group):
        return
    known = [*scores, *(f"{each}/<label>" for each in per_group)]
    raise ValueError(
        f"primary: {name!r} is not a score of this evaluator.{did_you_mean(name, scores)} "
        f"Choose from: {', '.join(known)}."
    )


def check_temperature(temperature: float | None) -> None:
    """Check the option `temperature` of an evaluator: a positive number, or None.

    Raises:
        ValueError: It is something else.
    """
    if temperature is not None and not 0 < temperature < math.inf:
        raise ValueError(f"temperature={temperature} must be greater than 0, and finite")
