"""Scores equal those of scikit-learn and of plain arithmetic; temperatures are fitted per type of question."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score, log_loss, mean_absolute_error

from finetune.errors import BadData, BadOptions, TrainingFailed
from finetune.interfaces import Predictions
from finetune.kit import intervals
from finetune_decision.evaluator import DecisionEvaluator
from finetune_decision.preprocessor import DecisionPreprocessor

SHIPS = ["Tern", "Heron", "Otter"]


def row(kind: str, answer: Any) -> dict[str, Any]:
    criteria = {"choice": SHIPS, "score": ["low", "middle", "high"], "noul": None}[kind]
    return {"state": "Fog.", "type": kind, "instructions": f"{kind}?", "criteria": criteria, "answer": answer}


def predictions(rows: list[dict[str, Any]], logits: Any) -> Predictions:
    return Predictions(
        examples=rows, features=[], outputs=np.asarray(logits), tokenizer=None, preprocessor=DecisionPreprocessor()
    )  # type: ignore[arg-type]


def drawn(size: int, *, sharpness: float = 1.0) -> tuple[list[dict[str, Any]], Any]:
    """Return questions of all types whose right options are drawn from known probabilities, and sharper logits."""
    draw = np.random.default_rng(7)
    rows, table = [], np.full((size, 3), -np.inf)
    for number in range(size):
        kind = ("choice", "noul", "score")[number % 3]
        count = 2 if kind == "noul" else 3
        logits = draw.normal(0, 1.5, size=count)
        right = int(draw.choice(count, p=softmax(logits)))
        answers = {"choice": SHIPS, "noul": ["true", "false"], "score": [0, 1, 2]}[kind]
        rows.append(row(kind, answers[right]))
        table[number, :count] = logits * sharpness
    return rows, table


def test_scores_are_those_of_scikit_learn() -> None:
    rows, logits = drawn(150)
    records = DecisionEvaluator().records(predictions(rows, logits))
    scores = DecisionEvaluator().scores(records)
    table = np.where(np.isfinite(logits), softmax(logits, axis=1), 0.0)
    right = np.array([record["right"] for record in records])
    assert scores["accuracy"] == pytest.approx(accuracy_score(right, table.argmax(axis=1)))
    assert scores["log_loss"] == pytest.approx(log_loss(right, table, labels=[0, 1, 2]))
    truth = np.eye(3)[right]
    assert scores["brier"] == pytest.approx(((table - truth) ** 2).sum(axis=1).mean() / 2)
    chosen = [record for record in records if record["type"] != "score"]
    # each question has options of its own: none of the two shares a name with the other
    expected = f1_score([r["reference"] for r in chosen], [r["prediction"] for r in chosen], average="macro")
    assert scores["f1_macro"] == pytest.approx(expected)
    levels = [record for record in records if record["type"] == "score"]
    expected = mean_absolute_error([r["reference"] for r in levels], [r["prediction"] for r in levels])
    assert scores["mae"] == pytest.approx(expected)


def test_the_calibration_error_is_that_of_a_plain_loop() -> None:
    rows, logits = drawn(150, sharpness=2.0)
    records = DecisionEvaluator().records(predictions(rows, logits))
    ranges: dict[int, list[tuple[float, bool]]] = {}
    for record in records:
        probabilities = list(record["probabilities"].values())
        sure = max(probabilities)
        is_right = probabilities.index(sure) == record["right"]
        ranges.setdefault(min(int(sure * 10), 9), []).append((sure, is_right))
    error = sum(abs(sum(sure for sure, _ in part) - sum(right for _, right in part)) for part in ranges.values())
    scores, details = DecisionEvaluator().scores(records), DecisionEvaluator().details(records)
    assert scores["ece"] == pytest.approx(error / len(records)) == pytest.approx(details["calibration"]["ece"])
    assert sum(part["size"] for part in details["calibration"]["bins"]) == len(records)


def test_every_score_has_an_interval() -> None:
    rows, logits = drawn(90)
    evaluator = DecisionEvaluator()
    records = evaluator.records(predictions(rows, logits))
    found, scores = intervals(evaluator.tallies(records)), evaluator.scores(records)
    assert set(found) == set(scores) >= {"log_loss", "accuracy", "f1_macro", "mae", "brier", "ece"}
    for name in ("log_loss", "accuracy", "brier", "mae"):
        assert found[name].low < scores[name] < found[name].high


def test_a_temperature_undoes_what_made_the_model_too_sure() -> None:
    rows, logits = drawn(1200, sharpness=3.0)
    raw = DecisionEvaluator().records(predictions(rows, logits))
    fitted = DecisionEvaluator().fit(raw)
    assert fitted.temperatures is not None
    for kind in ("choice", "noul", "score"):
        assert fitted.temperatures[kind] == pytest.approx(3.0, rel=0.25)
    records = fitted.records(predictions(rows, logits))
    assert [max(r["probabilities"], key=r["probabilities"].get) for r in records] == [
        max(r["probabilities"], key=r["probabilities"].get) for r in raw
    ]
    scores = fitted.scores(records)
    assert scores["ece"] < scores["ece_uncalibrated"] / 3 and scores["brier"] < scores["brier_uncalibrated"]
    before = DecisionEvaluator().scores(raw)
    for name in ("log_loss", "brier", "ece"):
        assert scores[f"{name}_uncalibrated"] == pytest.approx(before[name]) == before[f"{name}_uncalibrated"]


def test_a_temperature_needs_enough_rows_and_a_mistake() -> None:
    rows, logits = drawn(57)  # 19 of each type
    assert DecisionEvaluator().fit(DecisionEvaluator().records(predictions(rows, logits))).temperatures == {}
    sure = [row("noul", "true")] * 40
    records = DecisionEvaluator().records(predictions(sure, [[2.0, 0.0]] * 40))
    assert DecisionEvaluator().fit(records).temperatures == {}
    given = DecisionEvaluator(temperatures={"noul": 2.0})
    assert given.fit(records) is given


def test_the_baseline_knows_how_often_an_option_of_a_question_is_right() -> None:
    train = [row("choice", "Tern")] * 6 + [row("choice", "Otter")] * 1 + [row("noul", "false")] * 2
    asked = [row("choice", "Otter"), row("noul", "true"), row("score", 1)]
    found = DecisionEvaluator().baselines(
        predictions(asked, np.zeros((3, 3))), train=predictions(train, np.zeros((9, 3)))
    )
    choice, noul, score = found["majority per question"]
    assert choice["prediction"] == "Tern"
    assert list(choice["probabilities"].values()) == pytest.approx([7 / 10, 1 / 10, 2 / 10])
    assert noul["prediction"] == "false" and noul["probabilities"]["false"] == pytest.approx(3 / 4)
    assert list(score["probabilities"].values()) == pytest.approx([1 / 3] * 3)  # never asked in train
    assert "temperature" not in choice and choice["reference"] == "Otter"


def test_open_questions_have_no_macro_f1() -> None:
    rows = [{**row("choice", "Tern"), "instructions": f"Which ship was number {number}?"} for number in range(40)]
    records = DecisionEvaluator().records(predictions(rows, np.zeros((40, 3))))
    assert "f1_macro" not in DecisionEvaluator().scores(records)
    assert "question" not in DecisionEvaluator().slices(records, rows)


def test_what_cannot_be_scored_is_refused() -> None:
    unanswered = DecisionEvaluator().records(predictions([row("noul", None)], [[1.0, 0.0]]))
    with pytest.raises(BadData, match="no question has a right answer"):
        DecisionEvaluator().scores(unanswered)
    with pytest.raises(TrainingFailed, match="not finite"):
        DecisionEvaluator().records(predictions([row("noul", "true")], [[np.nan, 0.0]]))
    with pytest.raises(TrainingFailed, match="expected outputs of the shape"):
        DecisionEvaluator().records(predictions([row("noul", "true")], [1.0, 0.0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"primary": "acuracy"}, "accuracy"),
        ({"temperatures": {"bool": 1.0}}, "'bool' is no question type"),
        ({"temperatures": {"noul": 0.0}}, "greater than 0"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, BadOptions), match=message):
        DecisionEvaluator(**options)


def test_the_primary_score_says_its_direction() -> None:
    better = {name: DecisionEvaluator(primary=name).greater_is_better for name in ("accuracy", "f1_macro", "log_loss")}
    assert better == {"accuracy": True, "f1_macro": True, "log_loss": False}
