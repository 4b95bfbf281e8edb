"""Run an answer to an exercise, and its check."""

from __future__ import annotations

import io
import traceback
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from finetune_learn.course import Exercise

TODO = "TODO"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Whether an answer is right."""

    is_right: bool
    hint: str
    """What is wrong, and where; empty if the answer is right."""


def check(exercise: Exercise, code: str, *, name: str) -> Outcome:
    """Run the code of an answer, then the check of its exercise with the names that the code defines.

    Args:
        exercise: The exercise.
        code: The answer: Python code.
        name: Its file, for messages.
    """
    names: dict[str, Any] = {"__name__": "answer", "__file__": name}
    try:
        with redirect_stdout(io.StringIO()):
            exec(compile(code, name, "exec"), names)
            exec(
                compile(exercise.check, f"check of {exercise.name}", "exec"),
                {"__name__": "check", "answer": SimpleNamespace(**names)},
            )
    except AssertionError as error:
        return Outcome(is_right=False, hint=str(error) or "The result is not right.")
    except Exception as error:  # noqa: BLE001, the learner's code can fail in any way
        return Outcome(is_right=False, hint=_described(error, code, name))
    return Outcome(is_right=True, hint="")


def _described(error: Exception, code: str, name: str) -> str:
    """Return an error of the answer in one sentence, with its line."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else (lines[-1] if lines else None)
    where = f"{Path(name).name}:{line}: " if line else ""
    text = f"{where}{type(error).__name__}: {error}"
    if isinstance(error, NotImplementedError) or (TODO in code and line is None):
        return f"{text.rstrip(': ')}. There is still a {TODO} in the file."
    return f"{text}."
