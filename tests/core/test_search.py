"""The `search` section: what it can say, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from finetune import recipe
from finetune.cli import main
from finetune.errors import BadRecipe
from finetune.plugins import discover
from finetune.recipe.schema import schema
from finetune.recipe.search import apply, parse

RATE = {"low": 1e-5, "high": 1e-3, "log": True}
BASE = {"task": "text-classification", "model": "m", "dataset": "d", "strategy": "full", "output": "o"}
WHOLE = {
    "training.learning_rate": RATE,
    "training.weight_decay": {"low": 0.0, "high": 0.1, "step": 0.05},
    "training.num_train_epochs": {"low": 2, "high": 5},
    "strategy": ["lora", {"name": "full"}],
    "strategy.r": {"values": [4, 8, 16], "when": {"strategy": "lora"}},
}


def test_a_section_is_read_with_what_others_depend_on_first() -> None:
    found = parse({"strategy.r": {"values": [4, 8], "when": {"strategy": "lora"}}, "strategy": ["lora", "full"]})
    assert [each.key for each in found] == ["strategy", "strategy.r"]
    assert found[1].applies({"strategy": "lora"}) and not found[1].applies({"strategy": "full"})


def test_a_range_of_whole_numbers_holds_whole_numbers() -> None:
    by_key = {each.key: each for each in parse(WHOLE)}
    epochs, decay = by_key["training.num_train_epochs"], by_key["training.weight_decay"]
    assert epochs.is_whole and epochs.holds(5) and not epochs.holds(2.5) and not epochs.holds(6)
    assert decay.holds(0.05) and not decay.holds(0.03) and not decay.is_whole


def test_values_replace_a_section_and_then_its_options() -> None:
    content = {"strategy": {"name": "full", "x": 1}, "training": {"seed": 1}}
    chosen = {"strategy": "lora", "strategy.r": "8", "training.learning_rate": 1e-4}
    made = apply(content, parse(WHOLE), chosen)
    assert made == {"strategy": {"name": "lora", "r": 8}, "training": {"seed": 1, "learning_rate": 1e-4}}
    assert content["strategy"] == {"name": "full", "x": 1}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"seed": [1, 2]}, "seed cannot be searched: a seed that is chosen by its score is luck"),
        ({"dataset.limit": [1]}, "dataset cannot be searched: scores on other rows"),
        ({"trainning.learning_rate": RATE}, "Did you mean 'training'?"),
        ({"training": [{}]}, "name the option, such as training.learning_rate"),
        ({"training.learning_rate": 1e-4}, "neither a list of values nor a range"),
        ({"training.learning_rate": {"low": 1.0}}, "high is missing"),
        ({"training.learning_rate": {"low": 2.0, "high": 1.0}}, "low must be less than high"),
        ({"training.learning_rate": {"low": 0.0, "high": 1.0, "log": True}}, "must be greater than 0"),
        ({"training.learning_rate": {**RATE, "step": 0.1}}, "step has no effect with log: true"),
        ({"training.learning_rate": {**RATE, "hgih": 1}}, "'hgih' is not a key of a space. Did you mean 'high'?"),
        ({"training.learning_rate": {"low": "1", "high": 2}}, "low must be a number, not '1'"),
        ({"training.learning_rate": {"values": []}}, "a list with at least one value"),
        ({"training.learning_rate": [1, 1]}, "the value 1 stands there twice"),
        ({"training.learning_rate": {"values": [1], "low": 0}}, "either values or a range, not both: remove low"),
        (
            {"strategy.r": {"values": [4], "when": {"stratgy": "lora"}}, "strategy": ["lora"]},
            "Did you mean 'strategy'?",
        ),
        ({"strategy.r": {"values": [4], "when": {"strategy": "lroa"}}, "strategy": ["lora"]}, "Did you mean 'lora'?"),
        (
            {
                "training.optim": {"values": ["a"], "when": {"training.bf16": True}},
                "training.bf16": {"values": [True], "when": {"training.optim": "a"}},
            },
            "goes round in a circle",
        ),
    ],
)
def test_a_wrong_section_is_refused_when_the_recipe_is_read(section: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRecipe) as caught:
        recipe.from_mapping({**BASE, "search": section})
    assert message in str(caught.value) and "search" in str(caught.value)


def test_the_schema_takes_what_the_reader_takes() -> None:
    whole = schema(discover())
    jsonschema.validate({**BASE, "search": WHOLE}, whole)
    for wrong in ({"seed": [1]}, {"training.learning_rate": {"low": 1}}, {"training.learning_rate": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**BASE, "search": wrong}, whole)


def test_a_recipe_without_a_section_is_written_without_one() -> None:
    assert "search" not in recipe.to_mapping(recipe.from_mapping(BASE))
    read = recipe.from_mapping({**BASE, "search": WHOLE})
    assert recipe.from_mapping(recipe.to_mapping(read)) == read


def test_train_says_that_it_does_not_search(tmp_path: Path) -> None:
    from click.testing import CliRunner

    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.dump({**BASE, "model": str(tmp_path / "none"), "search": WHOLE}))
    result = CliRunner().invoke(main, ["train", str(path)])
    assert "`search` is for `finetune tune`" in result.output
