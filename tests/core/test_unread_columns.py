"""Columns that the task does not read are named in one warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import toy

from finetune import plan as plans
from finetune import recipe as recipes
from finetune.data import preparation
from finetune.plugins import discover


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.base(tmp_path_factory.mktemp("base"))


def warnings(base: Path, rows: Any, **recipe: Any) -> list[Any]:
    content = toy.recipe(base, Path("unused"), **{"task": "text-classification", **recipe})
    content["dataset"] = {"path": "rows", "validation_size": 0, **recipe.get("dataset", {})}
    plan = plans.make(recipes.from_mapping(content), discover())
    prepared = preparation.prepare(plan, rows=rows)
    assert prepared.examples.counts.get("unread-columns", 0) <= 1
    return [finding for finding in prepared.examples.findings if finding.code == "unread-columns"]


def with_columns(**columns: Any) -> dict[str, Any]:
    return {"train": [{**row, **columns} for row in toy.rows(8)]}


CASES: list[tuple[dict[str, Any], dict[str, Any], str | None, str]] = [
    ({}, {}, None, ""),
    ({"id": "7"}, {}, "the task does not read the column 'id'.", ""),
    ({"id": "7", "url": "x"}, {}, "the task does not read 2 columns: 'id', 'url'.", ""),
    ({"port": "Elm", "url": "x"}, {"slices": ["port"]}, "the task does not read the column 'url'.", ""),
    ({"port": "Elm"}, {"slices": ["port"]}, None, ""),
    ({"text_pairs": "x"}, {}, "the task does not read the column 'text_pairs'.", "Did you mean 'text_pair'?"),
    ({"text_pair": "the"}, {}, None, ""),
    ({"note": "the"}, {"dataset": {"columns": {"note": "text_pair"}}}, None, ""),
]


@pytest.mark.parametrize(("columns", "recipe", "message", "fix"), CASES)
def test_columns_that_nothing_reads_are_named(
    base: Path, columns: dict[str, Any], recipe: dict[str, Any], message: str | None, fix: str
) -> None:
    found = warnings(base, with_columns(**columns), **recipe)
    assert [finding.message for finding in found] == ([message] if message else [])
    for finding in found:
        assert finding.level == "warning"
        assert finding.split == "train"
        assert finding.fix.startswith(fix) and bool(finding.fix) == bool(fix)


def test_a_column_of_another_split_is_named_too(base: Path) -> None:
    rows = {"train": toy.rows(8), "test": [{**row, "url": "x"} for row in toy.rows(4, seed=1)]}
    (finding,) = warnings(base, rows)
    assert (finding.column, finding.split) == ("url", "test")


def test_many_columns_are_named_in_part(base: Path) -> None:
    (finding,) = warnings(base, with_columns(**{f"extra_{number}": "x" for number in range(30)}))
    assert "30 columns: 'extra_0'" in finding.message
    assert finding.message.endswith("'extra_11' ….")
