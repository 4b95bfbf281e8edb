"""What a study does next: halving, racing, and the simulation of both."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune_tune import schedule
from finetune_tune.schedule import Continue, Drop, Finish, Start, Stop, Wait, decide
from finetune_tune.trial import Rung, Settings, State, Trial

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import tune_simulation as simulation

SETTINGS = Settings(trials=4, seed=1, greater_is_better=True, primary="accuracy")


def trial(number: int, *scores: float, state: State = "paused") -> Trial:
    rungs = tuple(Rung(step=3**place, score=score, best_step=1, seconds=60.0) for place, score in enumerate(scores))
    return Trial(number=number, chosen={}, state=state, rungs=rungs)


def equal(*_: object) -> float:
    return 0.5


def test_trials_are_started_until_a_third_of_them_can_continue() -> None:
    assert decide([], SETTINGS, equal) == Start(0)
    assert decide([trial(0, 0.5), trial(1, 0.7)], SETTINGS, equal) == Start(2)
    three = [trial(0, 0.5), trial(1, 0.7), trial(2, 0.6)]
    assert decide(three, SETTINGS, equal) == Continue(three[1], 1)
    lower = replace(SETTINGS, greater_is_better=False)
    assert decide(three, lower, equal) == Continue(three[0], 1)


def test_some_trial_is_completed_however_few_there_are() -> None:
    for count in (1, 2, 3, 4, 7, 10):
        settings = replace(SETTINGS, trials=count)
        records = {(n, r): np.random.default_rng([n, r]).integers(0, 2, 50) for n in range(count) for r in range(3)}
        trials, cost = simulation.searched(settings, records)
        assert len(trials) == count and "complete" in [each.state for each in trials]
        assert {each.state for each in trials} <= {"complete", "stopped", "dropped"}
        assert cost <= 1


def test_a_worse_trial_is_dropped_before_anything_else() -> None:
    trials = [trial(0, 0.9, 0.9), trial(1, 0.5, 0.5)]

    def compare(first: Trial, second: Trial, rung: int) -> float:
        assert (first.number, second.number, rung) == (1, 0, 1)
        return schedule.level(SETTINGS) / 2

    assert decide(trials, SETTINGS, compare) == Drop(trials[1], trials[0], schedule.level(SETTINGS) / 2)


def test_a_trial_is_not_raced_before_a_third_of_its_steps() -> None:
    assert decide([trial(0, 0.9), trial(1, 0.5)], SETTINGS, lambda *_: 0.0) == Start(2)


def test_the_levels_of_all_tests_of_a_trial_add_up_to_five_percent() -> None:
    others, raced = 26, 1
    assert schedule.level(replace(SETTINGS, trials=27)) * others * raced == pytest.approx(0.05)


def test_a_stopped_trial_continues_if_more_trials_make_room() -> None:
    over = [trial(0, 0.9, 0.9, 0.9, state="complete"), trial(1, 0.8, state="stopped"), trial(2, 0.7, state="stopped")]
    assert decide(over, replace(SETTINGS, trials=3), equal) == Finish()
    more = [*over, trial(3, 0.1), trial(4, 0.2), trial(5, 0.3)]
    assert decide(more, replace(SETTINGS, trials=6), equal) == Continue(over[1], 1)
    assert decide(more, replace(SETTINGS, trials=9), equal, time_is_up=True) == Stop(more[3])


def test_a_dropped_trial_continues_if_its_test_is_too_weak_for_more_trials() -> None:
    dropped = replace(trial(1, 0.8, 0.8, state="dropped"), worse_than=0)
    trials = [trial(0, 0.9, 0.9, 0.9, state="complete"), dropped]
    trials += [trial(number, 0.1, 0.1, state="stopped") for number in range(2, 6)]
    few, many = replace(SETTINGS, trials=6), replace(SETTINGS, trials=60)
    weak = 0.9 * schedule.level(few)
    assert weak > schedule.level(many)
    assert decide(trials, few, lambda *_: weak) == Finish()
    assert decide(trials, many, lambda *_: weak) == Continue(dropped, 2)
    assert decide(trials, many, lambda *_: 0.9 * schedule.level(many)) == Start(6)


def test_a_stopped_trial_that_is_worse_than_a_new_one_does_not_continue() -> None:
    trials = [trial(0, 0.9, 0.9, 0.9, state="complete"), trial(1, 0.8, 0.8, state="stopped")]
    trials += [trial(number, 0.1, 0.1, state="stopped") for number in range(2, 6)]
    assert decide(trials, replace(SETTINGS, trials=6), equal) == Continue(trials[1], 2)
    assert decide(trials, replace(SETTINGS, trials=6), lambda *_: 0.0) == Finish()


def test_a_failed_trial_takes_no_place_of_a_third() -> None:
    trials = [trial(0, 0.9, state="failed"), trial(1, 0.5), trial(2, 0.4), trial(3, 0.3)]
    assert decide(trials, SETTINGS, equal) == Continue(trials[1], 1)


def test_a_worker_waits_for_the_others_before_the_last_decisions() -> None:
    trials = [trial(0, 0.9, 0.9, 0.9, state="complete"), trial(1, 0.5), trial(2, state="running"), trial(3, 0.3)]
    assert decide(trials, SETTINGS, equal) == Wait()


def test_without_time_nothing_starts_but_some_trial_is_completed() -> None:
    trials = [trial(0, 0.9), trial(1, 0.5)]
    assert decide(trials, SETTINGS, equal, time_is_up=True) == Continue(trials[0], 1)
    done = [trial(0, 0.9, 0.9, 0.9, state="complete"), trial(1, 0.5)]
    assert decide(done, SETTINGS, equal, time_is_up=True) == Stop(done[1])
    assert decide([done[0]], SETTINGS, equal, time_is_up=True) == Finish()


def test_on_pure_noise_the_claims_are_rarer_than_five_percent_and_naive_ones_are_not() -> None:
    """A small version of the benchmark `tune_simulation.py`, whose page has the rates of 500 studies."""
    rng = np.random.default_rng(1)
    found = simulation.rates([simulation.study(simulation.World(trials=9), rng) for _ in range(60)])
    assert found["the best of all trials beats the recipe on validation"] > 0.5
    assert found["the study claims that the winner is better"] <= 0.05
    assert found["the best trial was dropped by racing"] <= 0.05
    assert found["cost, as a share of full trials"] < 0.4


def test_real_differences_are_found() -> None:
    rng = np.random.default_rng(2)
    world = simulation.World(trials=9, spread=0.08, rows=500)
    found = simulation.rates([simulation.study(world, rng) for _ in range(20)])
    assert found["the study claims that the winner is better"] >= 0.5
    assert found["regret, in points"] < 2
