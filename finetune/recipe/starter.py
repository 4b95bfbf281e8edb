"""Write a complete recipe with comments for a task, as `finetune init` prints it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING
from typing import Any

from finetune import models, recipe
from finetune.errors import BadRecipe
from finetune.interfaces import Suggestion, Task
from finetune.plugins import Plugins, resolve
from finetune.recipe import Model, Recipe, Source, options
from finetune.training import rates

WIDTH = 100


def write(name: str, plugins: Plugins, *, strategy: str, output: str, data: str | None = None) -> str:
    """Return a recipe for a task, with every option and its documentation.

    Args:
        name: Name of the task.
        plugins: Where names are looked up.
        strategy: Name of the strategy.
        output: Folder of the run.
        data: Path of the examples; None for the sample of the task.

    Raises:
        UnknownName: The task or strategy does not exist.
    """
    task: Task = plugins.find("tasks", name)
    starter = dict(task.starter)
    docs = options.docstrings(Recipe)
    dataset = {"path": data} if data else dict(starter.get("dataset", {"path": "data.csv"}))
    model = dict(starter.get("model", {"path": "distilbert-base-uncased"}))
    strategy_options = starter.get("strategy", {})
    built = options.build(plugins.find("strategies", strategy), strategy_options, where="strategy")
    suggested = rates.suggest(Model(**model), task, built, offline=True)
    fitting = suggested.training if suggested else {}
    training = {**task.training, **fitting, **starter.get("training", {}), **fitting}
    sections: dict[str, tuple[type | None, Mapping[str, Any]]] = {
        "model": (Model, model),
        "dataset": (Source, dataset),
        "preprocessor": (resolve(task.preprocessor), starter.get("preprocessor", {})),
        "strategy": (plugins.find("strategies", strategy), {"name": strategy, **strategy_options}),
        "evaluator": (resolve(task.evaluator), starter.get("evaluator", {})),
        "training": (None, training),
    }
    if task.generates:
        sections["generation"] = (None, starter.get("generation", {}))
    lines = [
        f"# {task.summary.rstrip('.')}.",
        f"# {columns(task, starter.get('preprocessor', {}))}",
        "# Check the data with `finetune check recipe.yaml`, then train with `finetune train recipe.yaml`.",
        "# Each option has its default value. The section `training` also takes all options of the trainer.",
        *_entry("task", name, docs),
    ]
    for key, (cls, given) in sections.items():
        lines += ["", *_comment(docs[key].split(";")[0].removesuffix(".") + ".", 0), f"{key}:"]
        if key == "training":
            lines += [f"  {line}" for line in _learning_rate(suggested)]
        lines += [f"  {line}" if line else "" for line in _section(cls, given)] or ["  {}"]
    lines += [""]
    defaults = {option.name: option.default for option in options.document(Recipe)}
    for key in ("metrics", "seed", "score_base_model", "general_text", "slices", "card"):
        if key == "general_text" and not _forgetting_is_measurable(Model(**model)):
            continue
        lines += _entry(key, _plain(defaults[key]), docs)
    lines += _entry("output", output, docs)
    return "\n".join(lines) + "\n"


def columns(task: Task, given: Mapping[str, Any]) -> str:
    """Return a sentence with the columns that a task needs.

    Args:
        task: The task.
        given: Options of its preprocessor.
    """
    cls = resolve(task.preprocessor)
    needs = options.build(cls, given, where="preprocessor").needs()
    needed = (*needs.required, *needs.answers)
    text = f"Columns: {', '.join(needed)}" if needed else "Columns"
    optional = [name for name in (*needs.optional, *needs.optional_answers) if name not in needed]
    return f"{text}; optional: {', '.join(optional)}." if optional else f"{text}."


def _forgetting_is_measurable(model: Model) -> bool:
    """Return whether a model may have the head that measures forgetting: no folder on this machine lacks it."""
    has_scheme = ":" in model.path and not model.path.startswith(models.PACKAGE)
    try:
        return has_scheme or not models.lacks_pretraining_head(model)
    except BadRecipe:  # the package of the model is not installed
        return True


def _learning_rate(suggested: Suggestion | None) -> list[str]:
    """Return the comment on the learning rate."""
    if suggested is None:
        return ["# A learning rate is chosen for the model when the run starts; the run's recipe.yaml states it."]
    names = " and ".join(suggested.training)
    return _comment(f"{names}: {suggested.source}.", 0)


def _section(cls: type | None, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a section: the given keys that are not options, then every option."""
    known = options.document(cls) if cls else []
    extra = dict(given)
    for option in known:
        extra.pop(option.name, None)
    yield from recipe.dump(_plain(extra)).splitlines() if extra else ()
    for option in known:
        yield from _comment(option.doc, 0)
        value = given.get(option.name, option.default)
        if value is MISSING:
            yield f"# {option.name}: …"
        else:
            yield from recipe.dump({option.name: _plain(value)}).splitlines()


def _entry(key: str, value: Any, docs: Mapping[str, str]) -> list[str]:
    return [*_comment(docs[key], 0), *recipe.dump({key: value}).splitlines()]


def _comment(text: str, indent: int) -> list[str]:
    return [f"{' ' * indent}# {line}" for line in textwrap.wrap(" ".join(text.split()), WIDTH)]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return {key: _plain(part) for key, part in value.items()} if isinstance(value, Mapping) else value
