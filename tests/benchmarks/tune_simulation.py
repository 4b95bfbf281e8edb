"""Simulate studies without models: how often the best trial is dropped, and how often a claim is false.

Each trial has a true accuracy at each rung. Its answers on the rows of validation and test are drawn, with rows that
are hard for all trials, so that the trials are correlated as real ones are. The code that decides is that of
`finetune tune`: `schedule.decide`, the paired test of `evaluations.Races`, and the interval of `finetune compare`,
which the conclusion repeats.

    python tests/benchmarks/tune_simulation.py --studies 1000
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finetune.evaluation import evidence, sides
from finetune.evaluation.bootstrap import ratios
from finetune.interfaces import Evaluator, Tallies
from finetune_tune import schedule
from finetune_tune.trial import FACTOR, SHARES, Rung, Settings, Trial

GROWTH = (0.75, 0.9, 1.0)
"""How much of its final gain over chance a trial has at each rung."""
HARDNESS = 1.0
"""Standard deviation of the rows on the scale of probits: how much the answers of trials agree."""


class Accuracy(Evaluator):
    """The share of records that are 1."""

    primary = "accuracy"

    def records(self, predictions: Any) -> Any:
        """Return nothing: the answers are drawn."""
        raise NotImplementedError

    def scores(self, records: Any) -> dict[str, float]:
        """Return the mean."""
        return {"accuracy": float(np.mean(records))}

    def tallies(self, records: Any) -> Tallies:
        """Return sums, for the resamples."""
        return ratios({"accuracy": (records, np.ones(len(records)))}, most={"accuracy": 1.0})


@dataclass(frozen=True, kw_only=True)
class World:
    """What is simulated."""

    trials: int = 27
    rows: int = 200
    """Rows of validation."""
    test_rows: int = 400
    seeds: int = 3
    spread: float = 0.0
    """Standard deviation of the true accuracies of the trials; 0 for pure noise."""
    seed_noise: float = 0.01
    """Standard deviation of the true accuracy of a trial that is trained with another seed."""
    accuracy: float = 0.85


@dataclass
class Found:
    """What became of one study."""

    best_dropped: bool
    """Whether racing dropped the best trial for good: the one whose run has the greatest true accuracy."""
    best_stopped: bool
    """Whether halving did not continue it, which claims nothing."""
    naive_claim: bool
    """Whether the winner looks better than the recipe as it is written on validation."""
    claim: bool
    """Whether the study claims that it is better."""
    is_better: bool
    """Whether it is."""
    regret: float
    """Difference between the true accuracies of the best trial and of the winner."""
    cost: float
    """Steps that were made, as a share of those without pauses."""


def answers(accuracy: float, hardness: Any, rng: np.random.Generator) -> Any:
    """Draw for each row whether a model of an accuracy answers it right.

    The probit of a right answer is a constant minus the hardness of the row, so that rows which are hard for one trial
    are hard for another.
    """
    from scipy.stats import norm

    constant = norm.ppf(min(max(accuracy, 1e-3), 1 - 1e-3)) * np.sqrt(1 + HARDNESS**2)
    return (rng.random(len(hardness)) < norm.cdf(constant - HARDNESS * hardness)).astype(float)


def study(world: World, rng: np.random.Generator) -> Found:
    """Simulate one study."""
    settings = Settings(trials=world.trials, seed=0, greater_is_better=True, primary="accuracy", seeds=world.seeds)
    final = world.accuracy + world.spread * rng.standard_normal(world.trials)
    final = np.clip(final, 0.55, 0.99)
    hardness = rng.standard_normal(world.rows)
    chance = 0.5
    runs = final + world.seed_noise * rng.standard_normal(world.trials)  # what the seed of the trials makes of them
    records: dict[tuple[int, int], Any] = {}
    for trial, rung in itertools.product(range(world.trials), range(len(GROWTH))):
        records[trial, rung] = answers(chance + GROWTH[rung] * (runs[trial] - chance), hardness, rng)
    trials, cost = searched(settings, records)
    best = int(np.argmax(runs))
    complete = [each for each in trials if each.state == "complete"]
    winner = max(complete, key=lambda each: (each.rungs[-1].score, -each.number))
    naive = max(float(records[number, 2].mean()) for number in range(world.trials)) > records[0, 2].mean()
    return Found(
        best_dropped=trials[best].state == "dropped",
        best_stopped=trials[best].state == "stopped",
        naive_claim=bool(naive),
        claim=claims(world, final[winner.number], final[0], rng),
        is_better=bool(final[winner.number] > final[0]),
        regret=float(final[best] - final[winner.number]),
        cost=cost,
    )


def searched(settings: Settings, records: dict[tuple[int, int], Any]) -> tuple[list[Trial], float]:
    """Return the trials after a search, and its cost as a share of that of trials without pauses."""
    evaluator, known = Accuracy(), {}

    def compare(trial: Trial, other: Trial, rung: int) -> float | None:
        key = (trial.number, other.number, rung)
        if key not in known:
            found = sides.difference(evaluator, [records[trial.number, rung]], [records[other.number, rung]])
            known[key] = None if found is None else found.probability_of_less
        return known[key]

    trials: list[Trial] = []
    while True:
        step = schedule.decide(trials, settings, compare)
        if isinstance(step, schedule.Finish):
            break
        if isinstance(step, schedule.Start):
            trials.append(advanced(Trial(number=step.number, chosen={}, state="running"), 0, records))
        elif isinstance(step, schedule.Continue):
            trials[step.trial.number] = advanced(step.trial, step.rung, records)
        elif isinstance(step, schedule.Drop):
            trials[step.trial.number] = replace(step.trial, state="dropped")
        elif isinstance(step, schedule.Stop):
            trials[step.trial.number] = replace(step.trial, state="stopped")
    return trials, sum(SHARES[len(each.rungs) - 1] for each in trials) / len(trials)


def advanced(trial: Trial, rung: int, records: dict[tuple[int, int], Any]) -> Trial:
    """Return a trial that has reached a rung."""
    reached = Rung(step=FACTOR**rung, score=float(records[trial.number, rung].mean()), best_step=1, seconds=0.0)
    state = "complete" if rung == len(SHARES) - 1 else "paused"
    return replace(trial, state=state, rungs=(*trial.rungs, reached))


def claims(world: World, winner: float, written: float, rng: np.random.Generator) -> bool:
    """Return whether the conclusion says that the winner is better than the recipe as it is written."""
    hardness, runs = rng.standard_normal(world.test_rows), []
    for accuracy in (winner, written):
        noise = world.seed_noise * rng.standard_normal(world.seeds)
        runs.append([answers(accuracy + each, hardness, rng) for each in noise])
    if world.seeds == 1:
        single = evidence.compare(Accuracy(), runs[0][0], runs[1][0]).get("accuracy")
        return single is not None and single["low"] > 0
    found = sides.difference(Accuracy(), runs[0], runs[1])
    return found is not None and found.both.low > 0


def rates(found: Sequence[Found]) -> dict[str, float]:
    """Return what happened, as shares of the studies."""
    return {
        "the best trial was dropped by racing": float(np.mean([each.best_dropped for each in found])),
        "the best trial was not continued by halving": float(np.mean([each.best_stopped for each in found])),
        "the best of all trials beats the recipe on validation": float(np.mean([each.naive_claim for each in found])),
        "the study claims that the winner is better": float(np.mean([each.claim for each in found])),
        "the claim is false": float(np.mean([each.claim and not each.is_better for each in found])),
        "cost, as a share of full trials": float(np.mean([each.cost for each in found])),
        "regret, in points": 100 * float(np.mean([each.regret for each in found])),
    }


WORLDS = {
    "pure noise": World(),
    "pure noise, 50 rows": World(rows=50),
    "pure noise, seeds do not matter": World(seeds=1, seed_noise=0.0),
    "small differences": World(spread=0.01),
    "large differences": World(spread=0.05),
    "large differences, 1,000 rows": World(spread=0.05, rows=1000),
}


def main() -> None:
    """Print the rates of each world."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name, world in WORLDS.items():
        rng = np.random.default_rng(given.seed)
        found = rates([study(world, rng) for _ in range(given.studies)])
        print(f"\n{name}: {given.studies} studies of {world.trials} trials on {world.rows} rows")
        for what, rate in found.items():
            print(f"  {rate:7.3f}  {what}")


if __name__ == "__main__":
    main()
