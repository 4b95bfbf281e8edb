"""What is known of a trial, without Optuna: its values, the rungs that it reached, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

State = Literal["running", "paused", "complete", "dropped", "stopped", "incompatible", "failed"]
"""``running`` and ``paused`` trials can continue. The others have ended: ``dropped`` by the paired test, ``stopped``
because better ones were continued, ``incompatible`` before the first step, ``failed`` by an error. If the study gets
more trials or hours, ``stopped`` and ``dropped`` trials can continue, too; see `finetune_tune.schedule`."""

ENDED = ("complete", "dropped", "stopped", "incompatible", "failed")

SHARES = (1 / 9, 1 / 3, 1.0)
"""The rungs: shares of a trial's steps after which it is compared. Each is three times the one before.

Source: Li et al. 2018, "Hyperband", section 3.6: a factor of 3 or 4.
"""
FACTOR = 3
"""One of this many trials at a rung continues to the next."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """What a trial had reached at a rung."""

    step: int
    """Steps that were made."""
    score: float
    """The best score of validation up to here."""
    best_step: int
    """The step of the evaluation with that score."""
    seconds: float
    """Time since the rung before."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One set of values, and what became of it."""

    number: int
    chosen: Mapping[str, Any]
    """Searched key → label of its value, or number; only keys that apply."""
    state: State
    target: int = 0
    """The rung to which it runs, from 0."""
    rungs: tuple[Rung, ...] = ()
    reason: str = ""
    """Why it ended, or why it is not compared."""
    worse_than: int | None = None
    """For a dropped trial, the number of the trial than which the paired test says that it is worse."""
    repeated: int = 0
    """Steps that were made again, because the trial had ended without a checkpoint when the study was continued."""

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.number:04d}"

    @property
    def score(self) -> float | None:
        """The score of its last rung; None without one."""
        return self.rungs[-1].score if self.rungs else None

    def reached(self, rung: int) -> bool:
        """Return whether the trial was scored at a rung."""
        return len(self.rungs) > rung


def as_mapping(trial: Trial) -> dict[str, Any]:
    """Return a trial as plain values, as the storage holds it."""
    return {**asdict(trial), "rungs": [asdict(rung) for rung in trial.rungs]}


def from_mapping(content: Mapping[str, Any]) -> Trial:
    """Return the trial that `as_mapping` wrote."""
    rungs = tuple(Rung(**rung) for rung in content["rungs"])
    return replace(Trial(**{**content, "rungs": ()}), rungs=rungs)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a study does."""

    trials: int
    """How many trials it has in all."""
    seed: int
    """Seed of the values that are drawn; that of the recipe."""
    greater_is_better: bool
    primary: str
    """The score that is searched for."""
    hours: float | None = None
    """How many hours the trials of all calls may take together."""
    seeds: int = 3
    """With how many new seeds the winner and the recipe are trained at the end."""
    shares: tuple[float, ...] = field(default=SHARES)

    @property
    def sign(self) -> float:
        """1 if a greater score is better, else -1."""
        return 1.0 if self.greater_is_better else -1.0
