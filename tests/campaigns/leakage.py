"""Plant duplicates of training rows in held-out splits, and count which are found.

``python tests/campaigns/leakage.py`` measures the line "leakage": 1,000 duplicates of 20,000 rows of train. A third is
exact, a third differs in case, punctuation and space, and in a third one word of the text is another one. A fourth
split has only texts of its own, with the same words: each one found there is a false alarm.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from datasets import Dataset
from scorecard import Line, record

from finetune.data import leakage
from finetune.interfaces import Batch, Columns, Preprocessor

LETTERS = "aabcdeeefghiiklmnnooprrsttuvw"


@dataclass
class Figures:
    """What the splits showed: kind → rows."""

    seed: int
    rows: int
    planted: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    """Rows found as what they are."""
    fresh: int = 0
    """Held-out rows that are not in train."""
    false_alarms: int = 0

    @property
    def is_met(self) -> bool:
        """Return whether all exact and normalized ones, and 95 of 100 near ones, are found, almost without alarms."""
        whole = all(self.found[kind] == self.planted[kind] for kind in ("exact", "normalized"))
        return whole and self.found["near"] >= 0.95 * self.planted["near"] and self.false_alarms < 0.001 * self.fresh


class ByText(Preprocessor):
    """A task that reads a text."""

    def needs(self) -> Columns:
        """Return its column."""
        return Columns(required=("text",))

    def features(self, examples: Batch, tokenizer: object) -> Batch:
        """Make nothing."""
        raise NotImplementedError


def texts(draw: random.Random, count: int, words: list[str]) -> list[str]:
    """Return texts of 15 to 80 words; a few words are frequent, as in a language."""
    found = []
    for _ in range(count):
        ranks = [int(len(words) * draw.random() ** 3) for _ in range(draw.randint(15, 80))]
        found.append(" ".join(words[rank] for rank in ranks) + ".")
    return found


def normalized(text: str, draw: random.Random) -> str:
    """Return a text with other case, punctuation and space."""
    return text.upper().replace(" ", draw.choice(["  ", ", ", "\n"]), 2).rstrip(".") + " !"


def near(text: str, draw: random.Random) -> str:
    """Return a text with one other word."""
    parts = text.split()
    parts[draw.randrange(len(parts))] = "".join(draw.choices(LETTERS, k=5))
    return " ".join(parts)


def measure(*, rows: int, planted: int, seed: int, find: Callable[..., dict[str, dict[str, int]]] = leakage) -> Figures:
    """Plant duplicates, and count which are found.

    Args:
        rows: Rows of train.
        planted: Duplicates.
        seed: Seed of everything.
        find: What is measured.
    """
    draw, figures = random.Random(seed), Figures(seed, rows)
    words = ["".join(draw.choices(LETTERS, k=draw.randint(2, 9))) for _ in range(4000)]
    train = texts(draw, rows, words)
    chosen = draw.sample(train, planted)
    splits = {"exact": [], "normalized": [], "near": []}
    for number, text in enumerate(chosen):
        kind = list(splits)[number % 3]
        changed = {"exact": text, "normalized": normalized(text, draw), "near": near(text, draw)}
        splits[kind].append(changed[kind])
    splits["fresh"] = texts(draw, max(rows // 4, 1000), words)
    parts = {name: Dataset.from_dict({"text": column}) for name, column in {"train": train, **splits}.items()}
    found = find(parts, ByText())
    for kind in ("exact", "normalized", "near"):
        figures.planted[kind], figures.found[kind] = len(splits[kind]), found[kind][kind]
    figures.fresh = len(splits["fresh"])
    figures.false_alarms = sum(found["fresh"][kind] for kind in ("exact", "normalized", "near"))
    return figures


def main() -> None:
    """Measure the line, and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--planted", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    options, started = parser.parse_args(), time.monotonic()
    found = measure(rows=options.rows, planted=options.planted, seed=options.seed)
    print(found)
    shares = ", ".join(f"{found.found[kind]} of {found.planted[kind]} {kind}" for kind in found.planted)
    record(
        Line(
            name="leakage",
            goal="all exact and normalized duplicates found, 95% of the near ones, fewer than 0.1% false alarms",
            stock="not searched for",
            ours=f"{shares} duplicates found in {found.rows:,} rows; {found.false_alarms} false alarms in "
            f"{found.fresh:,} rows",
            met=found.is_met,
            not_covered="Texts that say the same in other words.",
        ),
        started=started,
    )


if __name__ == "__main__":
    main()
