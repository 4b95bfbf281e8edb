"""`predictions.jsonl` holds the evaluation of each example; a wrong slice or text fails before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import finetune
from finetune.errors import BadData, BadOptions, FinetuneError
from finetune.evaluation import analysis
from finetune.result import PREDICTIONS, Result
from finetune_squad.evaluator import SquadEvaluator


def recipe(base: Path, output: Path, **changes: Any) -> dict[str, Any]:
    rows = [{"text": f"{n} gulls" + " more" * n, "label": "ab"[n % 2], "pier": n % 3} for n in range(12)]
    return {
        "task": "text-classification",
        "model": str(base),
        "dataset": {"train": rows, "validation": rows[:4], "test": rows},
        "strategy": "full",
        "training": {"max_steps": 1, "save_strategy": "no"},
        "output": str(output),
        **changes,
    }


def test_every_line_holds_the_evaluation_of_its_example(tiny_bert: Path, tmp_path: Path) -> None:
    result = finetune.train(**recipe(tiny_bert, tmp_path / "run", slices=["pier"]))
    lines = [json.loads(line) for line in (tmp_path / "run" / PREDICTIONS).read_text(encoding="utf-8").splitlines()]
    test = [line for line in lines if line["split"] == "test"]
    for line in test:
        evaluation = line["evaluation"]
        assert set(evaluation) == {"score", "loss", "slices"}
        assert evaluation["score"] == float(line["prediction"] == line["reference"])
        assert evaluation["slices"]["pier"] == str(line["example"]["pier"])
    mean = sum(line["evaluation"]["score"] for line in test) / len(test)
    assert mean == pytest.approx(result.scores["test"]["accuracy"])
    assert {line["evaluation"]["slices"]["label"] for line in test} == {"a", "b"}
    losses = {line["index"]: line["evaluation"]["loss"] for line in test}
    assert all(losses[error["index"]] == error["loss"] for error in Result.load(tmp_path / "run").worst["test"])


def test_the_evaluation_of_an_answer_is_its_own_f1_its_loss_and_its_slice() -> None:
    record = {"prediction": "the old pier", "reference": ["pier"], "probability": 0.5, "null_odds": 0.0}
    (found,) = analysis._evaluate_examples(SquadEvaluator(), [record], {"answerable": ["yes"]})
    assert found["score"] == pytest.approx(100 * 2 / 3)  # SQuAD's metric drops "the": one of two words is right
    assert found["loss"] > 0
    assert found["slices"] == {"answerable": "yes"}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"slices": ["quay"]}, BadOptions, "has no column 'quay'"),
        ({"general_text": "absent.txt"}, BadData, "general_text: 'absent.txt' cannot be read"),
    ],
)
def test_a_slice_or_a_text_that_does_not_exist_is_refused_before_anything_is_written(
    tiny_bert: Path, tmp_path: Path, changes: dict[str, Any], error: type[FinetuneError], message: str
) -> None:
    with pytest.raises(error, match=message):
        finetune.train(**recipe(tiny_bert, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()
