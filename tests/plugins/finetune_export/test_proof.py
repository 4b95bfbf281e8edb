"""What the proof of an export says of scores, predictions and outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from finetune.errors import BadOptions, Incompatible
from finetune.interfaces import Evaluator
from finetune_export import formats, proof
from finetune_export.proof import Flip, Inputs, Proof

PROOF = Proof(
    split="test",
    rows=400,
    primary="accuracy",
    greater_is_better=True,
    source=0.91,
    exported=0.9,
    difference={"value": -0.01, "low": -0.03, "high": 0.01},
    point=0.01,
    flips=[Flip(index=0, source="a", exported="b", worse=0.5)],
    inputs=Inputs(changed=0, compared=256, output_change=0.02),
    settings={},
)


def test_the_verdict_says_what_is_shown_and_what_is_not() -> None:
    assert proof.verdict(PROOF) == (
        "Accuracy 0.910 → 0.900: not shown to be better or worse (95% interval of the paired difference −3.00 to +1.00 "
        "points). 1 of 400 predictions changed, 1 for the worse and 0 for the better."
    )
    assert "too few to show that it loses at most 2 points: the loss can be 3.00" in proof.verdict(PROOF, tolerance=2)
    worse = replace(PROOF, difference={"value": -0.01, "low": -0.015, "high": -0.005})
    assert "1.00 points worse (95% interval" in proof.verdict(worse)
    lower_is_better = replace(worse, greater_is_better=False, difference={"value": -0.01, "low": -0.03, "high": -0.005})
    assert lower_is_better.lost == pytest.approx(-1) and "1.00 points better" in proof.verdict(lower_is_better)
    same = replace(PROOF, flips=[], inputs=Inputs(changed=0, compared=9, output_change=None))
    assert proof.verdict(same) == "The same predictions on all 400 rows of test."


@pytest.mark.parametrize(
    ("change", "is_exact", "tolerance", "expected"),
    [
        ({}, False, None, None),
        ({}, False, 1.5, None),
        ({}, False, 0.5, "accuracy is 1.00 points worse, and --tolerance allows 0.5"),
        ({"exported": float("nan")}, False, 0.5, "nan points worse"),
        ({}, True, None, "outputs differ by up to 0.02"),
        (
            {"inputs": Inputs(changed=0, compared=9, output_change=float("nan"))},
            True,
            None,
            "differ by up to nan",
        ),
        ({"inputs": Inputs(changed=0, compared=9, output_change=1e-6)}, True, None, None),
        ({"inputs": Inputs(changed=3, compared=9, output_change=0.0)}, False, None, "3 of the features differ"),
    ],
)
def test_what_speaks_against_an_export(change: Any, is_exact: bool, tolerance: Any, expected: str | None) -> None:
    found = proof.problems(replace(PROOF, **change), is_exact=is_exact, low_precision=False, tolerance=tolerance)
    assert found == [] if expected is None else expected in " ".join(found)


def test_an_exact_format_may_change_ties_alone() -> None:
    exact = replace(PROOF, inputs=Inputs(changed=0, compared=9, output_change=0.0))
    assert not proof.problems(exact, is_exact=True, low_precision=False, tolerance=None)
    many = replace(exact, flips=PROOF.flips * 2)
    assert "2 of 400 predictions changed" in proof.problems(many, is_exact=True, low_precision=False, tolerance=None)[0]


def test_predictions_differ_by_more_than_rounding() -> None:
    assert not proof.differs({"a": [0.5, "x"]}, {"a": [0.5000001, "x"]})
    for one, two in (({"a": 1}, {"b": 1}), ([1], [1, 2]), (0.5, 0.6), ("a", None), (None, 0.5)):
        assert proof.differs(one, two)


@dataclass(frozen=True, kw_only=True)
class Words(Evaluator):
    """Share of right words."""

    primary = "accuracy"

    def records(self, predictions: Any) -> list[Any]:
        raise NotImplementedError

    def scores(self, records: Any) -> dict[str, float]:
        return {"accuracy": sum(each["prediction"] == each["reference"] for each in records) / len(records)}


def test_flips_begin_with_what_became_most_wrong() -> None:
    before = [{"prediction": each, "reference": "a"} for each in "aba"]
    after = [{"prediction": each, "reference": "a"} for each in "aab"]
    assert [(flip.index, flip.worse) for flip in proof.flips_of(Words(), before, after)] == [(2, 1), (1, -1)]


def test_rows_differ_in_any_input() -> None:
    batch = {"input_ids": torch.tensor([[1, 2], [3, 4]]), "attention_mask": torch.ones(2, 2)}
    assert proof.rows_that_differ(batch, {name: value.clone() for name, value in batch.items()}) == 0
    assert proof.rows_that_differ(batch, {**batch, "input_ids": torch.tensor([[1, 2], [3, 5]])}) == 1
    assert proof.rows_that_differ(batch, {"input_ids": batch["input_ids"]}) == 2
    assert proof.rows_that_differ(batch, {**batch, "input_ids": torch.tensor([[1], [3]])}) == 2


@pytest.mark.parametrize(
    ("name", "model_class", "calibrate", "error", "message"),
    [
        ("onnx", "AutoModelForCausalLM", 0, Incompatible, "--format safetensors"),
        ("pt2", "AutoModelForSeq2SeqLM", 0, Incompatible, "is not exported as pt2"),
        ("onnx-int8", "AutoModelForSeq2SeqLM", 9, Incompatible, "not quantized with rows of train"),
        ("onnx", "AutoModelForTokenClassification", 9, BadOptions, "onnx is not quantized"),
        ("onxx", "AutoModelForTokenClassification", 0, BadOptions, "'onxx' is no format"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_by_name(
    name: str, model_class: str, calibrate: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        formats.find(name, model_class=model_class, calibrate=calibrate)


def test_safetensors_holds_decoders_too() -> None:
    assert formats.find("safetensors", model_class="AutoModelForCausalLM", calibrate=0).is_exact
