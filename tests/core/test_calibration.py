"""Temperatures that a run fits or not, sets of labels with a stated coverage, and predictions that are withheld."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from test_temperature import drawn

from finetune.errors import BadData, BadOptions
from finetune.evaluation import calibration, conformal
from finetune.evaluation.answering import Answering
from finetune.interfaces import Decisions, Evaluator, Predictions, Record
from finetune.kit import decisions_of, ratios

LABELS = ("fog", "hail", "rain")


@dataclass(frozen=True, kw_only=True)
class Weather(Evaluator):
    """Makes records and decisions of logits."""

    primary: str = "accuracy"
    temperature: float | None = None

    def records(self, predictions: Predictions) -> list[Record]:
        raise NotImplementedError

    def scores(self, records: Any) -> dict[str, float]:
        return {"accuracy": float(np.mean([record["prediction"] == record["reference"] for record in records]))}

    def tallies(self, records: Any) -> Any:
        hits = [float(record["prediction"] == record["reference"]) for record in records]
        return ratios({"accuracy": (hits, [1.0] * len(hits))}, most={"accuracy": 1.0})

    def decisions(self, predictions: Any) -> Decisions | None:
        return decisions_of(*predictions)

    def confidence(self, record: Record) -> float:
        return max(record["probabilities"].values())

    def label_probabilities(self, record: Record) -> dict[str, float]:
        return record["probabilities"]


def records_of(logits: Any, answers: Any) -> list[Record]:
    powers = np.exp(logits)
    records = []
    for row, answer in zip(powers / powers.sum(axis=1, keepdims=True), answers, strict=True):
        shares = dict(zip(LABELS, row.tolist(), strict=True))
        records.append({"prediction": LABELS[int(row.argmax())], "probabilities": shares, "reference": LABELS[answer]})
    return records


def calibrate(evaluator: Evaluator, units: Any = None, **splits: Any) -> Any:
    return calibration.calibrate(evaluator, splits, units=dict.fromkeys(splits, units), seed=1)


def test_logits_that_are_too_large_get_a_temperature_and_better_probabilities_on_test() -> None:
    evaluator, found = calibrate(
        Weather(), validation=drawn(400, 3, factor=3.0), test=drawn(400, 3, factor=3.0, seed=1)
    )
    assert evaluator.temperature == found.temperature == found.fitted == pytest.approx(3.0, rel=0.2)
    assert found.improvement["low"] > 0 and found.rows == 400
    test = found.splits["test"]
    for name in ("nll", "ece", "brier"):
        assert test["after"][name]["value"] < test["before"][name]["value"]
    assert sum(part["size"] for part in test["after"]["bins"]) == test["decisions"] == 400
    ece = sum(part["size"] * abs(part["confidence"] - part["accuracy"]) for part in test["after"]["bins"]) / 400
    assert test["after"]["ece"]["value"] == pytest.approx(ece)
    assert test["after"]["ece"]["low"] <= ece <= test["after"]["ece"]["high"]
    answered = test["answered"]
    assert [part["coverage"] for part in answered] == sorted((part["coverage"] for part in answered), reverse=True)
    assert answered[0]["coverage"] == 1 and answered[-1]["right"] > answered[0]["right"]
    assert "less sure, and the NLL is" in calibration.note_of(found)


def test_good_probabilities_keep_a_temperature_of_1() -> None:
    evaluator, found = calibrate(Weather(), validation=drawn(400, 3, factor=1.0))
    assert evaluator.temperature == found.temperature == 1.0
    assert found.fitted == pytest.approx(1.0, rel=0.2) and "no more than noise" in found.reason
    assert found.splits["validation"]["before"] == found.splits["validation"]["after"]
    assert calibration.note_of(found) == ""


def test_rows_of_few_units_are_not_taken_for_many() -> None:
    logits, answers = drawn(40, 3, factor=1.7, seed=3)
    copied = np.repeat(logits, 10, axis=0), np.repeat(answers, 10)
    _, alone = calibrate(Weather(), validation=copied)
    _, grouped = calibrate(Weather(), units=np.repeat(np.arange(40), 10), validation=copied)
    assert alone.fitted == grouped.fitted
    widths = [each.improvement["high"] - each.improvement["low"] for each in (alone, grouped)]
    assert widths[1] > 2 * widths[0]


@pytest.mark.parametrize(
    ("splits", "reason"),
    [
        ({"test": drawn(50, 3, factor=3.0)}, "There is no validation split"),
        ({"validation": drawn(29, 3, factor=3.0)}, "Validation has 29 rows with answers, and 30 are needed"),
        ({"validation": ([[5.0, 0.0]] * 50, [0] * 50)}, "do not determine one: all predictions are right"),
    ],
)
def test_a_temperature_that_cannot_be_fitted_is_1_with_the_reason(splits: Any, reason: str) -> None:
    evaluator, found = calibrate(Weather(), **splits)
    assert evaluator.temperature == found.temperature == 1.0 and reason in found.reason


def test_a_temperature_of_the_recipe_stays() -> None:
    evaluator, found = calibrate(Weather(temperature=2.0), validation=drawn(400, 3, factor=3.0))
    assert evaluator.temperature == found.temperature == 2.0
    assert found.fitted is None and "recipe" in found.reason


def test_an_evaluator_without_probabilities_is_left_alone() -> None:
    class Plain(Weather):
        def decisions(self, predictions: Any) -> None:
            return None

    evaluator, found = calibrate(Plain(), validation=drawn(50, 3, factor=3.0))
    assert evaluator == Plain() and found is None


def test_an_evaluator_without_the_field_is_refused_with_what_to_add() -> None:
    class Bare(Evaluator):
        primary = "accuracy"
        records = Weather.records
        scores = Weather.scores
        decisions = Weather.decisions

    with pytest.raises(BadOptions, match=r"Bare has decisions\(\) and no field `temperature: float \| None = None`"):
        calibrate(Bare(), validation=drawn(400, 3, factor=3.0))


def test_sets_cover_what_is_asked_in_the_binomial_bounds_of_many_draws() -> None:
    held = rows = 0
    for seed in range(60):
        logits, answers = drawn(400, 3, factor=1.5, seed=seed)
        sets = conformal.nonconformity(decisions_of(logits[:100], answers[:100]), 1.0)
        least = conformal.least_probability(sets, 0.9)
        for record in records_of(logits[100:], answers[100:]):
            held += record["reference"] in conformal.label_set(record["probabilities"], least)
            rows += 1
    # the expectation is between 0.9 and 0.9 + 1 / 101; a set of validation rows moves the share of its draw
    spread = 3 * np.sqrt(0.9 * 0.1 / (60 * 100) + 0.9 * 0.1 / rows)
    assert 0.9 - spread < held / rows < 0.9 + 1 / 101 + spread


def test_the_rank_of_a_set_is_that_of_the_theory() -> None:
    sets = {"rows": 9, "ranks": list(range(1, 10)), "scores": [place / 10 for place in range(1, 10)]}
    assert conformal.least_probability(sets, 0.9) == pytest.approx(1 - 0.9)  # ⌈10 · 0.9⌉ = 9
    assert conformal.least_probability(sets, 0.5) == pytest.approx(1 - 0.5)
    assert conformal.least_probability({**sets, "rows": 99, "ranks": [10, 90, 99], "scores": [0.1, 0.2, 0.3]}, 0.5) == (
        pytest.approx(0.8)
    )  # rank 50 is not stored; the next greater one is


@pytest.mark.parametrize(("coverage", "rows"), [(0.9, 8), (0.95, 18), (0.99, 98)])
def test_a_coverage_that_needs_more_rows_is_refused(coverage: float, rows: int) -> None:
    sets = {"rows": rows, "ranks": list(range(1, rows + 1)), "scores": [0.5] * rows}
    with pytest.raises(BadData) as error:
        conformal.least_probability(sets, coverage)
    (finding,) = error.value.findings
    assert finding.code == conformal.CODE and f"needs {rows + 1} rows" in finding.message
    more = {"rows": rows + 1, "ranks": list(range(1, rows + 2)), "scores": [0.5] * (rows + 1)}
    assert conformal.least_probability(more, coverage) == 0.5


def test_many_scores_are_thinned_and_the_coverage_stays() -> None:
    logits, answers = drawn(9_000, 3, factor=1.0)
    decisions = decisions_of(logits, answers)
    sets = conformal.nonconformity(decisions, 1.0)
    assert len(sets["scores"]) == len(sets["ranks"]) == conformal.MOST_SCORES and sets["rows"] == 9_000
    exact = np.quantile(1 - np.exp(-calibration.temperature.losses(decisions, 1.0)), 0.9, method="higher")
    assert 0 <= 1 - conformal.least_probability(sets, 0.9) - exact < 0.01


def test_there_are_no_sets_if_the_right_option_may_be_missing_or_rows_have_several_decisions() -> None:
    decisions = decisions_of(*drawn(40, 3, factor=1.0))
    for changed in ({"one_is_true": False}, {"rows": np.repeat(np.arange(20), 2)}):
        assert conformal.nonconformity(Decisions(**{**vars(decisions), **changed}), 1.0) == {}


def test_unsure_predictions_are_withheld_and_keep_what_they_would_have_been() -> None:
    answer = Answering(abstain_below=0.6).answer(Weather(), {})
    sure = {"prediction": "fog", "probabilities": {"fog": 0.6, "hail": 0.4}}
    unsure = {"prediction": "fog", "probabilities": {"fog": 0.59, "hail": 0.41}}
    assert answer(sure) == {**sure, "abstained": False}
    assert answer(unsure) == {**unsure, "prediction": None, "abstained": True, "withheld": "fog"}


def test_an_evaluation_states_coverage_score_of_the_answered_and_measured_coverage_of_sets() -> None:
    logits, answers = drawn(600, 3, factor=1.0)
    sets = conformal.nonconformity(decisions_of(logits[:300], answers[:300]), 1.0)
    records = records_of(logits[300:], answers[300:])
    found = Answering(abstain_below=0.8, coverage=0.9).measure(Weather(), records, {"sets": sets})
    answered = [record for record in records if max(record["probabilities"].values()) >= 0.8]
    assert found["answered"]["rows"] == len(answered)
    assert found["answered"]["coverage"]["value"] == pytest.approx(len(answered) / 300)
    assert found["answered"]["score"]["value"] == Weather().scores(answered)["accuracy"]
    assert found["answered"]["score"]["low"] < found["answered"]["score"]["value"] < found["answered"]["score"]["high"]
    measured = found["sets"]["measured"]
    # of one draw: validation of n rows gives Beta(⌈0.9 (n + 1)⌉, …), the test rows a binomial of that
    assert binom.ppf(1e-4, 300, 0.85) / 300 < measured["value"] < binom.ppf(1 - 1e-4, 300, 0.95) / 300
    assert measured["low"] < measured["value"] < measured["high"]
    assert 1 <= found["sets"]["size"] < 3 and found["sets"]["empty"] == 0


def test_nothing_answered_has_no_score() -> None:
    records = records_of(*drawn(40, 3, factor=0.01))
    found = Answering(abstain_below=0.99).measure(Weather(), records, {})
    assert found["answered"]["rows"] == 0 and found["answered"]["score"] is None


@pytest.mark.parametrize(
    ("options", "evaluator", "message"),
    [
        ({"abstain_below": 1.5}, Weather, "abstain_below=1.5 must be between 0 and 1"),
        ({"coverage": 0.0}, Weather, "coverage=0.0 must be between 0 and 1"),
        ({"abstain_below": 0.5}, None, "abstain_below: Plain gives no probability for the prediction of a whole row"),
        ({"coverage": 0.5}, None, "coverage: Plain gives no probability for each of a fixed set of labels"),
        ({"coverage": 0.5}, Weather, "coverage: no scores of validation are stored with the model"),
    ],
)
def test_what_a_model_cannot_do_is_refused(options: dict[str, float], evaluator: Any, message: str) -> None:
    class Plain(Weather):
        confidence = Evaluator.confidence
        label_probabilities = Evaluator.label_probabilities

    with pytest.raises(BadOptions, match=message):
        Answering(**options).answer((evaluator or Plain)(), {})


def test_a_record_that_has_the_key_of_an_answer_is_refused() -> None:
    answer = Answering(abstain_below=0.5).answer(Weather(), {})
    with pytest.raises(BadOptions, match="a record has the key 'set', which an answer needs"):
        answer({"prediction": "fog", "probabilities": {"fog": 1.0}, "set": []})
