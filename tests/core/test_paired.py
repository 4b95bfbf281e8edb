"""Paired differences with their standard error, and the selection bias of the best of several models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from finetune.evaluation.bootstrap import ratios
from finetune.evaluation.paired import difference, optimism
from finetune.interfaces import Evaluator, Tallies


class Mean(Evaluator):
    """The mean of records that are numbers."""

    primary = "mean"

    def records(self, predictions: Any) -> Any:
        raise NotImplementedError

    def scores(self, records: Sequence[Any]) -> dict[str, float]:
        return {"mean": float(np.mean(records))}

    def tallies(self, records: Sequence[Any]) -> Tallies | None:
        return ratios({"mean": (records, np.ones(len(records)))})


class WithoutTallies(Mean):
    """The same, computed again for each resample."""

    def tallies(self, records: Sequence[Any]) -> Tallies | None:
        return None


class Loss(Mean):
    """The same, where less is better."""

    @property
    def greater_is_better(self) -> bool:
        return False


RNG = np.random.default_rng(3)
FIRST, SECOND = RNG.random(80), RNG.random(80)


def test_the_error_of_a_mean_is_the_one_of_the_textbook() -> None:
    found = difference(Mean(), [FIRST], [SECOND])
    each = FIRST - SECOND
    assert found is not None
    assert found.value == pytest.approx(each.mean())
    assert found.rows_error == pytest.approx(each.std(ddof=1) / math.sqrt(80))
    assert (found.seeds_error, found.degrees, found.units) == (0.0, pytest.approx(79.0), 80)


def test_units_are_left_out_together() -> None:
    units = np.repeat(np.arange(20), 4)
    found = difference(Mean(), [FIRST], [SECOND], units=units)
    each = (FIRST - SECOND).reshape(20, 4).mean(axis=1)
    assert found is not None and found.units == 20
    assert found.rows_error == pytest.approx(each.std(ddof=1) / math.sqrt(20))


def test_a_score_without_tallies_has_nearly_the_same_error() -> None:
    whole, again = difference(Mean(), [FIRST], [SECOND]), difference(WithoutTallies(), [FIRST], [SECOND])
    assert whole is not None and again is not None
    assert again.value == pytest.approx(whole.value)
    assert again.rows_error == pytest.approx(whole.rows_error, rel=0.2)


def test_seeds_add_their_own_error() -> None:
    shifts = (0.0, 0.1, 0.5)
    found = difference(Mean(), [FIRST + shift for shift in shifts], [SECOND] * 3)
    assert found is not None
    assert found.seeds_error == pytest.approx(np.std(shifts, ddof=1) / math.sqrt(3))
    assert found.error == pytest.approx(math.hypot(found.rows_error, found.seeds_error))
    assert 2 < found.degrees < 79
    low, high = found.interval()
    assert low < found.value < high and high - low > 4 * found.error  # few degrees: wider than a normal interval


def test_equal_models_are_never_worse() -> None:
    found = difference(Mean(), [FIRST], [FIRST])
    assert found is not None and found.error == 0
    assert found.probability_of_less() == 1.0 and found.interval() == (0.0, 0.0)


def test_the_probability_is_small_if_the_first_is_less() -> None:
    less, more = difference(Mean(), [FIRST - 1], [SECOND]), difference(Mean(), [FIRST + 1], [SECOND])
    assert less is not None and more is not None
    assert less.probability_of_less() < 1e-6 and more.probability_of_less() > 1 - 1e-6


def test_a_score_that_is_not_defined_has_no_difference() -> None:
    assert difference(Mean(), [np.full(5, np.nan)], [np.ones(5)]) is None


@pytest.mark.parametrize("evaluator", [Mean(), Loss(), WithoutTallies()])
def test_the_best_of_equal_models_looks_as_good_as_the_maximum_of_their_noise(evaluator: Evaluator) -> None:
    """For 20 independent means of 100 numbers with deviation 1, the expected maximum is 1.867 * 0.1."""
    models = list(np.random.default_rng(0).standard_normal((20, 100)))
    found = optimism(evaluator, models)
    assert found is not None
    assert found.if_equal == pytest.approx(0.187, rel=0.12)
    assert 0 < found.expected < found.if_equal


def test_a_best_model_that_is_far_ahead_is_hardly_too_good() -> None:
    models = list(np.random.default_rng(0).standard_normal((20, 100)))
    models[7] = models[7] + 10
    found = optimism(Mean(), models)
    assert found is not None and found.expected < 0.02
