"""Which Python names may be imported and called: those that the user wrote, and none that a run folder holds.

A recipe can name Python, ``my_module:load``. The user wrote the recipe, so it is trusted. The files of a run folder
can come from a stranger, and they hold such names too. They are data until the user trusts the folder, with
``--trust-code`` or ``trust_code=True``. Names of plugins need no trust: the user installed them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune.errors import UntrustedCode

RUN_FILES = ("result.json", "log.jsonl", "*.safetensors", "adapter_config.json", "checkpoint-*")
"""Patterns of files that a run folder holds beside its recipe, so that somebody else may have written it."""

_trusted: set[str] = set()
"""Every name with a colon that the user gave to this process."""

_folders: list[Path] = []
"""Folders whose modules the user trusts."""

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


def allow_folder(folder: Path) -> None:
    """Trust each module in a folder that the user names."""
    _folders.append(folder.resolve())


def is_own(recipe: Path) -> bool:
    """Return whether the user wrote a recipe, or trusts it: it lies in no run folder, or ``--trust-code`` is set."""
    folder = recipe.resolve().parent
    return _trusts_all or not any(any(folder.glob(pattern)) for pattern in RUN_FILES)


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
    if name in _trusted or _trusts_all:
        return
    package = name.partition(":")[0].partition(".")[0]
    if package and any((folder / f"{package}.py").is_file() or (folder / package).is_dir() for folder in _folders):
        return
    raise UntrustedCode(
        f"{where}: {name!r} is Python code that the run folder names, and it was not run. If it is yours, name the "
        "folder of the module with --modules. If you trust the whole run folder, add --trust-code (in Python: "
        "trust_code=True)."
    )
