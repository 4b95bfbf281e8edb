"""A complete, commented recipe for a task: what `finetune init` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING
from typing import Any

from finetune import recipe
from finetune.interfaces import Task
from finetune.plugins import Plugins, resolve
from finetune.recipe import Model, Recipe, Source, options

WIDTH = 100


def write(name: str, plugins: Plugins, *, strategy: str, output: str, data: str | None = None) -> str:
    """Return a recipe for a task, every option of ours spelt out with what it means.

    Args:
        name: The task.
        plugins: Where names are looked up.
        strategy: Name of the strategy.
        output: Folder of the run.
        data: Path of the examples; None for the task's sample.

    Raises:
        UnknownName: There is no such task or strategy.
    """
    task: Task = plugins.find("tasks", name)
    starter = dict(task.starter)
    docs = options.docstrings(Recipe)
    dataset = {"path": data} if data else dict(starter.get("dataset", {"path": "data.csv"}))
    model = dict(starter.get("model", {"path": "distilbert-base-uncased"}))
    sections: dict[str, tuple[type | None, Mapping[str, Any]]] = {
        "model": (Model, model),
        "dataset": (Source, dataset),
        "preprocessor": (resolve(task.preprocessor), starter.get("preprocessor", {})),
        "strategy": (plugins.find("strategies", strategy), {"name": strategy, **starter.get("strategy", {})}),
        "evaluator": (resolve(task.evaluator), starter.get("evaluator", {})),
        "training": (None, {**task.training, **starter.get("training", {})}),
    }
    if task.generates:
        sections["generation"] = (None, starter.get("generation", {}))
    lines = [
        f"# {task.summary.rstrip('.')}.",
        f"# {columns(task, starter.get('preprocessor', {}))}",
        "# `finetune check` reads and checks the data, without weights; `finetune train` trains.",
        "# Every option stands here with its default; `training` takes those of transformers besides.",
        *_entry("task", name, docs),
    ]
    for key, (cls, given) in sections.items():
        lines += ["", *_comment(docs[key].split(";")[0].removesuffix(".") + ".", 0), f"{key}:"]
        lines += [f"  {line}" if line else "" for line in _section(cls, given)] or ["  {}"]
    lines += [""]
    last = {"metrics": [], "seed": 42, "score_base_model": True, "general_text": "bundled", "slices": [], "card": {}}
    for key, value in {**last, "output": output}.items():
        lines += _entry(key, value, docs)
    return "\n".join(lines) + "\n"


def columns(task: Task, given: Mapping[str, Any]) -> str:
    """Return which columns a task needs, in a sentence; ``given`` are the options of its preprocessor."""
    cls = resolve(task.preprocessor)
    needs = options.build(cls, given, where="preprocessor").needs()
    needed = (*needs.required, *needs.answers)
    text = f"Columns: {', '.join(needed)}" if needed else "Columns"
    return f"{text}; optional: {', '.join(needs.optional)}." if needs.optional else f"{text}."


def _section(cls: type | None, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of one section: what is given first, then every other option with its default."""
    known = {option.name: option for option in options.document(cls)} if cls else {}
    for name in [*(name for name in given if name not in known), *known]:
        option = known.get(name)
        value = given.get(name, option.default if option else None)
        yield from _comment(option.doc if option else "", 0)
        yield from ([f"# {name}: …"] if value is MISSING else recipe.dump({name: _plain(value)}).splitlines())


def _entry(key: str, value: Any, docs: Mapping[str, str]) -> list[str]:
    return [*_comment(docs[key], 0), *recipe.dump({key: value}).splitlines()]


def _comment(text: str, indent: int) -> list[str]:
    return [f"{' ' * indent}# {line}" for line in textwrap.wrap(" ".join(text.split()), WIDTH)]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return {key: _plain(part) for key, part in value.items()} if isinstance(value, Mapping) else value
