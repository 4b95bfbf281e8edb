"""`finetune predict` takes the columns of every task: on the command line, as JSON lines and as a JSON array."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finetune import data
from finetune.cli.predict_ import _predict
from finetune.errors import BadData
from finetune.interfaces import Preprocessor
from finetune.plugins import discover, resolve
from finetune.recipe import Source, options

FOUND = discover()


@cache
def sample_of(name: str) -> tuple[Preprocessor, list[dict[str, Any]]]:
    """Return the fitted preprocessor of a task's starter recipe, and a few rows of its sample without answers."""
    task = FOUND.find("tasks", name)
    cls = resolve(task.preprocessor)
    built = options.build(cls, task.starter.get("preprocessor", {}), where="preprocessor")
    given = task.starter["dataset"]
    source = Source(path=given["path"], options={"size": 64, **given.get("options", {})}, validation_size=0)
    source = replace(source, columns=given.get("columns", {}), constants=given.get("constants", {}))
    found = data.load(source, built, plugins=FOUND, seed=0)
    inputs = found.preprocessor.needs().inputs
    rows = []
    chosen = list(found.splits["train"].select(range(3)))
    used = [name for name in chosen[0] if name in inputs and any(row[name] is not None for row in chosen)]
    for row in chosen:
        rows.append({name: row[name] for name in used})
    return found.preprocessor, rows


def checked(preprocessor: Preprocessor, rows: list[Mapping[str, Any]]) -> list[Any]:
    """Return rows as predicting reads them, without a model."""
    found = data.from_rows({"test": rows}, preprocessor, fit=False, answers=False)
    return list(found.splits["test"])


@pytest.mark.parametrize("name", sorted(FOUND.catalogues["tasks"].available))
def test_a_row_of_every_task_can_be_given_as_columns_of_the_command_line(name: str) -> None:
    preprocessor, rows = sample_of(name)
    model: Any = SimpleNamespace(predict=lambda row: checked(preprocessor, [row]))
    for row in ({key: value for key, value in row.items() if value is not None} for row in rows):
        words = {key: value if isinstance(value, str) else json.dumps(value) for key, value in row.items()}
        # a number or true stays text, as in a csv file; each task reads it
        nested = {key: value if isinstance(value, list | dict) else words[key] for key, value in row.items()}
        if name == "decision":  # its sample writes a mapping as JSON, which the command reads
            nested = {key: json.loads(text) if key == "criteria" else text for key, text in nested.items()}
        assert _predict(model, words) == checked(preprocessor, [nested])


@pytest.mark.parametrize("name", sorted(FOUND.catalogues["tasks"].available))
@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_a_row_of_every_task_can_be_given_in_a_file(name: str, form: str, tmp_path: Path) -> None:
    preprocessor, rows = sample_of(name)
    lines = [json.dumps(row) for row in rows]
    path = tmp_path / f"test.{form}"
    path.write_text("\n".join(lines) if form == "jsonl" else f"[{','.join(lines)}]")
    source = Source(path={"test": str(path)})
    found = data.load(source, preprocessor, plugins=FOUND, seed=0, fit=False, answers=False)
    assert list(found.splits["test"]) == checked(preprocessor, rows)


def test_a_text_that_looks_like_json_stays_text_where_the_task_takes_text_only() -> None:
    preprocessor, _ = sample_of("text-classification")
    model: Any = SimpleNamespace(predict=lambda row: checked(preprocessor, [row]))
    for text in ('["a", "b"]', '{"a": 1}', "[1", "3", "null", "{}"):
        assert [row["text"] for row in _predict(model, {"text": text})] == [text]


def test_the_first_error_is_shown_if_a_value_is_wrong_in_both_readings() -> None:
    def refuse(row: Mapping[str, Any]) -> None:
        raise BadData(f"the value is a {type(row['text']).__name__}.")

    with pytest.raises(BadData, match=r"^the value is a list\.$"):
        _predict(SimpleNamespace(predict=refuse), {"text": "[1]"})  # type: ignore[arg-type]
    with pytest.raises(BadData, match=r"^the value is a str\.$"):
        _predict(SimpleNamespace(predict=refuse), {"text": "one"})  # type: ignore[arg-type]
