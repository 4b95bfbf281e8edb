"""The JSON Schema of `result.json`, with which a program in any language reads it."""

from __future__ import annotations

from typing import Any

from finetune.recipe.schema import DIALECT, of_class
from finetune.result import Result
from finetune.seeds_result import SeedsResult


def schema() -> dict[str, Any]:
    """Return the JSON Schema of `result.json`, of a run and of the folder of several seeds."""
    one, several = (_nullable(of_class(cls)) for cls in (Result, SeedsResult))
    definitions = {**one.pop("$defs", {}), **several.pop("$defs", {})}
    return {
        "$schema": DIALECT,
        "title": "finetune result",
        "description": "A number that is not finite is null.",
        "if": {"properties": {"kind": {"const": "seeds"}}, "required": ["kind"]},
        "then": several,
        "else": one,
        "$defs": definitions,
    }


def _nullable(part: Any) -> Any:
    """Return a schema whose numbers can be null: JSON has no other word for infinity or NaN."""
    if isinstance(part, list):
        return [_nullable(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    inner = {key: _nullable(value) for key, value in part.items()}
    return {**inner, "type": ["number", "null"]} if part.get("type") == "number" else inner
