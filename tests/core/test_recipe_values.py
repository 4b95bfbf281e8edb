"""Whatever stands under a key of a recipe, the answer is a plan or one error with a short message."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from finetune import plan, recipe
from finetune.errors import BadRecipe, FinetuneError
from finetune.plugins import discover
from finetune.recipe import Model, Recipe, Source

PLUGINS = discover()
BASE: dict[str, Any] = {
    "task": "text-classification",
    "model": {"path": "sample:bert"},
    "dataset": {"path": "sample:absent"},
    "strategy": {"name": "full"},
    "output": "run",
}
VALUES = [
    10**4999, float("nan"), True, None, "", "\0", ":x", "x:", "..:x", "x:.", "é:ü", "x" * 5000, [], [[1]], {}, {1: 2},
    {"name": 1}, datetime.date(2020, 1, 1),
]  # fmt: skip


def keys() -> Iterator[tuple[str, ...]]:
    """Yield the path of every key of a recipe, and of some below free mappings."""
    for one in fields(Recipe):
        yield (one.name,)
    for section, cls in (("model", Model), ("dataset", Source)):
        for one in fields(cls):
            yield section, one.name
    for one in fields(Source):
        yield "dataset", "mixture", "a", one.name
    for section in ("strategy", "preprocessor", "evaluator"):
        for option in ("name", "max_length", "class_weights"):
            yield section, option
    for free in ("splits", "columns", "constants", "mixture", "options", "limit"):
        yield "dataset", free, "train"
    for option in ("learning_rate", "max_steps", "optim", "bf16", "report_to", "lr_scheduler_type", "absent"):
        yield "training", option
    for option in (("generation", "num_beams"), ("model", "options", "dtype"), ("card", "license"), ("card", "absent")):
        yield option


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    content = deepcopy(BASE)
    if "mixture" in path:
        content["dataset"] = {}
    place = content
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = value
    return content


@pytest.mark.parametrize("path", list(keys()), ids=".".join)
def test_any_value_under_a_key_is_a_plan_or_an_error(path: tuple[str, ...]) -> None:
    for value in VALUES:
        with suppress(FinetuneError):  # any other error fails the test
            plan.make(recipe.parse(changed(path, value)), PLUGINS)


@pytest.mark.parametrize("section", ["task", "strategy", "preprocessor", "evaluator", "metrics", "model"])
@pytest.mark.parametrize("name", [":x", "x:", ":", "::", ".:x", "x.:y"])
def test_a_half_name_of_python_code_is_refused_by_name(section: str, name: str) -> None:
    with pytest.raises(FinetuneError) as caught:
        plan.make(recipe.parse({**BASE, section: [name] if section == "metrics" else name}), PLUGINS)
    assert repr(name) in str(caught.value)


def test_an_integer_that_python_cannot_print_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"task: text-classification\nseed: {'9' * 5_000}\n")
    with pytest.raises(BadRecipe, match="line 2, column 7: the number has 5,000 digits"):
        recipe.read(path)
    with pytest.raises(BadRecipe, match="training: max_steps: the number has more than 100 digits"):
        recipe.parse({**BASE, "training": {"max_steps": 10**5_000}})
    with pytest.raises(BadRecipe, match="the number has 5,000 digits"):
        recipe.parse(BASE, [f"seed={'9' * 5_000}"])


def test_many_long_values_give_a_short_message() -> None:
    rows = [{"text": "a word " * 30, "label": "sea"}] * 200
    with pytest.raises(BadRecipe, match=r"and \d+ more\. See") as refused:
        recipe.parse({**BASE, "dataset": {"path": {"train": rows}}})
    assert len(str(refused.value)) < 1500
