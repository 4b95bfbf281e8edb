"""Which Python names may be imported and called: those that the user wrote, and none that a run folder holds.

A recipe can name Python, ``my_module:load``. The user wrote the recipe, so it is trusted. The files of a run folder
can come from a stranger, and they hold such names too. They are data until the user trusts the folder, with
``--trust-code`` or ``trust_code=True``. Names of plugins need no trust: whoever installs a plugin trusts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from finetune.errors import UntrustedCode

_trusted: set[str] = set()
"""Every name with a colon that the user gave to this process."""

_trusts_all = False
"""Whether a command was called with ``--trust-code``."""


def allow(content: Any) -> None:
    """Trust each name with a colon in text, a mapping or a list, at any depth.

    Call this only with what the user of this process wrote, or trusts by a flag.
    """
    if isinstance(content, str):
        if ":" in content:
            _trusted.add(content)
    elif isinstance(content, Mapping):
        for key, value in content.items():
            allow(key)
            allow(value)
    elif isinstance(content, list | tuple):
        for value in content:
            allow(value)


@contextmanager
def everything() -> Iterator[None]:
    """Trust every name within a `with` block: the user trusts the folder that a command reads."""
    global _trusts_all
    before, _trusts_all = _trusts_all, True
    try:
        yield
    finally:
        _trusts_all = before


def require(name: str, *, where: str) -> None:
    """Check that the user trusts a name of Python code.

    Args:
        name: ``"module:attribute"``.
        where: The section that holds it, for the message: ``"evaluator"``.

    Raises:
        UntrustedCode: It comes from a run folder, and the user has not said that its code may run.
    """
    if name not in _trusted and not _trusts_all:
        raise UntrustedCode(
            f"{where}: {name!r} is Python code that the run folder names, and it was not run. If you trust the folder, "
            "add --trust-code (in Python: trust_code=True)."
        )
