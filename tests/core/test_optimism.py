"""Paired differences with their p-value, and the selection bias of the best of several models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from finetune.evaluation.bootstrap import ratios
from finetune.evaluation.optimism import optimism
from finetune.evaluation.sides import difference
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


class Share(Mean):
    """The same, of numbers from 0 to 1."""

    def tallies(self, records: Sequence[Any]) -> Tallies | None:
        return ratios({"mean": (records, np.ones(len(records)))}, most={"mean": 1.0})


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


def test_the_variance_of_a_mean_is_the_one_of_the_textbook() -> None:
    found = difference(Mean(), [FIRST], [SECOND])
    each = FIRST - SECOND
    assert found is not None and found.value == pytest.approx(each.mean())
    assert found.variance_of_rows == pytest.approx(each.var(ddof=1) / 80, rel=0.1)
    assert found.variance_of_seeds == 0


def test_units_are_drawn_together() -> None:
    found = difference(Mean(), [FIRST], [SECOND], units=np.repeat(np.arange(20), 4))
    each = (FIRST - SECOND).reshape(20, 4).mean(axis=1)
    assert found is not None and found.variance_of_rows == pytest.approx(each.var(ddof=1) / 20, rel=0.1)


def test_a_score_without_tallies_has_nearly_the_same_p_value() -> None:
    shifted = FIRST - 0.1
    whole, again = difference(Mean(), [shifted], [SECOND]), difference(WithoutTallies(), [shifted], [SECOND])
    assert whole is not None and again is not None and again.value == pytest.approx(whole.value)
    assert again.probability_of_less == pytest.approx(whole.probability_of_less, rel=0.5)


def test_the_p_value_of_a_mean_is_that_of_the_paired_t_test() -> None:
    for shift in (0.0, 0.05, 0.1, 0.15):
        found = difference(Mean(), [FIRST - shift], [SECOND])
        expected = ttest_rel(FIRST - shift, SECOND, alternative="less").pvalue
        assert found is not None and found.probability_of_less == pytest.approx(expected, rel=0.4)


def test_a_p_value_below_a_fortieth_goes_with_an_interval_below_0() -> None:
    for shift in np.linspace(-0.3, 0.3, 61):
        found = difference(Mean(), [FIRST + shift], [SECOND])
        assert found is not None
        if found.probability_of_less < 0.025:
            assert found.both.high <= 0


def test_equal_models_are_never_worse() -> None:
    found = difference(Mean(), [FIRST], [FIRST])
    assert found is not None and (found.both.low, found.both.high) == (0, 0)
    assert found.probability_of_less == 1.0


@pytest.mark.parametrize(("rows", "dropped"), [(3, False), (40, True)])
def test_few_rows_that_all_differ_prove_little(rows: int, dropped: bool) -> None:
    """No resample differs; with 3 rows, the chance of this is 1/8 if both models are equally good."""
    found = difference(Share(), [np.zeros(rows)], [np.ones(rows)])
    assert found is not None and (found.probability_of_less < 0.002) is dropped


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
