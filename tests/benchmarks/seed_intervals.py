"""How often the intervals of `finetune.evaluation.crossed` hold the true value: a simulation.

Models of several seeds answer the same rows. A row has a difficulty, a seed a quality, and each pair an effect of its
own; all are normal, and an answer is right if their sum is positive. So the true accuracy of a model with a new seed on
new rows is known. For each setting, the share of the intervals that hold it is printed, beside what other methods give:
the rows alone (the models are fixed), the seeds alone, and the bootstrap that draws rows and seeds (Owen 2007, "The
pigeonhole bootstrap", Annals of Applied Statistics 1(2)).

    python tests/benchmarks/seed_intervals.py [--trials 1000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from finetune.evaluation import bootstrap, crossed

SEEDS = (2, 3, 5)
ROWS = (50, 300, 900)
SPREADS = (0.0, 0.005, 0.02, 0.05)
"""True standard deviations of the accuracy between seeds."""
ACCURACIES = (0.65, 0.85, 0.97)
SHARE = 0.6
"""Share of the variance of an answer that its row explains: models of two seeds agree on about 80 % of the rows."""
METHODS = ("both", "rows", "seeds", "pigeonhole")


@dataclass(frozen=True)
class Setting:
    """A true accuracy, a number of rows and of seeds, and the true standard deviation between seeds."""

    accuracy: float
    rows: int
    seeds: int
    spread: float


def answers(setting: Setting, random: np.random.Generator) -> tuple[Any, float]:
    """Return which answers are right (rows, seeds), and the true accuracy over all rows and seeds."""
    start = stats.norm.ppf(setting.accuracy)
    of_seed = setting.spread / stats.norm.pdf(start)
    row = random.normal(size=(setting.rows, 1)) * SHARE**0.5
    own = random.normal(size=(setting.rows, setting.seeds)) * (1 - SHARE) ** 0.5
    quality = random.normal(size=(1, setting.seeds)) * of_seed
    truth = float(stats.norm.cdf(start / (1 + of_seed**2) ** 0.5))
    return (start + row + own + quality > 0).astype(float), truth


def found(right: Any, *, seed: int) -> crossed.Crossed:
    """Return the mean over the seeds with its intervals."""
    tallies = []
    for column in right.T:
        tallies.append(bootstrap.ratios({"accuracy": (column, np.ones(len(column)))}, most={"accuracy": 1.0}))
    combined = crossed.combine(crossed.sampled(tallies, seed=seed)["accuracy"])
    assert combined is not None
    return combined


def pigeonhole(right: Any, random: np.random.Generator) -> tuple[float, float]:
    """Return the percentile interval of a bootstrap that draws rows and seeds."""
    rows, seeds = right.shape
    drawn = random.multinomial(rows, np.full(rows, 1 / rows), size=500) / rows
    models = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=500) / seeds
    low, high = np.quantile(np.einsum("br,rs,bs->b", drawn, right, models, optimize=True), [0.025, 0.975])
    return float(low), float(high)


def coverage(setting: Setting, *, trials: int, seed: int = 0, methods: tuple[str, ...] = METHODS) -> dict[str, float]:
    """Return, for each method, the share of intervals that hold the true accuracy; and the mean width of ours."""
    random = np.random.default_rng(seed)
    held = dict.fromkeys(methods, 0)
    width = 0.0
    for trial in range(trials):
        right, truth = answers(setting, random)
        one = found(right, seed=trial)
        assert one.seeds is not None
        ends = {"both": one.both, "rows": one.rows, "seeds": one.seeds}
        for method in methods:
            low, high = pigeonhole(right, random) if method == "pigeonhole" else (ends[method].low, ends[method].high)
            held[method] += low <= truth <= high
        width += one.both.high - one.both.low
    return {**{method: count / trials for method, count in held.items()}, "width": width / trials}


def settings() -> Iterator[Setting]:
    """Yield every setting whose spread leaves room below an accuracy of 1."""
    for accuracy in ACCURACIES:
        for rows in ROWS:
            for spread in SPREADS:
                if spread <= (1 - accuracy) / 2:
                    yield from (Setting(accuracy, rows, seeds, spread) for seeds in SEEDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    lines = []
    print("accuracy  rows  seeds  spread", *(f"{name:>10}" for name in (*METHODS, "width")))
    for setting in settings():
        shares = coverage(setting, trials=asked.trials)
        numbers = "  ".join(f"{shares[name]:9.3f}" for name in (*METHODS, "width"))
        print(f"{setting.accuracy:8}  {setting.rows:4}  {setting.seeds:5}  {setting.spread:6}  {numbers}", flush=True)
        lines.append({**asdict(setting), **shares})
    if asked.json:
        asked.json.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
