"""The evaluations of a trial: its records of validation, row by row, kept for paired tests.

They lie in the study folder, not in the run folder of the trial. An evaluation is written before the checkpoint of the
same step, so that a trial which is continued from a checkpoint has all evaluations up to it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.errors import BadData
from finetune.interfaces import Evaluator, Job, Record
from finetune.kit import (
    RecordsCallback,
    find_non_finite,
    paired_difference,
    restore_non_finite,
    to_json,
    units_of_examples,
    write_atomically,
)
from finetune_tune.trial import Settings, Trial


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation of a trial on validation."""

    step: int
    score: float
    """The primary score; NaN if it is not defined."""
    steps: int
    """All steps of the trial."""
    rows: str
    """Digest of the rows of validation."""
    records: list[Record] | None
    """One record for each row; None unless it was the best evaluation so far."""
    units: list[int] | None
    """The independent unit of each row, numbered from 0; None if each row is independent."""


class WriteEvaluations(RecordsCallback):
    """Writes each evaluation of validation to a folder, as the number of its step."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.directory = directory
        self.settings = settings
        self._records: Sequence[Record] = ()
        self._units: Any = None
        self._rows = ""

    def on_records(self, job: Job, records: Sequence[Record]) -> None:
        """Keep the records until their scores are known."""
        self._records = records
        if not self._rows:
            self._rows = digest_of(job.validation_examples)
            self._units = units_of_examples(job.preprocessor, job.validation_examples)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        """Write the evaluation, with its records if it is the best so far."""
        if not state.is_world_process_zero:
            return
        score = float((metrics or {}).get(f"eval_{self.settings.primary}", math.nan))
        earlier = [each for each in read_all(self.directory) if each.step < state.global_step]
        best = best_of(earlier, self.settings)
        is_best = best is None or self.settings.sign * score > self.settings.sign * best.score
        content = {
            "step": state.global_step,
            "score": score,
            "steps": state.max_steps,
            "rows": self._rows,
            "records": list(self._records) if is_best and math.isfinite(score) else None,
            "units": None if self._units is None else [int(unit) for unit in self._units],
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        text = to_json({**content, "non_finite": find_non_finite(content)})
        write_atomically(self.directory / f"{state.global_step:09d}.json", text + "\n")


def digest_of(examples: Any) -> str:
    """Return a digest of the content of rows."""
    found = hashlib.sha256()
    for example in examples:
        found.update(to_json(example, default=str).encode())
    return found.hexdigest()


def read_all(directory: Path, *, until: int | None = None) -> list[Evaluation]:
    """Return the evaluations of a trial in the order of their steps.

    Args:
        directory: Where they are; it need not exist.
        until: The last step; None for all.

    Raises:
        BadData: A file is damaged.
    """
    found = []
    for path in sorted(directory.glob("*.json")):
        if until is not None and int(path.stem) > until:
            break
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            restore_non_finite(content, content.pop("non_finite"))
            found.append(Evaluation(**content))
        except (ValueError, LookupError, TypeError) as error:
            raise BadData(f"{path} is damaged: {error}. Restore the file as the study wrote it.") from error
    return found


def best_of(evaluations: Sequence[Evaluation], settings: Settings) -> Evaluation | None:
    """Return the best evaluation, the first of equal ones, as the trainer chooses; None if no score is finite."""
    finite = [each for each in evaluations if math.isfinite(each.score)]
    return max(finite, key=lambda each: (settings.sign * each.score, -each.step)) if finite else None


class Races:
    """The paired tests of a study; each is made once."""

    def __init__(self, directory: Path, evaluator: Evaluator, settings: Settings) -> None:
        self.directory = directory
        self.evaluator = evaluator
        self.settings = settings
        self._known: dict[tuple[int, int, int], float | None] = {}

    def best(self, trial: Trial, rung: int) -> Evaluation | None:
        """Return the best evaluation of a trial up to a rung, with its records."""
        return best_of(read_all(self.directory / trial.name, until=trial.rungs[rung].step), self.settings)

    def compare(self, trial: Trial, other: Trial, rung: int) -> float | None:
        """Return the p-value of the hypothesis that a trial is at least as good as another at a rung."""
        key = (trial.number, other.number, rung)
        if key not in self._known:
            self._known[key] = self._compare(trial, other, rung)
        return self._known[key]

    def _compare(self, trial: Trial, other: Trial, rung: int) -> float | None:
        ours, theirs = self.best(trial, rung), self.best(other, rung)
        if ours is None or theirs is None or ours.records is None or theirs.records is None:
            return None
        first, second = (ours.records, theirs.records)
        if not self.settings.greater_is_better:
            first, second = second, first  # a greater score is worse
        found = paired_difference(self.evaluator, [first], [second], units=ours.units, seed=self.settings.seed)
        return None if found is None else found.probability_of_less
