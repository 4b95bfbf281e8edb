"""The search space of a study, and the recipes that its values make."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.errors import BadRecipe, FinetuneError, Incompatible
from finetune.kit import (
    Parameter,
    Plan,
    Plugins,
    Recipe,
    apply_search,
    choose_rate,
    make_plan,
    parse_search,
    recipe_from_mapping,
    recipe_to_mapping,
    search_label,
)

EVALUATIONS = 9
"""How often a trial is evaluated, unless the recipe says so: at its first rung, and as often again after each."""
MOST_CHECKED = 256
"""Most combinations of values that are checked before the first trial."""
AROUND = 3.0
"""Without a ``search`` section, the learning rate is searched from the usual one divided by this to that times this.

Source: the ranges of Devlin et al. 2019, appendix A.3 (2e-5 to 5e-5), and Liu et al. 2019, table 10 (1e-5 to 3e-5),
are as wide as 3 times; the usual rate is uncertain itself.
"""


@dataclass(frozen=True, kw_only=True)
class Space:
    """What is searched, and where it comes from."""

    parameters: tuple[Parameter, ...]
    section: Mapping[str, Any]
    """The same in the form of a ``search`` section."""
    source: str
    """Where it comes from, as a sentence."""


def space_of(plan: Plan) -> Space:
    """Return the search space of a recipe: its ``search`` section, or the default one."""
    recipe = plan.recipe
    if recipe.search:
        return Space(
            parameters=parse_search(recipe.search), section=recipe.search, source="the recipe's search section"
        )
    rate, source = _usual_rate(plan)
    section: dict[str, Any] = {
        "training.learning_rate": {
            "low": float(f"{rate / AROUND:.2g}"),
            "high": float(f"{rate * AROUND:.2g}"),
            "log": True,
        }
    }
    for option, values in plan.strategy.search_space().items():
        section[f"strategy.{option}"] = values
    options = ", ".join(list(section)[1:])
    more = f"; {options}: the options that the strategy names" if options else ""
    source = f"the recipe has no search section; learning rate: a third to three times {rate:g} ({source}){more}"
    return Space(parameters=parse_search(section), section=section, source=source)


def _usual_rate(plan: Plan) -> tuple[float, str]:
    stated = plan.recipe.training.get("learning_rate")
    if stated is not None:
        return float(stated), "the recipe's own"
    chosen = choose_rate(plan.recipe, plan.task, plan.strategy, folder=plan.model.path)
    if chosen is None:
        raise BadRecipe(
            "search: nothing is known of a good learning rate for this model and optimizer. Set "
            "training.learning_rate, or write a search section."
        )
    return float(chosen.training["learning_rate"]), chosen.source


def recipe_of_trial(recipe: Recipe, space: Space, chosen: Mapping[str, Any], *, output: str) -> Recipe:
    """Return the recipe of a trial.

    It leaves the test split out, so that no trial reads it. It keeps the best evaluation, and is evaluated and saved
    at the same moments, so that it can be paused after an evaluation.

    Args:
        recipe: The recipe of the study.
        space: What is searched.
        chosen: The values.
        output: The run folder of the trial.
    """
    content = searched(recipe, space, chosen)
    without_test(content["dataset"])
    content |= {"output": output, "score_base_model": False, "general_text": "none"}
    return recipe_from_mapping(content, name="search")


def searched(recipe: Recipe, space: Space, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe with chosen values as plain mappings, as it is trained in trials and at the end."""
    content = recipe_to_mapping(recipe)
    content.pop("search", None)
    content = apply_search(content, space.parameters, chosen)
    content["training"] = with_evaluations(content["training"])
    return content


