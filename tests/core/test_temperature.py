"""The temperature of a model: the fit, against scikit-learn's, and what it may and may not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import _TemperatureScaling
from sklearn.metrics import brier_score_loss, log_loss

from finetune.evaluation import temperature
from finetune.interfaces import Decisions
from finetune.kit import decisions_of, fit_temperature


def drawn(size: int, options: int, *, factor: float, seed: int = 0) -> tuple[Any, Any]:
    """Return logits that are too large by a factor, and answers that follow the probabilities of the right ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(size, options), scale=2.0)
    powers = np.exp(logits)
    shares = (powers / powers.sum(axis=1, keepdims=True)).cumsum(axis=1)
    return logits * factor, (rng.random((size, 1)) > shares).sum(axis=1)


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("options", [2, 7])
def test_the_fit_is_that_of_scikit_learn(options: int, factor: float) -> None:
    logits, answers = drawn(400, options, factor=factor)
    theirs = 1 / _TemperatureScaling().fit(logits, answers).beta_
    assert fit_temperature(logits, answers) == pytest.approx(theirs, rel=1e-5)


def test_the_fit_finds_the_factor_of_simulated_logits() -> None:
    logits, answers = drawn(20_000, 4, factor=2.5)
    assert fit_temperature(logits, answers) == pytest.approx(2.5, rel=0.05)


def test_questions_can_have_different_numbers_of_options() -> None:
    logits, answers = drawn(300, 3, factor=2.0)
    padded = np.concatenate([logits, np.full((300, 2), -np.inf)], axis=1)
    ragged = [row.tolist() for row in logits]
    assert fit_temperature(ragged, answers) == fit_temperature(padded, answers) == fit_temperature(logits, answers)


def test_the_fit_does_not_depend_on_what_is_added_to_the_scores_of_a_row() -> None:
    logits, answers = drawn(300, 3, factor=2.0)
    moved = logits + np.random.default_rng(1).normal(size=(300, 1), scale=50)
    assert fit_temperature(moved, answers) == pytest.approx(fit_temperature(logits, answers), rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    logits=st.lists(st.lists(st.floats(-30, 30), min_size=3, max_size=3), min_size=1, max_size=20),
    chosen=st.floats(temperature.LEAST, temperature.MOST),
)
def test_no_temperature_changes_the_order_of_labels_and_1_changes_nothing(
    logits: list[list[float]], chosen: float
) -> None:
    decisions = decisions_of(logits, [0] * len(logits))
    scores = decisions.scores
    raised = temperature.probabilities(scores, chosen)
    assert raised.sum(axis=1) == pytest.approx(1.0)
    before, after = np.diff(scores, axis=1), np.diff(raised, axis=1)
    assert (before * after >= 0).all()
    assert temperature.probabilities(scores, 1.0) == pytest.approx(np.exp(scores) / np.exp(scores).sum(1)[:, None])
    assert temperature.confidence(decisions, chosen) == pytest.approx(raised.max(axis=1))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(0.2, 5))
def test_the_fit_is_never_worse_than_no_temperature(seed: int, factor: float) -> None:
    decisions = decisions_of(*drawn(40, 3, factor=factor, seed=seed))
    fitted = temperature.fit(decisions)
    assert temperature.losses(decisions, fitted).mean() <= temperature.losses(decisions, 1.0).mean() + 1e-9


def test_losses_and_brier_scores_are_those_of_scikit_learn() -> None:
    logits, answers = drawn(200, 4, factor=1.5)
    decisions = decisions_of(logits, answers)
    probabilities = temperature.probabilities(logits, 1.7)
    assert temperature.losses(decisions, 1.7).mean() == pytest.approx(log_loss(answers, probabilities))
    halved = brier_score_loss(answers, probabilities, scale_by_half=True)
    assert temperature.brier(decisions, 1.7).mean() == pytest.approx(halved)


def test_an_answer_in_several_options_has_the_sum_of_their_probabilities() -> None:
    # the prediction is options 0 and 1 together; in the second row it is wrong, and the right answer is not listed
    decisions = Decisions(
        scores=np.log([[0.3, 0.3, 0.4], [0.3, 0.3, 0.4]]),
        predicted=np.array([[True, True, False]] * 2),
        true=np.array([[True, True, False], [False, False, True]]),
        one_is_true=False,
    )
    assert temperature.confidence(decisions, 1.0) == pytest.approx([0.6, 0.6])
    assert temperature.is_right(decisions).tolist() == [True, False]
    assert temperature.losses(decisions, 1.0) == pytest.approx(-np.log([0.6, 0.4]))
    assert temperature.brier(decisions, 1.0) == pytest.approx([0.16, 0.36])


def test_rows_that_are_all_right_do_not_determine_a_temperature() -> None:
    fitted = fit_temperature([[1.0, 0.0]] * 50, [0] * 50)
    assert fitted == pytest.approx(temperature.LEAST)
    assert not temperature.is_determined(fitted)
    assert not temperature.is_determined(fit_temperature([[1.0, 0.0]] * 50, [1] * 50))
    assert temperature.is_determined(fit_temperature([[1.0, 0.0]] * 50, [0] * 49 + [1]))


@pytest.mark.parametrize(
    ("scores", "answers", "message"),
    [
        ([], [], "0 rows of scores and 0 answers"),
        ([[1.0, 0.0]], [0, 1], "1 rows of scores and 2 answers"),
        ([[1.0, 0.0]], [2], "row 0 has 2 options, and the answer is number 2 from 0"),
        ([[1.0, float("nan")]], [0], "row 0 holds a score that is not a number"),
        ([[1.0, float("-inf")]], [1], "row 0: the score of the right answer is not finite"),
    ],
)
def test_scores_that_say_nothing_are_refused(scores: Any, answers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_temperature(scores, answers)
