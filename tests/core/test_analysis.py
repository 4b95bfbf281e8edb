"""Where a model errs: slices of a split with their own scores, and the worst errors first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import finetune
from finetune.errors import BadOptions
from finetune.evaluation.analysis import MOST_VALUES, OTHERS, score_slices
from finetune.result import Result
from finetune_lm.masked_evaluator import MaskedLMEvaluator
from finetune_squad import error_types
from finetune_text.classification_evaluator import TextClassificationEvaluator, calibration


def recipe(base: Path, output: Path, **changes: Any) -> dict[str, Any]:
    words = ("fog", "tide", "salt", "rope", "gull")
    rows = [
        {"text": f"{words[n % 5]} and {words[n // 5 % 5]} at {n}" + " more" * n, "label": "ab"[n % 2], "pier": n % 3}
        for n in range(30)
    ]
    return {
        "task": "text-classification",
        "model": str(base),
        "dataset": {"train": rows, "validation": rows[:12], "test": rows},
        "strategy": "full",
        "training": {"max_steps": 1, "save_strategy": "no", "eval_strategy": "no"},
        "output": str(output),
        **changes,
    }


def test_a_result_scores_slices_and_shows_the_worst_errors(tiny_bert: Path, tmp_path: Path) -> None:
    finetune.train(**recipe(tiny_bert, tmp_path / "run", slices=["pier"]))
    result = Result.load(tmp_path / "run")
    piers = result.slices["test"]["pier"]
    assert {part["value"]: part["size"] for part in piers} == {"0": 10, "1": 10, "2": 10}
    mean = sum(part["score"] * part["size"] for part in piers) / 30
    assert mean == pytest.approx(result.scores["test"]["accuracy"])
    assert all(part["low"] <= part["score"] <= part["high"] for part in piers)
    assert sum(part["size"] for part in result.slices["test"]["characters of text"]) == 30
    losses = [error["loss"] for error in result.worst["test"]]
    assert losses == sorted(losses, reverse=True)
    for error in result.worst["test"]:
        assert error["record"]["prediction"] != error["record"]["reference"]
        assert error["example"]["text"].split(" at ")[1].split()[0] == str(error["index"])


def test_a_slice_that_is_no_column_is_refused_by_name(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match=r"has no column 'quay'\. It has: text, label, pier"):
        finetune.train(**recipe(tiny_bert, tmp_path / "run", slices=["quay"]))


def test_rare_values_are_scored_together() -> None:
    values = [str(n) for n in range(40) for _ in range(40 - n)]
    records = [{"prediction": "a", "reference": "a", "probabilities": {"a": 1.0}} for _ in values]
    parts = score_slices(TextClassificationEvaluator(), records, values)
    assert len(parts) == MOST_VALUES
    assert parts[-1]["value"] == OTHERS
    assert sum(part["size"] for part in parts) == len(values)


def test_slices_that_are_ranges_of_numbers_come_in_their_order() -> None:
    values = [
        value for size, value in enumerate(["over 139", "up to 68", "104 to 139", "69 to 103"], 2) for _ in range(size)
    ]
    records = [{"prediction": "a", "reference": "a", "probabilities": {"a": 1.0}} for _ in values]
    parts = score_slices(TextClassificationEvaluator(), records, values)
    assert [part["value"] for part in parts] == ["up to 68", "69 to 103", "104 to 139", "over 139"]


def test_a_name_that_holds_a_digit_is_not_a_number() -> None:
    values = ["Web3"] * 3 + ["B2B"] * 2
    records = [{"prediction": "a", "reference": "a", "probabilities": {"a": 1.0}} for _ in values]
    assert [part["value"] for part in score_slices(TextClassificationEvaluator(), records, values)] == ["Web3", "B2B"]


def test_a_slice_with_nothing_to_score_is_left_out() -> None:
    scored = {"prediction": ["fog"], "reference": ["tide"], "correct": 0, "tokens": 1, "nll": 2.0}
    gap = {"prediction": ["ship"], "fillings": [[{"token": "ship", "probability": 0.4}]]}
    records = [scored, scored, gap, gap]
    parts = score_slices(MaskedLMEvaluator(), records, ["long", "long", "short", "short"])
    assert [part["value"] for part in parts] == ["long"]
    assert MaskedLMEvaluator().tallies(records).values.sum(axis=0).tolist() == [4.0, 2.0, 0.0, 2.0]


def test_calibration_adds_up_by_hand() -> None:
    found = calibration([0.95, 0.92, 0.55, 0.52, 0.58, 1.0], [True, True, True, False, False, True])
    assert [(part["low"], part["size"], part["accuracy"]) for part in found["bins"]] == [
        (0.5, 3, pytest.approx(1 / 3)),
        (0.9, 3, 1.0),
    ]
    assert found["ece"] == pytest.approx((3 * abs(0.55 - 1 / 3) + 3 * abs((0.95 + 0.92 + 1.0) / 3 - 1)) / 6)


@pytest.mark.parametrize(
    ("prediction", "reference", "kind"),
    [
        ("The pier", ["pier"], error_types.RIGHT),
        ("old pier", ["pier"], error_types.BOUNDARY),
        ("quay", ["pier"], error_types.OTHER),
        ("quay", [], error_types.FALSE),
        ("", ["pier"], error_types.MISSED),
        ("", [], error_types.RIGHT),
    ],
)
def test_every_wrong_answer_is_of_one_kind(prediction: str, reference: list[str], kind: str) -> None:
    assert error_types.error_type({"prediction": prediction, "reference": reference}) == kind


def test_a_result_can_be_read_by_anything_that_reads_json(tiny_bert: Path, tmp_path: Path) -> None:
    finetune.train(**recipe(tiny_bert, tmp_path / "run"))
    content = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert {"slices", "worst", "intervals", "baselines", "differences", "forgetting", "leakage"} <= set(content)
    assert content["leakage"]["test"]["exact"] == 30
