"""What can be refused in a recipe before a heavy library is imported: missing files, and keys that do not exist.

The same checks, and more, follow when the run is planned. These are made first because torch and transformers take
seconds to import. What cannot be known without them is left to those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from finetune import static_classes
from finetune.errors import BadRecipe, FinetuneError
from finetune.interfaces import Task
from finetune.plugins import Plugins
from finetune.recipe import Choice, Recipe
from finetune.recipe.options import refuse_unknown


def check(recipe: Recipe, plugins: Plugins) -> None:
    """Check the keys of a recipe's sections, and that the files of its data exist.

    Raises:
        BadOptions: An option does not exist; the message has the nearest name.
        BadRecipe: Several do not exist.
        BadData: A file does not exist.
    """
    problems: list[FinetuneError] = []
    for where, path, given in _sections(recipe, plugins):
        found = static_classes.options_of(path)
        if found is None:
            continue
        try:
            if where == "training":
                _check_training(recipe.training, *found)
            else:
                refuse_unknown(given, known=found[1], of=found[0], where=where)
        except FinetuneError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise BadRecipe("\n".join(str(problem) for problem in problems)) from problems[0]
    from finetune.data import sources

    sources.refuse_missing(recipe.dataset, plugins=plugins)


def _sections(recipe: Recipe, plugins: Plugins) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield each section whose class is known by its name alone: the section, the class, the options."""
    tasks = plugins.catalogues["tasks"].available
    task = tasks.get(recipe.task)
    if not isinstance(task, Task):
        return
    strategy = plugins.catalogues["strategies"].available.get(recipe.strategy.name)
    if isinstance(strategy, str):
        yield "strategy", strategy, recipe.strategy.options
    chosen = {"preprocessor": recipe.preprocessor, "evaluator": recipe.evaluator}
    for section, choice in chosen.items():
        path = _path(plugins, f"{section}s", choice, default=getattr(task, section))
        if path is not None and choice is not None:
            yield section, path, choice.options
    yield "training", task.arguments, recipe.training


def _path(plugins: Plugins, hook: str, choice: Choice | None, *, default: str) -> str | None:
    if choice is None or not choice.name:
        return default
    target = plugins.catalogues[hook].available.get(choice.name)
    return target if isinstance(target, str) else None


def _check_training(training: Mapping[str, Any], name: str, known: list[str]) -> None:
    from finetune.training.training_names import check_names

    check_names(training, known=known, of=name)
