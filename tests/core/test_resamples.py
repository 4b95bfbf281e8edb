"""Scores of several runs on the same resamples: paired, by unit, and the same with tallies as without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toy

from finetune.evaluation.bootstrap import ratios
from finetune.evaluation.sides import sampled
from finetune.interfaces import Tallies


class WithTallies(toy.Accuracy):
    """The evaluator of the toy task with tallies, as most evaluators have them."""

    def tallies(self, records: Any) -> Tallies:
        right = [float(record["prediction"] == record["reference"]) for record in records]
        return ratios({"accuracy": (right, [1.0] * len(right))}, most={"accuracy": 1.0})


def records(right: Any) -> list[dict[str, str]]:
    return [{"prediction": "sea" if each else "land", "reference": "sea"} for each in right]


RIGHT = np.random.default_rng(0).random((2, 200)) < np.array([[0.7], [0.8]])
RUNS = [records(right) for right in RIGHT]


@pytest.mark.parametrize("evaluator", [WithTallies(), toy.Accuracy()])
def test_resamples_have_the_mean_and_the_spread_of_the_score(evaluator: Any) -> None:
    drawn = sampled([evaluator, evaluator], RUNS, None, seed=1)["accuracy"].drawn
    scores = RIGHT.mean(axis=1)
    assert drawn.mean(axis=0) == pytest.approx(scores, abs=0.01)
    assert drawn.std(axis=0) == pytest.approx(np.sqrt(scores * (1 - scores) / 200), rel=0.15)


@pytest.mark.parametrize("evaluator", [WithTallies(), toy.Accuracy()])
def test_each_resample_draws_the_same_rows_for_all_runs(evaluator: Any) -> None:
    drawn = sampled([evaluator, evaluator], [RUNS[0], RUNS[0]], None, seed=1)["accuracy"].drawn
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert drawn[:, 0].std() > 0


@pytest.mark.parametrize("evaluator", [WithTallies(), toy.Accuracy()])
def test_units_are_drawn_whole(evaluator: Any) -> None:
    units = np.arange(200) // 100  # two units, so three different scores at most
    drawn = sampled([evaluator], RUNS[:1], units, seed=1)["accuracy"].drawn
    halves = RIGHT[0].reshape(2, 100).mean(axis=1)
    possible = sorted({halves[0], halves[1], halves.mean()})
    assert np.unique(drawn.round(9)) == pytest.approx(possible)
