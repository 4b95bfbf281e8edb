"""The JSON Schema of recipes, with which editors complete and check them."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from pydantic import TypeAdapter

from finetune.interfaces import Task
from finetune.plugins import Plugins, resolve
from finetune.recipe import Model, Recipe, Source, Teacher, options
from finetune.recipe.search import SEARCHABLE
from finetune.training.arguments import OUR_OPTIONS
from finetune.training.training_names import OURS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(plugins: Plugins) -> dict[str, Any]:
    """Return the JSON Schema of recipes for the installed tasks and strategies."""
    docs = options.docstrings(Recipe)
    tasks: dict[str, Task] = dict(plugins.catalogues["tasks"].available)
    strategies = {name: resolve(target) for name, target in plugins.catalogues["strategies"].available.items()}
    properties: dict[str, Any] = {
        "task": _name(list(tasks)),
        "model": {"anyOf": [{"type": "string"}, of_class(Model)]},
        "dataset": {"anyOf": [{"type": "string"}, of_class(Source), _files()]},
        "strategy": {
            "anyOf": [_name(list(strategies)), *(of_class(cls, name=name) for name, cls in strategies.items())]
        },
        "preprocessor": {"type": "object"},
        "evaluator": {"type": "object"},
        "metrics": {"type": "array", "items": {"type": "string"}},
        "training": {"type": "object"},
        "generation": {"type": "object"},
        "seed": {"type": "integer"},
        "seeds": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "uniqueItems": True},
        "score_base_model": {"type": "boolean"},
        "general_text": {"type": "string"},
        "slices": {"type": "array", "items": {"type": "string"}},
        "card": {"type": "object"},
        "teacher": {"anyOf": [{"type": "string"}, of_class(Teacher)]},
        "search": _search(),
        "output": {"type": "string"},
    }
    for name, described in properties.items():
        described["description"] = docs[name]
    written = {
        "$schema": DIALECT,
        "title": "finetune recipe",
        "type": "object",
        "properties": properties,
        "required": ["task", "model", "dataset", "strategy", "output"],
        "additionalProperties": False,
        "not": {"required": ["seed", "seeds"]},
        "allOf": [_of_task(name, task) for name, task in tasks.items()],
    }
    definitions: dict[str, Any] = {}
    return {**_without_definitions(written, definitions), "$defs": definitions}


def of_class(cls: type, *, name: str | None = None) -> dict[str, Any]:
    """Return the schema of the options of a class, each with its docstring.

    Args:
        cls: A dataclass, or a class without options.
        name: Value of the key ``name``, if the options need it.
    """
    docs = options.docstrings(cls)
    content: dict[str, Any] = (
        options.adapter(cls).json_schema() if dataclasses.is_dataclass(cls) else {"type": "object"}
    )
    for option, described in content.get("properties", {}).items():
        described["description"] = " ".join(docs.get(option, "").split())
        described.pop("title", None)
    if name is not None:
        content.setdefault("properties", {})["name"] = {"const": name}
        content["required"] = ["name", *content.get("required", [])]
    content["additionalProperties"] = hasattr(cls, options.FURTHER)
    return content


def _of_task(name: str, task: Task) -> dict[str, Any]:
    """Return the schema of the sections whose options depend on the task."""
    sections = {
        "preprocessor": of_class(resolve(task.preprocessor)),
        "evaluator": of_class(resolve(task.evaluator)),
        "training": _training(resolve(task.arguments)),
    }
    named = {
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
    }  # with a name, the options are those of another class
    either: dict[str, Any] = {"training": sections.pop("training")}
    for key, part in sections.items():
        either[key] = {"anyOf": [part, named]}
    return {"if": {"properties": {"task": {"const": name}}}, "then": {"properties": either}}


def _training(cls: type) -> dict[str, Any]:
    classes = (cls, *OUR_OPTIONS)
    hints = {name: hint for each in classes for name, hint in typing.get_type_hints(each).items()}
    properties = {}
    for field in (field for each in classes for field in dataclasses.fields(each)):
        if field.init and field.name not in OURS:
            described = TypeAdapter(hints[field.name]).json_schema()
            if field.name == "fsdp":  # see sharding_options.check_fsdp
                described = {"type": ["boolean", "null"]}
            properties[field.name] = {**described, "description": field.metadata.get("help", "")}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _without_definitions(part: Any, found: dict[str, Any]) -> Any:
    """Return a schema without the definitions that pydantic writes into each part, and collect them in `found`."""
    if isinstance(part, list):
        return [_without_definitions(inner, found) for inner in part]
    if not isinstance(part, dict):
        return part
    inner = {key: _without_definitions(value, found) for key, value in part.items() if key != "$defs"}
    if isinstance(part.get("$defs"), dict):
        found.update({name: _without_definitions(value, found) for name, value in part["$defs"].items()})
    return inner


def _search() -> dict[str, Any]:
    """Return the schema of the section that `finetune.recipe.search` reads."""
    number, values = {"type": "number"}, {"type": "array", "minItems": 1}
    when = {"type": "object", "minProperties": 1}
    described = {"low": number, "high": number, "log": {"type": "boolean"}, "step": number, "when": when}
    forms: list[dict[str, Any]] = [
        values,
        {"properties": {"values": values, "when": when}, "required": ["values"]},
        {"properties": described, "required": ["low", "high"]},
    ]
    for form in forms[1:]:
        form |= {"type": "object", "additionalProperties": False}
    names = {"pattern": f"^(strategy|model)$|^({'|'.join(SEARCHABLE)})[.].+$"}
    return {"type": "object", "propertyNames": names, "additionalProperties": {"anyOf": forms}}


def _name(known: list[str]) -> dict[str, Any]:
    return {"anyOf": [{"enum": sorted(known)}, {"type": "string", "pattern": ":"}]}


def _files() -> dict[str, Any]:
    part = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    return {
        "type": "object",
        "properties": {"train": part, "validation": part, "test": part},
        "required": ["train"],
        "additionalProperties": False,
    }