def with_evaluations(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return training options with which a run keeps its best evaluation, and saves at each.

    Raises:
        BadRecipe: The recipe says that the best evaluation is not kept.
    """
    kept = {key: value for key, value in training.items() if key not in ("save_strategy", "save_steps")}
    if kept.get("load_best_model_at_end") is False:
        raise BadRecipe(
            "training.load_best_model_at_end: a study compares the best evaluations of its trials, so it cannot be "
            "false. Remove it."
        )
    if kept.get("eval_strategy", "no") == "no":
        kept = {"eval_steps": 1 / EVALUATIONS, **kept, "eval_strategy": "steps"}
    return {**kept, "load_best_model_at_end": True}


def without_test(dataset: dict[str, Any]) -> None:
    """Leave the test split out of a ``dataset`` section."""
    if dataset.get("mixture"):
        parts = {}
        for name, given in dataset["mixture"].items():
            part = dict(given) if isinstance(given, Mapping) else {"path": given}
            parts[name] = {**part, "splits": {**part.get("splits", {}), "test": None}}
        dataset["mixture"] = parts
        return
    dataset["splits"] = {**dataset.get("splits", {}), "test": None}
    limit = dict(dataset.get("limit", {}))
    limit.pop("test", None)
    dataset["limit"] = limit


def check_space(recipe: Recipe, space: Space, plugins: Plugins) -> dict[str, str]:
    """Build the recipe of each combination of values and of the ends of ranges, without data or weights.

    If there are more than `MOST_CHECKED`, each value is built at least once.

    Returns:
        What cannot be combined: the values as text → the reason.

    Raises:
        FinetuneError: A value is wrong; the message names it.
    """
    refused = {}
    for chosen in combinations(space.parameters):
        values = ", ".join(f"{key}={value}" for key, value in chosen.items())
        try:
            make_plan(recipe_of_trial(recipe, space, chosen, output=recipe.output), plugins)
        except Incompatible as error:
            refused[values] = str(error)
        except FinetuneError as error:
            raise BadRecipe(f"search: with {values}: {error}") from error
    return refused


def combinations(parameters: Sequence[Parameter]) -> Iterator[dict[str, Any]]:
    """Yield sets of values that apply together: all, or if these are too many, some that hold each value."""
    count = 1
    for parameter in parameters:
        count *= len(parameter.ends())
    seen = set()
    for ends in _choices(parameters, every=count <= MOST_CHECKED):
        chosen: dict[str, Any] = {}
        for parameter, end in zip(parameters, ends, strict=True):
            if parameter.applies(chosen):
                chosen[parameter.key] = end
        key = tuple(chosen.items())
        if key not in seen:
            seen.add(key)
            yield chosen


def _choices(parameters: Sequence[Parameter], *, every: bool) -> Iterator[tuple[Any, ...]]:
    if every:
        yield from itertools.product(*(parameter.ends() for parameter in parameters))
        return
    by_key = {parameter.key: parameter for parameter in parameters}
    first = {parameter.key: parameter.ends()[0] for parameter in parameters}
    for parameter in parameters:
        for end in parameter.ends():
            chosen = {**first, parameter.key: end}
            needed = [parameter]
            while needed:
                for key, labels in needed.pop().when.items():
                    chosen[key] = labels[0]
                    needed.append(by_key[key])
            yield tuple(chosen[each.key] for each in parameters)


def as_written(plan: Plan, space: Space) -> dict[str, Any] | None:
    """Return the values that the recipe itself has; None unless all lie in the space. The first trial has these."""
    content = plan.resolved(dict(plan.recipe.training))
    if "learning_rate" not in content["training"]:
        chosen = choose_rate(plan.recipe, plan.task, plan.strategy, folder=plan.model.path)
        content["training"] |= chosen.training if chosen else {}
    found: dict[str, Any] = {}
    for parameter in space.parameters:
        if not parameter.applies(found):
            continue
        value: Any = content
        for part in parameter.key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if parameter.key in ("strategy", "model") and isinstance(value, Mapping):
            value = value.get("name" if parameter.key == "strategy" else "path")
        if value is None or not parameter.holds(value):
            return None
        found[parameter.key] = search_label(value) if parameter.values else value
    return found
