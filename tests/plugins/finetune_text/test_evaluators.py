"""Evaluators: scores by hand and by scikit-learn called directly, from records as JSON gives them back."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics

from finetune.errors import BadData, BadOptions, TrainingFailed
from finetune.evaluation.scoring import all_scores
from finetune.interfaces import Predictions
from finetune.recipe.options import build
from finetune.result import to_json
from finetune.testing.laws import check_evaluator
from finetune_text.classification import TextClassificationPreprocessor
from finetune_text.classification_evaluator import TextClassificationEvaluator
from finetune_text.multi_label import MultiLabelPreprocessor
from finetune_text.multi_label_evaluator import MultiLabelEvaluator
from finetune_text.regression import TextRegressionPreprocessor
from finetune_text.regression_evaluator import TextRegressionEvaluator

NAMES = ("fog", "hail", "rain")


def predictions(outputs, labels=None, preprocessor=None):
    outputs = np.asarray(outputs, dtype=np.float32)
    answers = [None] * len(outputs) if labels is None else labels
    features = [{"example": k} | ({} if label is None else {"labels": label}) for k, label in enumerate(answers)]
    fitted = preprocessor or TextClassificationPreprocessor(labels=NAMES[: outputs.shape[1]])
    return Predictions(
        examples=[{"text": "x"}] * len(outputs), features=features, outputs=outputs, tokenizer=None, preprocessor=fitted
    )


def sure(truth, guess):
    """Records of predictions that are certain."""
    return [
        {"prediction": g, "probability": 1.0, "probabilities": {n: float(n == g) for n in NAMES}, "reference": t}
        for t, g in zip(truth, guess, strict=True)
    ]


def test_a_table_counted_by_hand():
    # reference ↓ prediction →   fog hail rain
    # fog                          3    1    0
    # hail                         1    1    0
    # rain                         0    0    4
    records = sure(["fog"] * 4 + ["hail"] * 2 + ["rain"] * 4, ["fog"] * 3 + ["hail", "fog", "hail"] + ["rain"] * 4)
    scores = TextClassificationEvaluator().scores(records)
    expected = {
        "accuracy": 8 / 10, "balanced_accuracy": (3 / 4 + 1 / 2 + 1) / 3,
        "precision/fog": 3 / 4, "recall/fog": 3 / 4, "f1/fog": 3 / 4,
        "precision/hail": 1 / 2, "recall/hail": 1 / 2, "f1/hail": 1 / 2,
        "precision/rain": 1.0, "recall/rain": 1.0, "f1/rain": 1.0,
        "precision_macro": 9 / 12, "recall_macro": 9 / 12, "f1_macro": 9 / 12,
        "precision_micro": 8 / 10, "recall_micro": 8 / 10, "f1_micro": 8 / 10,
        # (c·s - Σ p·t) / √((s² - Σ p²)(s² - Σ t²)), Gorodkin 2004: s 10, c 8, t = p = (4, 2, 4)
        "mcc": (8 * 10 - 36) / (100 - 36),
        # each against the rest, certain: (sensitivity + specificity) / 2
        "roc_auc": ((3 / 4 + 5 / 6) / 2 + (1 / 2 + 7 / 8) / 2 + 1) / 3,
    }  # fmt: skip
    assert scores == pytest.approx(expected)
    details = TextClassificationEvaluator().details(records)
    assert details["confusion_matrix"] == [[3, 1, 0], [1, 1, 0], [0, 0, 4]]
    assert details["support"] == {"fog": 4, "hail": 2, "rain": 4}


LOGITS = st.lists(st.tuples(*[st.floats(-8, 8, width=32)] * 3, st.integers(0, 2)), min_size=1, max_size=40)


@given(LOGITS)
@settings(max_examples=60, deadline=None)
def test_scores_are_scikit_learns(rows):
    table = np.array(rows, dtype=np.float64)
    logits, truth = table[:, :3], table[:, 3].astype(int)
    evaluator = TextClassificationEvaluator()
    records = evaluator.records(predictions(logits, truth.tolist()))
    scores = evaluator.scores(json.loads(to_json(records)))
    guess = np.array([NAMES.index(record["prediction"]) for record in records])
    assert logits[range(len(guess)), guess] == pytest.approx(logits.max(axis=1))
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(truth, guess))
    if len({*truth, *guess}) > 1:  # it warns otherwise
        assert scores["mcc"] == pytest.approx(metrics.matthews_corrcoef(truth, guess))
    for average in ("micro", "macro"):
        assert scores[f"f1_{average}"] == pytest.approx(
            metrics.f1_score(truth, guess, average=average, zero_division=0)
        )
        assert scores[f"precision_{average}"] == pytest.approx(
            metrics.precision_score(truth, guess, average=average, zero_division=0)
        )
    if set(guess) <= set(truth) and len({*truth}) > 1:  # it warns otherwise
        assert scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, guess))
    assert ("roc_auc" in scores) == (set(truth) == {0, 1, 2})
    assert all(sum(record["probabilities"].values()) == pytest.approx(1) for record in records)
    assert sum(map(sum, evaluator.details(records)["confusion_matrix"])) == len(rows)


def test_binary_roc_auc_is_that_of_the_second_label():
    # Of the four pairs of one "hail" and one "fog", three stand in the right order.
    logits = [[0, 1], [0, 3], [0, 2], [0, 0.5]]
    evaluator = TextClassificationEvaluator()
    records = evaluator.records(
        predictions(logits, [0, 1, 0, 1], TextClassificationPreprocessor(labels=("fog", "hail")))
    )
    assert evaluator.scores(records)["roc_auc"] == pytest.approx(2 / 4)
    better = evaluator.records(
        predictions(logits, [0, 1, 1, 0], TextClassificationPreprocessor(labels=("fog", "hail")))
    )
    assert evaluator.scores(better)["roc_auc"] == pytest.approx(4 / 4)


@pytest.mark.parametrize("evaluator", [TextClassificationEvaluator(), MultiLabelEvaluator()], ids=repr)
def test_records_hold_rows_of_one_array(evaluator):
    names = tuple(f"label {number}" for number in range(500))
    logits = np.random.default_rng(0).normal(size=(40, len(names)))
    several = isinstance(evaluator, MultiLabelEvaluator)
    labels = [[0, 1] * 250] * 40 if several else [number % 7 for number in range(40)]
    records = evaluator.records(predictions(logits, labels, TextClassificationPreprocessor(labels=names)))
    plain = json.loads(to_json(records))
    assert [dict(record) for record in records] == plain and repr(records) == repr(plain)
    assert [record["probabilities"]["label 3"] for record in records] == [
        record["probabilities"]["label 3"] for record in plain
    ]
    with pytest.raises(KeyError):
        records[0]["probabilities"]["label 500"]
    assert evaluator.scores(records) == evaluator.scores(plain)
    assert evaluator.details(records) == evaluator.details(plain)
    assert evaluator.losses(records) == evaluator.losses(plain)
    tables = {id(record["probabilities"].row.base) for record in records}
    assert len(tables) == 1  # an array of all rows, and not a mapping of numbers for each


def test_a_metric_of_the_user_gets_records_that_json_takes() -> None:
    got = []

    def metric(records):
        got.extend(json.loads(json.dumps(records)))
        return {"size": float(len(records))}

    evaluator, made = TextClassificationEvaluator(), predictions(np.eye(3), [0, 1, 1])
    plan = SimpleNamespace(metrics={"mine": metric}, recipe=SimpleNamespace(dataset=SimpleNamespace(mixture={})))
    records = evaluator.records(made)
    assert all_scores(evaluator, plan, records, examples=made.examples)["size"] == 3
    assert [each["probabilities"] for each in got] == [dict(each["probabilities"]) for each in records]


def test_probabilities_are_those_of_the_softmax():
    (record,) = TextClassificationEvaluator().records(predictions([[0.0, math.log(3), math.log(4)]]))
    assert record["probabilities"] == pytest.approx({"fog": 1 / 8, "hail": 3 / 8, "rain": 4 / 8})
    assert (record["prediction"], record["probability"]) == ("rain", pytest.approx(1 / 2))
    assert "reference" not in record


def test_a_class_without_references_and_predictions_is_left_out():
    scores = TextClassificationEvaluator().scores(sure(["fog", "hail"], ["fog", "hail"]))
    assert scores["f1_macro"] == 1.0
    assert "f1/rain" not in scores
    assert "roc_auc" not in scores


def test_logits_may_be_the_first_of_several_outputs():
    several = predictions([[0.0, 1.0, 2.0]])
    object.__setattr__(several, "outputs", (several.outputs, "hidden states"))
    assert TextClassificationEvaluator().records(several)[0]["prediction"] == "rain"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers_stop_the_run(value):
    with pytest.raises(TrainingFailed, match="1 of 2 examples are not finite, first for example 1"):
        TextClassificationEvaluator().records(predictions([[0, 1, 2], [0, value, 2]]))


def test_another_number_of_outputs_than_labels_stops_the_run():
    with pytest.raises(TrainingFailed, match=r"shape \(1, 2\); expected \(1, 3\)"):
        TextClassificationEvaluator().records(
            predictions([[0, 1]], preprocessor=TextClassificationPreprocessor(labels=NAMES))
        )


@pytest.mark.parametrize("evaluator", [TextClassificationEvaluator(), MultiLabelEvaluator(), TextRegressionEvaluator()])
def test_nothing_cannot_be_scored(evaluator):
    with pytest.raises(BadData, match="no example with a label"):
        evaluator.scores([])


def test_multi_label_scores_counted_by_hand():
    # references: fog; fog, rain; none; hail.  predictions: fog; fog; none; rain.
    truth = [[1, 0, 0], [1, 0, 1], [0, 0, 0], [0, 1, 0]]
    logits = [[5, -5, -5], [5, -5, -5], [-5, -5, -5], [-5, -5, 5]]
    evaluator = MultiLabelEvaluator()
    records = evaluator.records(predictions(logits, truth, MultiLabelPreprocessor(labels=NAMES)))
    assert [record["prediction"] for record in records] == [["fog"], ["fog"], [], ["rain"]]
    assert [record["reference"] for record in records] == [["fog"], ["fog", "rain"], [], ["hail"]]
    scores = evaluator.scores(json.loads(to_json(records)))
    expected = {
        "subset_accuracy": 2 / 4, "hamming_loss": 3 / 12, "precision_micro": 2 / 3, "recall_micro": 2 / 4,
        "f1_micro": 2 * 2 / (3 + 4), "f1/fog": 1.0, "f1/hail": 0.0, "f1/rain": 0.0, "f1_macro": 1 / 3,
        "f1_samples": (1 + 2 / 3 + 1 + 0) / 4, "precision_samples": (1 + 1 + 1 + 0) / 4,
        "recall_samples": (1 + 1 / 2 + 1 + 0) / 4, "precision/fog": 1.0, "recall/fog": 1.0,
    }  # fmt: skip
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert evaluator.details(records)["support"] == {"fog": 2, "hail": 1, "rain": 1}
    assert evaluator.details(records)["confusion_matrix"]["rain"] == [[2, 1], [1, 0]]


@given(
    st.lists(
        st.tuples(st.tuples(*[st.floats(-4, 4, width=32)] * 3), st.tuples(*[st.booleans()] * 3)),
        min_size=1, max_size=25,
    ),
    st.floats(0, 1),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_multi_label_scores_are_scikit_learns(rows, threshold):
    logits, truth = np.array([row[0] for row in rows]), np.array([row[1] for row in rows], dtype=float)
    evaluator = MultiLabelEvaluator(threshold=threshold)
    records = evaluator.records(predictions(logits, truth.tolist(), MultiLabelPreprocessor(labels=NAMES)))
    scores = evaluator.scores(json.loads(to_json(records)))
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float32).astype(np.float64)))
    assume(np.abs(probabilities - threshold).min() > 1e-9)
    guess = (probabilities >= threshold).astype(int)
    assert scores["subset_accuracy"] == pytest.approx(metrics.accuracy_score(truth, guess))
    assert scores["hamming_loss"] == pytest.approx((truth != guess).mean())
    for average in ("micro", "macro"):
        assert scores[f"f1_{average}"] == pytest.approx(
            metrics.f1_score(truth, guess, average=average, zero_division=0)
        )
    varied = all(0 < column.sum() < len(column) for column in truth.T)
    assert ("roc_auc_macro" in scores) == varied
    if varied:
        assert scores["roc_auc_macro"] == pytest.approx(metrics.roc_auc_score(truth, probabilities))


def numbers(truth, guess):
    return [{"prediction": float(g), "reference": float(t)} for t, g in zip(truth, guess, strict=True)]


def test_regression_scores_counted_by_hand():
    scores = TextRegressionEvaluator().scores(numbers([1, 2, 3, 4], [1, 3, 2, 6]))
    # deviations -1.5 -.5 .5 1.5 and -2 0 -1 3: covariance 7, squares 5 and 14; ranks 1 2 3 4 and 1 3 2 4
    expected = {
        "mse": 6 / 4, "rmse": math.sqrt(1.5), "mae": 1.0, "r2": 1 - 6 / 5, "pearson": 7 / math.sqrt(5 * 14),
        "spearman": 1 - 6 * 2 / (4 * 15),
    }  # fmt: skip
    assert scores == pytest.approx(expected)


@pytest.mark.parametrize(
    ("truth", "guess", "absent"),
    [
        ([1, 2, 3], [2, 2, 2], {"pearson", "spearman"}),
        ([1, 2, 3], [2, 2 + 1e-12, 2], {"pearson", "spearman"}),
        ([2, 2, 2], [1, 2, 3], {"pearson", "spearman", "r2"}),
        ([2], [1], {"pearson", "spearman", "r2"}),
    ],
)
def test_a_correlation_that_does_not_exist_is_absent_and_said_so(truth, guess, absent):
    evaluator, records = TextRegressionEvaluator(), numbers(truth, guess)
    assert {"pearson", "spearman", "r2", "mse", "rmse", "mae"} - set(evaluator.scores(records)) == absent
    undefined = evaluator.details(records)["undefined"]
    assert set(undefined) == absent
    assert all(reason.startswith("every ") for reason in undefined.values())


def test_which_scores_are_better_when_they_fall():
    for name in ("mse", "rmse", "mae"):
        assert not TextRegressionEvaluator(primary=name).greater_is_better
    for name in ("pearson", "spearman", "r2"):
        assert TextRegressionEvaluator(primary=name).greater_is_better
    assert not MultiLabelEvaluator(primary="hamming_loss").greater_is_better
    assert MultiLabelEvaluator().greater_is_better
    assert TextClassificationEvaluator().greater_is_better


@pytest.mark.parametrize("cls", [TextClassificationEvaluator, MultiLabelEvaluator])
def test_a_primary_score_that_does_not_exist_is_refused(cls):
    assert build(cls, {"primary": "f1/fog"}, where="evaluator").primary == "f1/fog"
    with pytest.raises(BadOptions, match="Did you mean 'f1_macro'"):
        build(cls, {"primary": "f1-macro"}, where="evaluator")


def test_the_laws_of_evaluators_hold():
    logits = np.random.default_rng(0).normal(size=(12, 3))
    check_evaluator(TextClassificationEvaluator(), predictions=predictions(logits, [0, 1, 2] * 4))
    vectors = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]] * 6
    check_evaluator(
        MultiLabelEvaluator(), predictions=predictions(logits, vectors, MultiLabelPreprocessor(labels=NAMES))
    )
    truth = list(map(float, range(12)))
    check_evaluator(
        TextRegressionEvaluator(), predictions=predictions(logits[:, :1], truth, TextRegressionPreprocessor())
    )


def test_with_many_labels_the_confusions_are_listed_and_the_matrix_is_not_stored() -> None:
    names = [f"label {number}" for number in range(201)]
    shares = dict.fromkeys(names, 1 / len(names))
    wrong = [("label 0", "label 1"), ("label 0", "label 1"), ("label 5", "label 3"), ("label 2", "label 2")]
    records = []
    for reference, prediction in wrong:
        records.append({"prediction": prediction, "probability": 0.5, "probabilities": shares, "reference": reference})
    details = TextClassificationEvaluator().details(records)
    assert "confusion_matrix" not in details
    assert details["confusions"] == [
        {"reference": "label 0", "prediction": "label 1", "count": 2},
        {"reference": "label 5", "prediction": "label 3", "count": 1},
    ]
    assert details["confusions_in_all"] == 2
    assert details["support"]["label 0"] == 2 and sum(details["support"].values()) == 4
    assert "confusion_matrix" in TextClassificationEvaluator().details(
        [{**record, "probabilities": dict.fromkeys(names[:200], 0.005)} for record in records]
    )
