"""The scores of a finished run on some rows, with all that is needed to read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from finetune.evaluation import bootstrap, verdicts
from finetune.evaluation.evidence import intervals_of
from finetune.interfaces import Evaluator, Record
from finetune.result import to_json, write_atomically

FILE = "evaluation.json"
"""The name of the file in a folder of predictions."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What `finetune evaluate` prints and writes."""

    run: str
    """The run folder."""
    data: str | None
    """The data that were scored; None for those of the run."""
    split: str | None
    """The split that was scored; None if the data have no others."""
    rows: int
    """Number of rows that were scored."""
    dropped: int
    """Number of bad rows that were left out."""
    primary: str
    """Name of the score that represents the others."""
    greater_is_better: bool
    scores: Mapping[str, float]
    """Score → number."""
    intervals: Mapping[str, Mapping[str, float]]
    """Score → ``low`` and ``high`` of its 95% interval."""
    units: Mapping[str, Any]
    """Number (``size``) of independent units, and the ``column`` whose equal values form one; None for rows."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What is not a single number, such as a confusion matrix."""
    answered: Mapping[str, Any] | None = None
    """The rows that are answered if unsure predictions are withheld; see `Answering.measure`."""
    sets: Mapping[str, Any] | None = None
    """How often sets of labels hold the right one; see `Answering.measure`."""
    files: int | None = None
    """Number of files with predictions; None if none were written."""
    reused: int = 0
    """How many of them an earlier call had written."""
    output: str | None = None
    """Where the predictions are."""

    def write(self, path: Path) -> None:
        """Write a JSON file."""
        write_atomically(path, to_json(asdict(self), indent=1, default=str))

    @property
    def where(self) -> str:
        """What was scored, in words."""
        return " of ".join(name for name in (self.split, self.data) if name is not None)

    def sentence(self) -> str:
        """Return the primary score, its interval and the number of rows as a sentence."""
        rows = f"{self.rows:,} row{'' if self.rows == 1 else 's'} of {self.where}"
        name = self.primary[:1].upper() + self.primary[1:]
        if self.primary not in self.scores:
            return f"{name} cannot be computed on {rows}."
        bounds = self.intervals.get(self.primary)
        interval = ""
        if bounds is not None:
            low, high = (verdicts.format_score(bounds[end]) for end in ("low", "high"))
            interval = f" (95% interval {low} to {high})"
        return f"{name} {verdicts.format_score(self.scores[self.primary])}{interval} on {rows}."

    def answers(self) -> list[str]:
        """Return a sentence about the rows that are answered, and one about sets of labels, if they were asked for."""
        sentences = []
        if self.answered is not None:
            found = self.answered
            score = f"no {self.primary} of them can be computed"
            if found["score"] is not None:
                score = f"{self.primary} {_with_interval(found['score'])} on them"
            sentences.append(
                f"Answered: {found['rows']:,} of {self.rows:,} rows, a share of {_with_interval(found['coverage'])}, "
                f"with a probability of at least {found['abstain_below']:g}; {score}."
            )
        if self.sets is not None:
            found = self.sets
            empty = f"; {100 * found['empty']:.1f}% of the sets are empty" if found["empty"] else ""
            sentences.append(
                f"Sets: the right label is in a share of {_with_interval(found['measured'])}; at least "
                f"{found['coverage']:g} was asked for. A set has {found['size']:.2f} labels on average{empty}."
            )
        return sentences


def _with_interval(found: Mapping[str, float]) -> str:
    """Return a number with its interval in words."""
    value = verdicts.format_score(found["value"])
    if "low" not in found:
        return value
    return f"{value} ({verdicts.format_score(found['low'])} to {verdicts.format_score(found['high'])})"


def intervals_and_units(
    evaluator: Evaluator, records: list[Record], *, examples: Any, column: str | None, seed: int
) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Return the intervals of all scores, and the units that they resample.

    Args:
        evaluator: Fitted.
        records: One for each example.
        examples: The rows that were scored.
        column: Column whose equal values form one unit; None for none.
        seed: Seed of the bootstrap.
    """
    own = bootstrap.as_unit_ids(examples[column]) if column in examples.column_names else None
    bounds = intervals_of(evaluator, records, own, seed=seed)
    units = (
        {"column": None, "size": len(records)} if own is None else {"column": column, "size": len(set(own.tolist()))}
    )
    return {name: asdict(each) for name, each in bounds.items()}, units
