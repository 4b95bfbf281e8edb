"""How often the interval of "doubling the labels is worth …" holds the true gain: simulated curves with known gains.

    python tests/benchmarks/learning_curve_coverage.py --curves 400

Each simulated row has a difficulty that all runs share, so that scores of different sizes go up and down together, and
each run has a deviation of its own, which stands for its seed and its subset. The truth is a power law, or a line in
``log n``; `--kind` names others that the fit does not know.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from finetune_tune.extrapolation import extrapolate

SIZES = (100, 200, 400, 800)
SEEDS = 3
ALIKE = 0.8
"""Correlation of two runs on the same row."""


@dataclass(frozen=True)
class World:
    """A true curve, and how it is observed."""

    kind: str
    exponent: float
    start: float
    """Score at the smallest size."""
    rise: float
    """Score at the largest size − that at the smallest."""
    rows: int
    """Scored rows."""
    noise: float
    """Standard deviation of the score between seeds, at the smallest size; it halves with each doubling of 4×."""

    def score(self, size: float) -> float:
        """Return the true score of a number of rows."""
        ratio, whole = size / SIZES[0], SIZES[-1] / SIZES[0]
        if self.kind == "flat":
            return self.start
        if self.kind == "sigmoid":
            middle, width = np.log2(SIZES[2] / SIZES[0]), 0.7
            up = 1 / (1 + np.exp(-(np.log2(ratio) - middle) / width))
            return float(self.start + self.rise * up)
        if self.exponent < 1e-9:
            return float(self.start + self.rise * np.log(ratio) / np.log(whole))
        return float(self.start + self.rise * (1 - ratio**-self.exponent) / (1 - whole**-self.exponent))

    @property
    def gain(self) -> float:
        """Return the true gain of twice the rows."""
        return self.score(2 * SIZES[-1]) - self.score(SIZES[-1])


def worlds(kind: str, count: int, *, seed: int) -> Iterator[World]:
    """Yield random worlds of a kind."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        exponent = {"line": 0.0}.get(kind, float(random.uniform(0.1, 1.2)))
        yield World(
            kind=kind,
            exponent=exponent,
            start=float(random.uniform(0.55, 0.75)),
            rise=float(random.uniform(0.03, 0.2)),
            rows=int(random.choice([200, 500, 872])),
            noise=float(random.uniform(0.003, 0.03)),
        )


def observed(world: World, random: Any, *, resamples: int = 400) -> tuple[Any, Any]:
    """Return the scores of each size and seed, and the resampled means of each size."""
    shared = random.standard_normal(world.rows)
    right = np.empty((len(SIZES), SEEDS, world.rows))
    for place, size in enumerate(SIZES):
        deviation = world.noise * (SIZES[0] / size) ** 0.5
        for seed in range(SEEDS):
            score = float(np.clip(world.score(size) + deviation * random.standard_normal(), 0.01, 0.99))
            own = random.standard_normal(world.rows)
            ability = np.sqrt(ALIKE) * shared + np.sqrt(1 - ALIKE) * own
            right[place, seed] = ability < ndtri(score)
    of_rows = right.mean(axis=1)
    weights = random.multinomial(world.rows, np.full(world.rows, 1 / world.rows), size=resamples) / world.rows
    return right.mean(axis=2), weights @ of_rows.T


def coverage(kind: str, count: int, *, seed: int = 0) -> dict[str, float]:
    """Return how often the interval holds the true gain, how wide it is, and how often nothing is said."""
    random = np.random.default_rng(seed + 1)
    held, widths, errors, silent, missed_low = [], [], [], 0, 0
    for number, world in enumerate(worlds(kind, count, seed=seed)):
        found = extrapolate(SIZES, *observed(world, random), seed=number)
        if found.gain is None:
            silent += 1
            continue
        held.append(found.gain.low <= world.gain <= found.gain.high)
        missed_low += found.gain.high < world.gain
        widths.append(found.gain.high - found.gain.low)
        errors.append(found.gain.value - world.gain)
    return {
        "curves": count,
        "held": float(np.mean(held)) if held else float("nan"),
        "gain above the interval": missed_low / max(len(held), 1),
        "mean width": float(np.mean(widths)) if widths else float("nan"),
        "mean error": float(np.mean(errors)) if errors else float("nan"),
        "nothing said": silent / count,
    }


def main() -> None:
    """Print the coverage of each kind of curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", nargs="*", default=["power law", "line", "flat", "sigmoid"])
    given = parser.parse_args()
    for kind in given.kind:
        print(json.dumps({"kind": kind, **coverage(kind, given.curves, seed=given.seed)}))


if __name__ == "__main__":
    main()
