"""A study of the toy task, small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import toy

from finetune.errors import Incompatible
from finetune.interfaces import Strategy
from finetune.recipe import dump

SPACE = {"training.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}}
STEPS = 9


class Never(Strategy):
    """A strategy that can train no model."""

    def prepare(self, model: Any, task: Any, *, newly_initialized: Any = ()) -> Any:
        raise Incompatible("strategy: it trains no model.")


def recipe(directory: Path, base: Path, **changes: Any) -> Path:
    """Write a recipe with data, and return its path; its output is the folder `study` beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    for split, size in (("train", 24), ("validation", 30), ("test", 40)):
        lines = [json.dumps(row) + "\n" for row in toy.rows(size, seed=size)]
        (directory / f"{split}.jsonl").write_text("".join(lines))
    training = {"max_steps": STEPS, "learning_rate": 1e-2, **changes.pop("training", {})}
    content = toy.recipe(base, directory / "study", training=training, general_text="none", score_base_model=False)
    del content["training"]["save_strategy"]
    paths = {split: str(directory / f"{split}.jsonl") for split in ("train", "validation", "test")}
    content |= {"dataset": {"path": paths}, "search": SPACE, **changes}
    path = directory / "recipe.yaml"
    path.write_text(dump({key: value for key, value in content.items() if value is not None}))
    return path


def trials_of(output: Path) -> list[dict[str, Any]]:
    """Return the trials in `study.json`, without the time that they took."""
    trials: list[dict[str, Any]] = json.loads((output / "study.json").read_text())["trials"]
    for trial in trials:
        for rung in trial["rungs"]:
            del rung["seconds"]
    return trials
