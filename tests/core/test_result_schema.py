"""`result.json` is what its schema says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from finetune import result_schema


@pytest.fixture(scope="module")
def written(toy_run: Path) -> dict[str, Any]:
    """Return the `result.json` of a run."""
    content: dict[str, Any] = json.loads((toy_run / "result.json").read_text(encoding="utf-8"))
    return content


def problems(content: Any) -> list[str]:
    schema = result_schema.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(content)]


def test_a_run_is_valid_and_a_change_is_not(written: dict[str, Any]) -> None:
    assert problems(written) == []
    split = next(iter(written["scores"]))
    assert problems({**written, "scores": {split: {"accuracy": None}}}) == [], "a score can be no number"
    assert problems({**written, "scores": {split: {"accuracy": "high"}}})
    assert problems({**written, "sccores": {}})
    assert problems({key: value for key, value in written.items() if key != "primary"})


def test_each_field_is_described() -> None:
    schema = result_schema.schema()
    for part in (schema["then"], schema["else"]):
        assert all(field["description"] for field in part["properties"].values())
