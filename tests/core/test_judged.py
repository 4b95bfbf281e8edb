"""How each example is judged stands in `predictions.jsonl`; what a recipe asks for in vain is said before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import finetune
from finetune.errors import BadData, BadOptions, FinetuneError
from finetune.evaluation import analysis
from finetune.result import PREDICTIONS, Result
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_squad.evaluator import SquadEvaluator


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tokenizer("bert", vocab_size=400), tmp_path_factory.mktemp("base") / "bert")


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


def test_every_line_says_how_its_example_is_judged(base: Path, tmp_path: Path) -> None:
    result = finetune.train(**recipe(base, tmp_path / "run", slices=["pier"]))
    lines = [json.loads(line) for line in (tmp_path / "run" / PREDICTIONS).read_text(encoding="utf-8").splitlines()]
    test = [line for line in lines if line["split"] == "test"]
    assert [line["judged"]["score"] for line in test] == [
        float(line["prediction"] == line["reference"]) for line in test
    ]
    mean = sum(line["judged"]["score"] for line in test) / len(test)
    assert mean == pytest.approx(result.scores["test"]["accuracy"])
    assert [line["judged"]["parts"]["pier"] for line in test] == [str(line["example"]["pier"]) for line in test]
    assert {line["judged"]["parts"]["label"] for line in test} == {"a", "b"}
    costs = {line["index"]: line["judged"]["cost"] for line in test}
    assert all(costs[error["index"]] == error["cost"] for error in Result.load(tmp_path / "run").worst["test"])


def test_an_answer_is_judged_by_its_own_f1_and_its_kind_is_told() -> None:
    said = {"prediction": "the old pier", "reference": ["pier"], "probability": 0.5, "null_odds": 0.0}
    (worth,) = analysis._example_scores(SquadEvaluator(), [said], {"answerable": ["yes"]})
    assert worth["score"] == pytest.approx(100 * 2 / 3)  # "the" is no word of SQuAD's: one of two right
    assert worth["cost"] > 0
    assert worth["parts"] == {"answerable": "yes"}


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"slices": ["quay"]}, BadOptions, "has no column 'quay'"),
        ({"general_text": "absent.txt"}, BadData, "general_text: 'absent.txt' cannot be read"),
    ],
)
def test_what_is_asked_for_in_vain_is_refused_before_anything_is_written(
    base: Path, tmp_path: Path, changes: dict[str, Any], error: type[FinetuneError], said: str
) -> None:
    with pytest.raises(error, match=said):
        finetune.train(**recipe(base, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()
