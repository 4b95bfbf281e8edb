"""What a run says of itself without the folders of the machine that trained it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from finetune.kit import Result


def without_paths(result: Result) -> Result:
    """Return a result that names no folder of this machine; a model can still be loaded with it.

    The base model gets the id that the `card` section states. Of any other path, the last part is kept.
    """
    recipe = dict(result.recipe)
    stated = (recipe.get("card") or {}).get("base_model")
    for section, content in result.recipe.items():
        if section != "card":  # the words of the author
            recipe[section] = relative(content)
    model, written = dict(recipe["model"]), result.recipe["model"]
    for key in ("path", "tokenizer"):
        place = written.get(key)
        if stated and place == written["path"] and is_path(place):
            model[key] = stated
    return replace(
        result,
        recipe={**recipe, "model": model},
        arguments=relative(result.arguments),
        preprocessor=relative(result.preprocessor),
        evaluator=relative(result.evaluator),
        base=relative(result.base),
        directory="",
    )


def relative(value: Any) -> Any:
    """Return a value of JSON in which each absolute path is its last part.

    >>> relative({"path": "/usr/share/letters.csv", "limit": 3})
    {'path': './letters.csv', 'limit': 3}
    """
    if isinstance(value, str):
        return f"./{PurePath(value).name}" if is_path(value) else value
    if isinstance(value, Mapping):
        return {name: relative(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [relative(each) for each in value]
    return value


def is_path(text: str) -> bool:
    """Say whether a text is an absolute path on this machine, and not a word as ``/no_think`` or ``/people/person``."""
    if "\n" in text:
        return False
    if text.startswith("~/"):
        return True
    parts = PurePath(text).parts
    return text.startswith("/") and len(parts) > 2 and Path("/", parts[1]).is_dir()
