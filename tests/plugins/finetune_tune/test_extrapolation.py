"""What twice the rows are worth: known curves, and how often the interval holds the true gain."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_tune.curve import sentence
from finetune_tune.extrapolation import Estimate, Extrapolation, extrapolate

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from learning_curve_coverage import coverage

SIZES = (100, 200, 400, 800)


def observed(scores: Any, *, noise: float = 1e-4, seeds: int = 3) -> tuple[Any, Any]:
    """Return scores of seeds and resamples that scatter little around a curve."""
    random = np.random.default_rng(0)
    of_seeds = np.asarray(scores)[:, None] + noise * random.standard_normal((len(scores), seeds))
    return of_seeds, of_seeds.mean(axis=1) + noise * random.standard_normal((300, len(scores)))


@pytest.mark.parametrize("exponent", [0.2, 0.5, 1.0])
def test_the_gain_of_a_clean_power_law_is_found(exponent: float) -> None:
    def score(size: float) -> float:
        return float(0.95 - 2 * size**-exponent)

    found = extrapolate(SIZES, *observed([score(size) for size in SIZES], noise=1e-3))
    true = score(1600) - score(800)
    assert found.gain is not None
    assert found.exponent is not None
    assert found.gain.low <= true <= found.gain.high
    assert found.gain.value == pytest.approx(true, rel=0.15)
    assert found.exponent.value == pytest.approx(exponent, abs=0.1)
    sizes = [size for size, _ in found.curve]
    assert sizes[0] == pytest.approx(100)
    assert sizes[-1] == pytest.approx(1600)


def test_a_line_in_the_logarithm_goes_on() -> None:
    found = extrapolate(SIZES, *observed([0.6, 0.65, 0.7, 0.75]))
    assert found.gain is not None
    assert found.gain.value == pytest.approx(0.05, rel=0.1)


def test_a_score_where_less_is_better_falls() -> None:
    found = extrapolate(SIZES, *observed([3.0, 2.5, 2.25, 2.125], noise=1e-3))
    assert found.gain is not None
    assert found.gain.value == pytest.approx(-0.0625, rel=0.2)
    said = sentence(found, 800, factor=1.0, unit="perplexity", better=False)
    assert said.startswith("Doubling the labels, from 800 to 1,600 rows, is worth 0.06")
    assert said.endswith("] less perplexity.")


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([0.5, 0.5, 0.52, 0.7], "each doubling still changes the score more than the one before"),
        ([0.6, 0.8, 0.7, 0.9], "the scores do not follow a power law"),
        ([0.6, 0.6, 0.6, 0.6], "all runs have the same score"),
        ([0.6, np.nan, 0.6, 0.6], "a score is not defined for some runs"),
    ],
)
def test_scores_that_no_curve_explains_are_not_extrapolated(scores: Any, reason: str) -> None:
    noise = 0.0 if len(set(scores)) == 1 else 1e-4
    found = extrapolate(SIZES, *observed(scores, noise=noise))
    assert found.gain is None
    assert not found.curve
    assert found.reason.startswith(reason)
    said = sentence(found, 800, factor=100.0, unit="points of accuracy", better=True)
    assert said == f"What doubling the labels is worth cannot be said: {found.reason}."


def test_one_seed_or_two_sizes_are_not_enough() -> None:
    one = extrapolate(SIZES, *observed([0.6, 0.7, 0.75, 0.77], seeds=1))
    assert "one seed does not show" in one.reason
    two = extrapolate(SIZES[:2], *observed([0.6, 0.7]))
    assert "a curve needs at least 3 sizes" in two.reason


def test_the_same_scores_give_the_same_answer() -> None:
    given = observed([0.6, 0.7, 0.75, 0.77], noise=0.01)
    assert extrapolate(SIZES, *given, seed=3) == extrapolate(SIZES, *given, seed=3)


def test_the_sentence_says_when_more_labels_may_be_worth_nothing() -> None:
    found = Extrapolation(scores=[], gain=Estimate(value=0.012, low=-0.003, high=0.021), reason="", exponent=None)
    said = sentence(found, 700, factor=100.0, unit="points of accuracy", better=True)
    assert said == (
        "Doubling the labels, from 700 to 1,400 rows, is worth 1.2 [−0.3, 2.1] points of accuracy. The interval "
        "contains 0, so more labels may be worth nothing."
    )


def test_the_interval_holds_the_true_gain_about_as_often_as_it_says() -> None:
    """A small version of tests/benchmarks/learning_curve_coverage.py, whose 400 curves of each kind take longer."""
    found = coverage("power law", 60, seed=5)
    assert 0.9 <= found["held"] <= 1.0
    assert found["nothing said"] <= 0.05
    flat = coverage("flat", 40, seed=6)
    assert flat["held"] >= 0.875
