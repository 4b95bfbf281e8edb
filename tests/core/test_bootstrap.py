"""Intervals cover what they promise to, pair by pair and unit by unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap as scipy_bootstrap

from finetune.evaluation import bootstrap
from finetune.interfaces import Tallies


def mean(values: Any, *, most: float | None = 1.0) -> Tallies:
    numbers = np.asarray(values, dtype=float)
    return Tallies(
        values=np.stack([numbers, np.ones(len(numbers))], axis=1),
        scores=lambda sums: {"mean": sums[..., 0] / sums[..., 1]},
        most={} if most is None else {"mean": most},
    )


def f1(right: Any, guessed: Any, true: Any) -> Tallies:
    return Tallies(
        values=np.stack([right, guessed, true], axis=1),
        scores=lambda sums: {"f1": 2 * sums[..., 0] / (sums[..., 1] + sums[..., 2])},
    )


def covered(draw: Any, truth: float, name: str, *, repeats: int = 1000) -> float:
    """Return how often the interval of a sample holds the truth."""
    rng = np.random.default_rng(11)
    inside = 0
    for repeat in range(repeats):
        tallies, units = draw(rng)
        found = bootstrap.intervals(tallies, units, seed=repeat)[name]
        inside += found.low <= truth <= found.high
    return inside / repeats


def test_an_interval_of_accuracy_covers_the_truth_in_95_of_100_samples() -> None:
    rate = covered(lambda rng: (mean(rng.random(300) < 0.8), None), 0.8, "mean")
    assert 0.93 <= rate <= 0.97


def test_an_interval_of_f1_over_sentences_covers_the_truth_in_95_of_100_samples() -> None:
    def draw(rng: Any) -> tuple[Tallies, None]:
        true = rng.poisson(2.0, size=250)
        right = rng.binomial(true, 0.7)
        return f1(right, right + rng.poisson(0.5, size=250), true), None

    assert 0.93 <= covered(draw, 2 * 1.4 / (1.4 + 0.5 + 2.0), "f1") <= 0.97


def test_questions_of_one_context_are_drawn_together() -> None:
    def draw(rng: Any, *, grouped: bool) -> tuple[Tallies, Any]:
        ease = rng.beta(2, 2, size=120)  # of each context
        answers = rng.random((120, 8)) < ease[:, None]
        return mean(answers.ravel()), np.repeat(np.arange(120), 8) if grouped else None

    assert 0.93 <= covered(lambda rng: draw(rng, grouped=True), 0.5, "mean") <= 0.97
    assert covered(lambda rng: draw(rng, grouped=False), 0.5, "mean", repeats=200) < 0.85


def test_an_interval_of_a_paired_difference_covers_the_truth() -> None:
    rng, inside = np.random.default_rng(5), 0
    for repeat in range(1000):
        hard = rng.random(300)
        first, second = hard < 0.7, (hard < 0.6) ^ (rng.random(300) < 0.05)
        found = bootstrap.differences(mean(first), mean(second), seed=repeat)["mean"]
        assert found.value == pytest.approx(first.mean() - second.mean())
        inside += found.low <= 0.7 - (0.6 * 0.95 + 0.4 * 0.05) <= found.high
    assert 0.93 <= inside / 1000 <= 0.97


def test_intervals_agree_with_scipys() -> None:
    values = np.random.default_rng(3).gamma(1.5, size=80)
    ours = bootstrap.intervals(mean(values, most=None))["mean"]
    theirs = scipy_bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.04)
    assert ours.high == pytest.approx(theirs.high, abs=0.04)


def test_if_all_are_right_the_interval_still_depends_on_how_many_there_are() -> None:
    few, many = (bootstrap.intervals(mean(np.ones(size)))["mean"] for size in (8, 100))
    assert few.low == pytest.approx(0.025 ** (1 / 8))
    assert many.low == pytest.approx(0.9638, abs=1e-4)
    assert few.high == many.high == 1.0
    assert bootstrap.intervals(mean(np.zeros(100)))["mean"].high == pytest.approx(1 - 0.9638, abs=1e-4)


@given(st.lists(st.booleans(), min_size=2, max_size=40))
def test_a_predictor_against_itself_is_inconclusive(right: list[bool]) -> None:
    found = bootstrap.differences(mean(right), mean(right))["mean"]
    assert found.value == 0 and found.low == -found.high <= 0


def test_a_handful_of_rows_is_inconclusive() -> None:
    for size in range(1, 6):  # one of five could be elsewhere, and reverse it: 0.025 ** (1 / 5) < 1 / 2
        found = bootstrap.differences(mean(np.ones(size)), mean(np.zeros(size)))["mean"]
        assert found.value == 1 and found.low <= 0 <= found.high, size
    assert bootstrap.differences(mean(np.ones(6)), mean(np.zeros(6)))["mean"].low > 0


def test_a_single_unit_has_no_narrow_interval() -> None:
    one = mean(np.array([1.0, 1.0, 0.0]))
    bounds = bootstrap.intervals(one, [0, 0, 0])["mean"]
    assert bounds.low < 0.02 and bounds.high > 0.99
    assert bootstrap.by_recomputing(lambda places: {"mean": 0.7}, 3, [0, 0, 0]) == {}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=30))
def test_units_only_add_up(rows: list[tuple[int, int]]) -> None:
    units = bootstrap.as_unit_ids([unit for unit, _ in rows])
    sums = bootstrap.by_unit(np.array([[value, 1] for _, value in rows]), units)
    assert sums.sum(axis=0).tolist() == [sum(value for _, value in rows), len(rows)]
    assert len(sums) == len({unit for unit, _ in rows})


def test_scores_without_tallies_are_computed_for_each_resample() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=100)
    y = x + rng.normal(size=100)

    def correlation(places: Any) -> dict[str, float]:
        return {"r": float(np.corrcoef(x[places], y[places])[0, 1])}

    found = bootstrap.by_recomputing(correlation, 100)["r"]
    assert found.low < np.corrcoef(x, y)[0, 1] < found.high
    assert 0.05 < found.high - found.low < 0.4


def test_ten_thousand_questions_take_no_loop_over_resamples() -> None:
    calls: list[Any] = []

    def scores(sums: Any) -> dict[str, Any]:
        calls.append(sums.shape)
        return {"mean": sums[..., 0] / sums[..., 1]}

    values = np.stack([np.arange(10_000) % 2, np.ones(10_000)], axis=1)
    bootstrap.intervals(Tallies(values=values, scores=scores))
    assert len(calls) <= 10  # some chunks of resamples, the whole, and each left out


@pytest.mark.parametrize("size", [1, 7, 50])
def test_scores_in_parts_are_the_same_to_the_bit(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    draw = np.random.default_rng(0)
    right = draw.integers(0, 2, size=(50, 3))
    tallies = f1(right[:, 0], right[:, 0] + right[:, 1], right[:, 0] + right[:, 2])
    other = f1(right[:, 1], right[:, 0] + right[:, 1], right[:, 1] + right[:, 2])
    whole = bootstrap.intervals(tallies), bootstrap.differences(tallies, other)
    monkeypatch.setattr(bootstrap, "MOST_SUMS", size * tallies.values.shape[1])
    assert (bootstrap.intervals(tallies), bootstrap.differences(tallies, other)) == whole
