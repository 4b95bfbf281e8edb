"""Which Python names may be imported and called: those that the user wrote, and none that a run folder holds.

A recipe can name Python, ``my_module:load``. The user wrote the recipe, so it is trusted. The files of a run folder
can come from a stranger, and they hold such names too. They are data until the user trusts the folder, with
``--trust-code`` or ``trust_code=True``. Names of plugins need no trust: the user installed them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from finetune.errors import UntrustedCode

RUN_FILES = (
    "result.json", "log.jsonl", "predictions.jsonl", "report.html", "*.safetensors", "*.safetensors.index.json",
    "adapter_config.json", "tokenizer_config.json", "*checkpoint-*",
)  # fmt: skip
"""Patterns of files that a run folder or a model holds beside a recipe, so that somebody else may have written it."""

KERNELS = ("attn_implementation", "experts_implementation", "use_kernels", "allow_all_kernels", "kernel_config")
"""Options of `from_pretrained` that can run kernels, which are code on the Hub."""

State = tuple[set[str], set[str], list[Path], bool]
"""What `state` returns."""

_trusted: set[str] = set()
"""Every name with a colon that the user gave to this process, and each kernel, with the name of its option."""

_foreign: set[str] = set()
"""Every such name that this process read from a run folder without a flag."""

_folders: list[Path] = []
"""Folders whose modules the user trusts."""

_trusts_all = False
"""Whether a command was called with ``--trust-code``."""


def allow(content: Any) -> None:
    """Trust each name with a colon in text, a mapping or a list, at any depth.

    Call this only with what the user of this process wrote, or trusts by a flag.
    """
    _trusted.update(_names(content))


def note_foreign(content: Any) -> None:
    """Remember each name that a file of a run folder holds, so that an object made of it is not trusted."""
    _foreign.update(_names(content))


def allow_object(content: Any) -> None:
    """Trust the names in an object that the user gave, except those that it may have from a run folder."""
    _trusted.update(name for name in _names(content) if name not in _foreign or _trusts_all)


def _names(content: Any) -> Iterator[str]:
    """Yield each name with a colon, and each kernel, in text, a mapping or a list, at any depth."""
    if isinstance(content, str):
        if ":" in content:
            yield content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            if key in KERNELS:
                yield f"{key}={value}"
            yield from _names(key)
            yield from _names(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _names(value)
    elif is_dataclass(content):
        yield from _names(vars(content))


def allow_folder(folder: Path) -> None:
    """Trust each module in a folder that the user names."""
    _folders.append(folder.resolve())


def is_own(recipe: Path) -> bool:
    """Return whether the user wrote a recipe, or trusts it: it lies in no run folder, or ``--trust-code`` is set.

    A link counts as part of the folder where it lies, and of each folder that it leads to.
    """
    return _trusts_all or not any(any(folder.glob(pattern)) for folder in _folders_of(recipe) for pattern in RUN_FILES)


def _folders_of(path: Path) -> set[Path]:
    """Return the folder of a file, and that of each file on the way if it is a link."""
    target, folders = path.resolve(), {path.absolute().parent, path.parent.resolve()}
    while path.is_symlink():  # `resolve` has failed if the links form a circle
        path = path.parent / path.readlink()
        folders |= {path.absolute().parent, path.parent.resolve()}
    return {*folders, target.parent}


def state() -> State:
    """Return whom this process trusts, for another process that works for it."""
    return set(_trusted), set(_foreign), list(_folders), _trusts_all


def restore(state: State) -> list[Path]:
    """Trust what the process trusts that this one works for; return the folders of its modules."""
    global _trusts_all
    trusted, foreign, folders, _trusts_all = state
    _trusted.update(trusted)
    _foreign.update(foreign)
    _folders.extend(folders)
    return folders


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
    if not (_is_given(name) or _is_in_folder(name.partition(":")[0])):
        raise _refusal(name, where)


def require_own(found: Any, name: str, *, where: str) -> None:
    """Check that what a name stands for is code of a folder that the user trusts, and not what its module imports.

    Args:
        found: A function, a class or an object; only what can be called is code.
        name: ``"module:attribute"``.
        where: As in `require`.

    Raises:
        UntrustedCode: It can be called, and another module defines it: ``"my_module:check_output"``.
    """
    if callable(found) and not _is_given(name) and not _is_in_folder(str(getattr(found, "__module__", ""))):
        raise _refusal(name, where)


def _is_given(name: str) -> bool:
    return name in _trusted or _trusts_all


def _is_in_folder(module: str) -> bool:
    """Return whether Python would import a module from a folder that the user trusts, and not an installed one."""
    package = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(package) if package else None
    except (ImportError, ValueError):  # a module without a specification, such as ``__main__``
        return False
    if spec is None:
        return False
    places = [*(spec.submodule_search_locations or ())]  # of a namespace, each folder that has a part of it
    if spec.has_location and spec.origin:  # else it is built into Python
        places.append(spec.origin)
    inside = [any(Path(place).resolve().is_relative_to(folder) for folder in _folders) for place in places]
    return bool(inside) and all(inside)


def _refusal(name: str, where: str) -> UntrustedCode:
    return UntrustedCode(
        f"{where}: {name!r} is Python code that the run folder names, and it was not run. If it is yours, name the "
        "folder of the module with --modules. If you trust the whole run folder, add --trust-code (in Python: "
        "trust_code=True)."
    )
