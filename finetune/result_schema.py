"""The JSON Schema of `result.json`, with which a program in any language reads it."""

from __future__ import annotations

from typing import Any

from finetune.recipe import options
from finetune.recipe.schema import DIALECT
from finetune.result import Result
from finetune.result_form import Recipe, SeedsRecipe, form
from finetune.seeds_result import SeedsResult


def schema() -> dict[str, Any]:
    """Return the JSON Schema of `result.json`, of a run and of the folder of several seeds."""
    one, several = _described(Result, Recipe), _described(SeedsResult, SeedsRecipe)
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


def _described(result: type, recipe: Any) -> dict[str, Any]:
    """Return the schema of the form of a result, each field with its docstring."""
    made: dict[str, Any] = _nullable(form(result, recipe).json_schema())
    docs = options.docstrings(result)
    for name, field in made["properties"].items():
        field["description"] = " ".join(docs[name].split())
    return {**made, "additionalProperties": False}


def _nullable(part: Any) -> Any:
    """Return a schema whose numbers can be null: JSON has no other word for infinity or NaN."""
    if isinstance(part, list):
        return [_nullable(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    inner = {key: _nullable(value) for key, value in part.items()}
    return {**inner, "type": ["number", "null"]} if part.get("type") == "number" else inner
