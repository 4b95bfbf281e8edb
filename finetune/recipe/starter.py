"""Write a recipe with comments for a task, as `finetune init` prints it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING
from typing import Any

from finetune import models, recipe
from finetune.errors import BadRecipe
from finetune.interfaces import Suggestion, Task
from finetune.plugins import Plugins, resolve
from finetune.recipe import Model, Recipe, Source, options, short
from finetune.recipe.short import Chosen
from finetune.training import rates

WIDTH = 100


def write(
    name: str,
    plugins: Plugins,
    *,
    strategy: str,
    output: str,
    data: str | None = None,
    chosen: Chosen | None = None,
    full: bool = True,
) -> str:
    """Return a recipe for a task.

    Args:
        name: Name of the task.
        plugins: Where names are looked up.
        strategy: Name of the strategy.
        output: Folder of the run.
        data: Path of the examples; None for the sample of the task.
        chosen: What was chosen for the user's own data; None for the path alone, or for the sample.
        full: Whether to write every option with its documentation, and not only what was chosen.

    Raises:
        UnknownName: The task or strategy does not exist.
    """
    task: Task = plugins.find("tasks", name)
    starter = dict(task.starter)
    if chosen is not None:
        starter = _for_data(starter, chosen)
    docs = options.docstrings(Recipe)
    dataset = {"path": data} if data else dict(starter.get("dataset", {"path": "data.csv"}))
    model = dict(starter.get("model", {"path": "distilbert-base-uncased"}))
    strategy_options = starter.get("strategy", {})
    built = options.build(plugins.find("strategies", strategy), strategy_options, where="strategy")
    suggested = rates.suggest(Model(**model), task, built, offline=True)
    fitting = suggested.training if suggested else {}
    training = {**task.training, **fitting, **starter.get("training", {}), **fitting}
    for option in task.training_on_accelerator:
        training.pop(option, None)  # its default follows the device
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
    if not full:
        contents = {key: _plain(values) for key, (_, values) in sections.items()}
        why = dict(chosen.why) if chosen else {}
        if suggested is not None:
            why.setdefault(f"training.{next(iter(suggested.training))}", f"{suggested.source}.")
        return _short(name, task, contents, output=output, why=why)
    lines = [
        f"# {task.summary.rstrip('.')}.",
        *(line for sentence in columns(task) for line in _comment(sentence, 0)),
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
        if key == "seed":
            lines += [*_comment(docs["seeds"], 0), "# seeds: [0, 1, 2]"]
    lines += [
        *_comment(docs["search"], 0),
        "# search: {training.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}}",
    ]
    lines += _entry("output", output, docs)
    return "\n".join(lines) + "\n"


def content_of(name: str, plugins: Plugins, *, strategy: str, output: str, chosen: Chosen) -> dict[str, Any]:
    """Return the recipe that `write` writes for the user's own data as plain mappings.

    Args:
        name: Name of the task.
        plugins: Where names are looked up.
        strategy: Name of the strategy.
        output: Folder of the run.
        chosen: What was chosen for the data.
    """
    content: dict[str, Any] = recipe.load(
        write(name, plugins, strategy=strategy, output=output, chosen=chosen, full=False)
    )
    return content


def columns(task: Task) -> list[str]:
    """Return a sentence for each form of data that a task reads, with its columns.

    Args:
        task: The task.
    """
    forms = resolve(task.preprocessor)().forms()
    found: list[str] = []
    for form in forms:
        text = f"Columns: {', '.join(form.columns)}"
        for option, values in form.groups.items():
            text += f"; several under preprocessor.{option} ({values.what})"
        text += f"; optional: {', '.join(form.optional)}" if form.optional else ""
        found.append(f"{text}." if found == [] else f"Or: {text.removeprefix('Columns: ')}.")
    return found


def _for_data(starter: Mapping[str, Any], chosen: Chosen) -> dict[str, Any]:
    """Return the starter of a task for the user's own data, without what only its sample or its model needs."""
    changed: dict[str, Any] = {**starter, "dataset": chosen.dataset}
    preprocessor = {
        key: value for key, value in starter.get("preprocessor", {}).items() if key not in chosen.only_for_sample
    }
    preprocessor |= chosen.preprocessor
    changed["preprocessor"] = {key: value for key, value in preprocessor.items() if value is not None}
    if chosen.model is not None and chosen.model != starter.get("model", {}).get("path"):
        changed["model"] = {"path": chosen.model}
        training = dict(starter.get("training", {}))
        training.pop("learning_rate", None)  # it is for the other model
        changed["training"] = training
    changed["training"] = {**changed.get("training", {}), **chosen.training}
    return changed


def _short(name: str, task: Task, given: Mapping[str, Any], *, output: str, why: Mapping[str, str]) -> str:
    """Return a recipe with those keys alone that somebody chose."""
    content: dict[str, Any] = {"task": name}
    for key, value in given.items():
        only = next(iter(value), None)
        is_one = len(value) == 1 and (key, only) in {("model", "path"), ("strategy", "name")}
        if value:
            content[key] = value[only] if is_one else value
    content["output"] = output
    head = [
        f"{task.summary.rstrip('.')}.",
        "Check the data with `finetune check recipe.yaml`, then train with `finetune train recipe.yaml`.",
        f"These are the choices; all other options keep their defaults. All options: `finetune init {name} --full`.",
    ]
    return short.write(content, head=head, why=why)


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
    known = [option for option in options.document(cls) if not option.learned] if cls else []
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
