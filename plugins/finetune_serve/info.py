"""What the server says about its model: the columns of its task, its fingerprint, the versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import finetune
from finetune.interfaces import Preprocessor, Values
from finetune.kit import as_trained
from finetune_serve.limits import Limits

if TYPE_CHECKING:
    from finetune.api import FineTuned

TYPES: Mapping[str, Mapping[str, Any]] = {
    "text": {"type": "string"}, "phrase": {"type": "string"}, "summary": {"type": "string"},
    "label": {"type": "string"}, "number": {"type": "number"}, "boolean": {"type": "boolean"},
    "words": {"type": ["array", "string"], "items": {"type": "string"}},
    "tags": {"type": "array", "items": {"type": "string"}}, "texts": {"type": "array", "items": {"type": "string"}},
    "messages": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"role": {"type": "string"}, "content": {"type": "string"}},
            "required": ["role", "content"],
        },
    },
    "pair": {"type": "object"},
}  # fmt: skip
"""Kind of a column → its JSON schema; any other kind takes any value."""


def columns(model: FineTuned) -> list[dict[str, Any]]:
    """Return the columns that the task reads: name, kind, what it holds, and whether each row must have it.

    A column that changes what the model reads, and that no row of train has, is left out: no row may have it.
    ``also`` is the name that the column has in the data of the run, if it is another one: rows can use either.

    Args:
        model: The loaded model.
    """
    preprocessor = model.plan.preprocessor
    needs, known = preprocessor.needs(), _values(preprocessor)
    source = model.plan.recipe.dataset
    theirs = {ours: name for name, ours in source.columns.items()}
    found = []
    for name in needs.inputs:
        use = model.result.column_use.get(name) if name in needs.consistent else None
        if use == "none":
            continue
        values = known.get(name, Values(what=""))
        must = name in needs.required and name not in source.constants
        must = must or use == "all"
        column = {"name": name, "kind": values.kind, "what": values.what, "required": must}
        if name in theirs:
            column["also"] = theirs[name]
        found.append(column)
    return found


def _values(preprocessor: Preprocessor) -> dict[str, Values]:
    known: dict[str, Values] = {}
    for form in preprocessor.forms():
        for name, values in {**form.columns, **form.optional}.items():
            known.setdefault(name, values)
    return known


def row_schema(model: FineTuned) -> dict[str, Any]:
    """Return the JSON schema of a row."""
    properties, required = {}, []
    for column in columns(model):
        properties[column["name"]] = {**TYPES.get(column["kind"], {}), "description": column["what"]}
        if column["required"] and "also" not in column:
            required.append(column["name"])
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": True}


def info(model: FineTuned, limits: Limits, *, chats: bool) -> dict[str, Any]:
    """Return the answer of ``/info``."""
    recipe, result = model.plan.recipe, model.result
    options = model.plan.preprocessor.model_options()
    names = options.get("id2label") or {}
    return {
        "task": recipe.task,
        "summary": model.plan.task.summary,
        "strategy": as_trained(model.result.recipe).strategy if model.was_trained_here else None,
        "base_model": recipe.model.path,
        "fingerprint": model.fingerprint(),
        "seed": recipe.seed,
        "columns": columns(model),
        "labels": [str(name) for name in names.values()],
        "generates": model.plan.task.generates,
        "chats": chats,
        "apis": sorted(model.plan.task.apis),
        "temperature": model.plan.evaluator.temperature,
        "answering": asdict(model.opening.answering),
        "generation": dict(recipe.generation),
        "device": str(model.model.device),
        "scores": {split: {result.primary: scores.get(result.primary)} for split, scores in result.scores.items()},
        "limits": asdict(limits),
        "versions": {
            "finetune": finetune.__version__,
            **{name: version(name) for name in ("transformers", "torch", "tokenizers")},
        },
    }
