"""An application file for Ray Serve, which runs many copies of a model on many machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import finetune
from finetune.errors import BadOptions, OutputExists
from finetune.kit import to_json, write_atomically
from finetune_serve.limits import Limits


def write(file: Path, run: str, limits: Limits, options: Mapping[str, Any]) -> None:
    """Write an application that serves a model.

    Args:
        file: A Python file that does not exist.
        run: The run folder, or a model as `finetune.load` takes it.
        limits: What the application takes.
        options: Further arguments of `finetune_serve.app.application`; empty values are left out.

    Raises:
        BadOptions: The name is not that of a Python module.
        OutputExists: The file exists.
    """
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise BadOptions(f"--ray: {str(file)!r} is not a name that Python can import. Use letters: application.py.")
    if file.exists():
        raise OutputExists(f"--ray: {str(file)!r} exists. Name another file.")
    if not file.parent.is_dir():
        raise BadOptions(f"--ray: the folder {str(file.parent)!r} does not exist. Make it first.")
    place = str(Path(run).absolute()) if Path(run).exists() else run
    given = {name: value for name, value in {"limits": _changed(limits), **options}.items() if value}
    values = {
        "NAME": Path(run).name,
        "MODULE": file.stem,
        "VERSION": finetune.__version__,
        "RUN": to_json(place),
        "OPTIONS": "".join(f", {name}={value!r}" for name, value in given.items()),
        "REQUESTS": str(2 * limits.requests),  # so that the application itself refuses with 429 when it has too many
    }
    text = files("finetune_serve").joinpath("ray_application.txt").read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@@{name}@@", value)
    write_atomically(file, text)


def _changed(limits: Limits) -> dict[str, float]:
    """Return the fields that do not have their defaults."""
    default = Limits()
    return {
        each.name: getattr(limits, each.name)
        for each in fields(Limits)
        if getattr(limits, each.name) != getattr(default, each.name)
    }
