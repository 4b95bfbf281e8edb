"""The rubric of the final project: what a run that can be trusted has, read from its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from finetune.errors import listed
from finetune.kit import Result, verdicts

PASSED = 0.8
"""The share of the points with which a project is passed."""
CARD_FIELDS = ("license", "language", "base_model")
MOST_LEAKED = 0.01
"""The greatest share of held-out rows that may also be in train."""


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One line of the rubric."""

    name: str
    points: int
    of: int
    why: str
    """What was found, and how to do better."""


def grade(result: Result, directory: Path) -> list[Criterion]:
    """Return the rubric, filled in for a run.

    Args:
        result: That of the run.
        directory: The run folder.
    """
    return [*_judged(result), *_described(directory)]


def _judged(result: Result) -> Iterator[Criterion]:
    """Yield what the scores and the data of a run are judged by."""
    split = verdicts.report_split(result)
    yield Criterion(
        name="held-out rows",
        points=2 if split == "test" else 1 if split else 0,
        of=2,
        why={"test": "scored on a test split", None: "nothing is held out: add a test split"}.get(
            split, "scored on validation, which also selects: add a test split"
        ),
    )
    yield Criterion(
        name="test split not used to select",
        points=2 if split == "test" and result.selection_split != "test" else 0,
        of=2,
        why="there is no test split"
        if split != "test"
        else "test selected a checkpoint or a threshold, so its scores are too good"
        if result.selection_split == "test"
        else "nothing was selected on test",
    )
    bounds = result.intervals.get(split or "", {}).get(result.primary)
    yield Criterion(
        name="an interval",
        points=1 if bounds else 0,
        of=1,
        why=f"{result.primary}: {bounds['low']:.3g} to {bounds['high']:.3g}" if bounds else "the score has none",
    )
    yield _beats_baselines(result, split)
    yield _leakage(result, split)
    overfitted = [sentence for sentence in verdicts.fit(result) if sentence.startswith("Overfitted")]
    yield Criterion(
        name="no overfitting",
        points=0 if overfitted else 2,
        of=2,
        why=overfitted[0] if overfitted else "the curves and scores show none",
    )
    reason = result.forgetting.get("not_measured")
    was_refused = result.recipe.get("general_text") == "none"  # else the base has no head to measure with
    yield Criterion(
        name="forgetting",
        points=0 if reason else 1,
        of=1 if was_refused or not reason else 0,
        why=f"{reason}: leave general_text at its default" if was_refused else str(reason or "measured"),
    )


def _beats_baselines(result: Result, split: str | None) -> Criterion:
    """Return whether the model is better than each predictor that needs no training, by more than chance."""
    sign = 1 if result.greater_is_better else -1
    others: Mapping[str, Any] = verdicts.others(result, split) if split else {}
    differences = result.differences.get(split or "", {})
    beaten: list[str] = []
    not_beaten: list[str] = []
    for other in others:
        found = differences.get(other, {}).get(result.primary)
        is_better = found is not None and min(sign * found["low"], sign * found["high"]) > 0
        (beaten if is_better else not_beaten).append(other)
    if not others:
        return Criterion(name="better than a baseline", points=0, of=4, why="there is none to compare with")
    points = 4 if not not_beaten else 2 if beaten else 0
    named = [f"better than {listed(beaten)}"] if beaten else []
    if not_beaten:
        named.append(f"not shown to be better than {listed(not_beaten)}")
    why = "; ".join(named)
    return Criterion(name="better than a baseline", points=points, of=4, why=why)


def _leakage(result: Result, split: str | None) -> Criterion:
    found = result.leakage.get(split or "")
    if not found:
        return Criterion(name="leakage", points=0, of=2, why="no held-out rows were compared with train")
    leaked = max(found.get(kind) or 0 for kind in ("exact", "normalized", "near"))
    share = leaked / max(found["rows"], 1)
    why = f"{leaked:,} of {found['rows']:,} held-out rows are also in train"
    return Criterion(
        name="leakage",
        points=2 if share <= MOST_LEAKED else 0,
        of=2,
        why=why if share <= MOST_LEAKED else f"{why}: remove them, and train again",
    )


def _described(directory: Path) -> Iterator[Criterion]:
    """Yield what the card of a run is judged by."""
    card = directory / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    front = _front_matter(text)
    missing = [name for name in CARD_FIELDS if not front.get(name)]
    yield Criterion(
        name="card: licence, language, base model",
        points=len(CARD_FIELDS) - len(missing),
        of=len(CARD_FIELDS),
        why=f"missing: {', '.join(missing)}. Say them: finetune card RUN {missing[0]}=…" if missing else "stated",
    )
    says_use = bool(text) and "The author has not stated the intended use" not in text
    yield Criterion(
        name="card: intended use",
        points=1 if says_use else 0,
        of=1,
        why="stated" if says_use else 'say it: finetune card RUN intended_use="…"',
    )
    has_recipe = (directory / "recipe.yaml").is_file()
    yield Criterion(
        name="recipe",
        points=1 if has_recipe else 0,
        of=1,
        why="recipe.yaml repeats the run" if has_recipe else "recipe.yaml is gone, so the run cannot be repeated",
    )


def _front_matter(text: str) -> Mapping[str, Any]:
    """Return the lines for machines at the head of a card; none if they cannot be read."""
    parts = text.split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        found = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}
