"""The public functions: their signatures are those of a recipe, and they take paths, mappings and rows."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toy

import finetune
from finetune.api import FineTuned, evaluate, load, train
from finetune.errors import BadData
from finetune.recipe import Recipe, Source

NOT_GIVEN = {"python", "search"}
"""Keys that a run writes, and that `finetune tune` reads."""
OBJECTS = {"columns", "tokenizer", "callbacks", "data_collator", "compute_metrics"}
OURS = OBJECTS | {
    "cache", "recipe", "resume", "accept_changes", "overwrite", "trust_code", "plugins", "reporter",
}  # fmt: skip


def test_every_key_of_a_recipe_is_an_argument_of_train() -> None:
    parameters = inspect.signature(train).parameters
    assert set(parameters) == OURS | {field.name for field in fields(Recipe)} - NOT_GIVEN
    assert {parameter.kind for name, parameter in parameters.items() if name != "recipe"} == {
        inspect.Parameter.KEYWORD_ONLY
    }


@pytest.mark.parametrize("function", [train, load, evaluate, FineTuned.predict, FineTuned.evaluate])
def test_every_argument_is_documented_once_and_in_order(function: Any) -> None:
    lines = inspect.cleandoc(function.__doc__).splitlines()
    section = lines[lines.index("Args:") + 1 :]
    documented = [
        line.strip().partition(":")[0].lstrip("*") for line in section if line[:5].strip() and line[:4] == "    "
    ]
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    assert documented[: len(names)] == names


def test_a_misspelt_key_is_refused_by_python_itself() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'modle'"):
        finetune.train(task="toy", modle="base")  # type: ignore[call-arg]


def test_paths_are_taken_for_model_data_and_output(toy_base: Path, tmp_path: Path) -> None:
    recipe = toy.recipe(toy_base, tmp_path / "run")
    for split, rows in recipe["dataset"].items():
        lines = [f"{row['text']},{row['label']}\n" for row in rows]
        (tmp_path / f"{split}.csv").write_text("text,label\n" + "".join(lines), encoding="utf-8")
    dataset = {split: tmp_path / f"{split}.csv" for split in recipe["dataset"]}
    result = finetune.train(**{**recipe, "model": toy_base, "dataset": dataset, "output": tmp_path / "run"})
    assert result.recipe["model"]["path"] == str(toy_base)
    model = finetune.load(tmp_path / "run")
    scores = model.evaluate({"path": {"test": tmp_path / "test.csv"}})
    assert scores == finetune.evaluate(tmp_path / "run", tmp_path / "test.csv") == result.scores["test"]


@pytest.mark.parametrize(
    ("path", "other", "same"),
    [
        ("a.conll", "b.conll", True),
        ({"train": "a.CONLL", "test": ["b.txt"]}, "c.conll", True),
        ("a.conll", "b.jsonl", False),
        ("sample:harbour", "b", False),
        ("rows:load", "b.conll", False),
    ],
)
def test_another_file_of_the_same_suffix_is_read_in_the_same_way(path: Any, other: str, same: bool) -> None:
    source = Source(path=path, options={"word": 2}, format="conll", columns={"a": "b"})
    model: Any = SimpleNamespace(plan=SimpleNamespace(recipe=SimpleNamespace(dataset=source)))
    like = FineTuned.source_like(model, other)
    assert (like.path, like.columns, like.validation_size) == (other, {"a": "b"}, 0)
    assert (like.format, like.options) == (("conll", {"word": 2}) if same else (None, {}))


def test_one_example_has_one_record_and_many_have_a_list(toy_run: Path) -> None:
    model = finetune.load(toy_run)
    record = model.predict(text="ship wave harbour")
    assert record == model.predict({"text": "ship wave harbour"})
    assert model.predict([{"text": "ship wave harbour"}]) == [record]
    assert model.predict([]) == []
    with pytest.raises(BadData, match="not both"):
        model.predict({"text": "ship"}, text="ship")
