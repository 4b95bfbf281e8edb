"""Code that a recipe names, such as a metric or a reward: where an error in it is, and what it returned."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType

from finetune.errors import BadOptions, FinetuneError, UserCodeFailed
from finetune.secrets import redacted

_PACKAGES = {"site-packages", "dist-packages"}
"""Folders into which packages are installed: of the environment, of the user, or of the system."""
OWN = "finetune"
"""How the names of our packages begin, and those of plugins."""


def place_of(error: BaseException) -> str:
    """Return the file and the line in code of the user at which an error was raised; an empty text for none.

    Code of the user is everything that is neither installed, nor part of Python, nor of finetune and its plugins.
    """
    if isinstance(error, SyntaxError) and error.filename and _is_of_user(error.filename):
        return f"{_short(error.filename)}, line {error.lineno}"
    place = ""
    step: TracebackType | None = error.__traceback__
    while step is not None:
        code, module = step.tb_frame.f_code, str(step.tb_frame.f_globals.get("__name__", ""))
        if not module.startswith(OWN) and _is_of_user(code.co_filename):
            place = f"{_short(code.co_filename)}, line {step.tb_lineno}"
        step = step.tb_next
    return place


def described(error: BaseException) -> str:
    """Return an error in a line, with its place: ``KeyError: 'gold' (my_metrics.py, line 3)``; without credentials."""
    lines = str(getattr(error, "msg", None) or error).strip().splitlines()
    kind, place = type(error).__name__, place_of(error)
    text = f"{kind}: {redacted(lines[0])}" if lines else kind
    return f"{text} ({place})" if place else text


def failed(error: BaseException) -> UserCodeFailed | None:
    """Return the error to show for one that code of the user raised; None for another error, and in Python's dev mode.

    In that mode, the whole traceback is shown.
    """
    if not place_of(error) or sys.flags.dev_mode:
        return None
    return UserCodeFailed(f"{described(error)}. Set PYTHONDEVMODE=1 to see the whole traceback.")


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line; its type if it has no message.

    >>> one_line(ValueError("Unknown value.\\n  Use one of a")), one_line(KeyError())
    ('Unknown value. Use one of a', 'KeyError')
    """
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of the message of an error; its type if it has no message.

    >>> first_line(OSError("There is no config.json.\\nSee the documentation.")), first_line(KeyError())
    ('There is no config.json.', 'KeyError')
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def calling(what: str, *, hint: str = "") -> Iterator[None]:
    """Turn an error of code that a recipe names into one sentence.

    Args:
        what: Which code: ``metrics: 'my_metrics:score'``.
        hint: A further sentence.

    Raises:
        BadOptions: The code raised an error that is not one of finetune's.
    """
    try:
        yield
    except FinetuneError:
        raise
    except Exception as error:
        raise BadOptions(f"{what} raised {described(error)}.{' ' if hint else ''}{hint}") from error


@cache
def _installed() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple(Path(paths[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def _is_of_user(filename: str) -> bool:
    path = Path(filename)
    if not path.is_file():  # such as <frozen importlib._bootstrap>
        return False
    whole = path.resolve()
    if _PACKAGES & set(whole.parts):
        return False
    return not any(whole.is_relative_to(folder) for folder in _installed())


def _short(filename: str) -> str:
    """Return a path as seen from the current folder, if it is inside it."""
    whole, here = Path(filename).resolve(), Path.cwd()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)
