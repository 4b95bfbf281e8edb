"""What a study does next: start a trial, continue one to its next rung, or end one.

The decision depends on the recorded trials alone, so that a study which was interrupted goes on as if it had not been.

Two rules decide. *Halving*: of the trials at a rung, the best third continues, as soon as it is known (asynchronous
successive halving, Li et al. 2020). *Racing*: from a third of its steps on, a trial is dropped for good when the paired
test on the rows of validation says that it is worse than the best at its rung. Halving saves time and claims nothing;
racing claims that a trial is worse, so its error is bounded, see `level`.

A study that is over can get more trials or hours. Then all trials are ranked together: one that was stopped continues
if it is among the best third now. One that was dropped does so, too, if its test is not significant at the level of the
larger number of trials; else more trials would raise the probability of a false drop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finetune_tune.trial import FACTOR, Settings, Trial

FALSE_DROPS = 0.05
"""The greatest probability with which a study drops its best trial because of the noise of the rows."""

RACED_FROM = 1 / 3
"""Share of the steps from which trials are raced.

Before, the test finds differences that the rest of the training turns round: on 400 rows of SST-2, the trial that won
answered no better than chance after a ninth of its steps, where another one was better with p = 2e-5.
"""

Compare = Callable[[Trial, Trial, int], float | None]
"""Function from two trials and a rung to the p-value of "the first is at least as good"; None if it is not known."""


@dataclass(frozen=True)
class Start:
    """Start a new trial."""

    number: int


@dataclass(frozen=True)
class Continue:
    """Continue a trial to a rung: one that is paused, or one that had ended before the study got more trials."""

    trial: Trial
    rung: int


@dataclass(frozen=True)
class Drop:
    """End a paused trial, because the paired test says that it is worse than another."""

    trial: Trial
    better: Trial
    probability: float


@dataclass(frozen=True)
class Stop:
    """End a paused trial, because others were continued."""

    trial: Trial


@dataclass(frozen=True)
class Wait:
    """Wait for a trial that another worker runs."""


@dataclass(frozen=True)
class Finish:
    """The search is over."""


Step = Start | Continue | Drop | Stop | Wait | Finish


def level(settings: Settings) -> float:
    """Return the level of each paired test.

    Let b be the best trial. It can be dropped only if one of the tests "is b worse than t at rung r" is wrong, and for
    each of the other trials and each rung there is one such test, whenever and however often it is made: the scores of
    a trial at a rung do not change. So the sum of their levels (Bonferroni) bounds the probability.
    """
    raced = [share for share in settings.shares if RACED_FROM <= share < 1]
    return FALSE_DROPS / (max(settings.trials - 1, 1) * max(len(raced), 1))


def decide(trials: Sequence[Trial], settings: Settings, compare: Compare, *, time_is_up: bool = False) -> Step:
    """Return what to do next.

    Args:
        trials: All trials, in the order of their numbers.
        settings: Those of the study.
        compare: The paired test.
        time_is_up: Whether the hours are used up: nothing is started then.
    """
    worse = _worse(trials, settings, compare)
    if worse is not None:
        return worse
    promoted = _promoted(trials, settings, compare, last=False)
    if promoted is not None and not time_is_up:
        return promoted
    if len(trials) < settings.trials and not time_is_up:
        return Start(len(trials))
    if any(trial.state == "running" for trial in trials):
        return Wait()
    if not time_is_up or not any(trial.state == "complete" for trial in trials):
        promoted = _promoted(trials, settings, compare, last=True)
        if promoted is not None:
            return promoted
    for trial in trials:
        if trial.state == "paused":
            return Stop(trial)
    return Finish()


def ranked(trials: Sequence[Trial], rung: int, settings: Settings) -> list[Trial]:
    """Return the trials that reached a rung and did not fail, the best first."""
    reached = [trial for trial in trials if trial.reached(rung) and trial.state != "failed"]
    return sorted(reached, key=lambda trial: (-settings.sign * trial.rungs[rung].score, trial.number))


def _worse(trials: Sequence[Trial], settings: Settings, compare: Compare) -> Drop | None:
    """Return a paused trial that is worse than the best at its rung by the paired test, if there is one."""
    for trial in trials:
        if trial.state == "paused" and (found := _raced(trial, trials, settings, compare)):
            return found
    return None


def _raced(trial: Trial, trials: Sequence[Trial], settings: Settings, compare: Compare) -> Drop | None:
    """Return that a trial is worse than the best at its rung, if the paired test says so."""
    rung = len(trial.rungs) - 1
    best = ranked(trials, rung, settings)[0]
    if settings.shares[rung] < RACED_FROM or best.number == trial.number:
        return None
    probability = compare(trial, best, rung)
    if probability is None or probability >= level(settings):
        return None
    return Drop(trial, best, probability)


def _can_continue(trial: Trial, trials: Sequence[Trial], settings: Settings, compare: Compare) -> bool:
    """Return whether a trial that was scored at a rung can go on to the next."""
    if trial.state == "paused":
        return True
    if trial.state == "dropped" and trial.worse_than is not None:
        probability = compare(trial, trials[trial.worse_than], len(trial.rungs) - 1)
        if probability is not None and probability < level(settings):
            return False
    elif trial.state != "stopped":
        return False
    return _raced(trial, trials, settings, compare) is None


def _promoted(trials: Sequence[Trial], settings: Settings, compare: Compare, *, last: bool) -> Continue | None:
    """Return the trial that continues next, from the highest rung that has one.

    Args:
        trials: All trials.
        settings: Those of the study.
        compare: The paired test.
        last: Whether nothing else is left to do. Then a part of a third counts as one, so that some trial ends.
    """
    for rung in reversed(range(len(settings.shares) - 1)):
        found = ranked(trials, rung, settings)
        share = len(found) / FACTOR
        quota = math.ceil(share) if last else math.floor(share)
        for trial in found[:quota]:
            if len(trial.rungs) == rung + 1 and _can_continue(trial, trials, settings, compare):
                return Continue(trial, rung + 1)
    return None
