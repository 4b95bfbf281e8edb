"""Which predictions are answered, which are withheld, and sets of labels instead of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from finetune.errors import BadOptions
from finetune.evaluation import bootstrap, conformal
from finetune.evaluation.evidence import intervals_of
from finetune.interfaces import Evaluator, Record

ABSTAINED, WITHHELD, SET = "abstained", "withheld", "set"
"""Keys of a record: whether the prediction is withheld, what it would have been, and the set of labels."""

Answer = Callable[[Record], Record]
"""Returns a record with the prediction withheld if it is not sure enough, and with its set of labels."""


@dataclass(frozen=True, kw_only=True)
class Answering:
    """When a model answers, and whether it gives sets."""

    abstain_below: float | None = None
    """A prediction with a smaller probability is withheld; None to answer all."""
    coverage: float | None = None
    """The least share of the rows whose set of labels holds the right one; None for no sets."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 0 < value < 1:
                raise BadOptions(f"{name}={value} must be between 0 and 1, both excluded.")

    @property
    def is_plain(self) -> bool:
        """Whether every row gets its prediction and nothing else."""
        return self == Answering()

    def least(self, evaluator: Evaluator, calibration: Mapping[str, Any]) -> float | None:
        """Return how probable a label must be to be in a set; None if there are no sets.

        Args:
            evaluator: That of the model.
            calibration: As in `Result`.

        Raises:
            BadOptions: The task, or the run, cannot do what is asked.
            BadData: The run had too few rows of validation.
        """
        name = type(evaluator).__name__
        if self.abstain_below is not None and type(evaluator).confidence is Evaluator.confidence:
            raise BadOptions(
                f"abstain_below: {name} gives no probability for the prediction of a whole row, so none can be "
                "withheld. Tasks with one label for each row, and question answering, give one."
            )
        if self.coverage is None:
            return None
        if type(evaluator).label_probabilities is Evaluator.label_probabilities:
            raise BadOptions(
                f"coverage: {name} gives no probability for each of a fixed set of labels, so there are no sets. Tasks "
                "with one label for each row give them."
            )
        if not calibration.get("sets"):
            raise BadOptions(
                "coverage: no scores of validation are stored with the model, and sets are made from them. Train with "
                "a validation split, with this version of finetune."
            )
        return conformal.least_probability(calibration["sets"], self.coverage)

    def answer(self, evaluator: Evaluator, calibration: Mapping[str, Any]) -> Answer:
        """Return a function from the record of the evaluator to the one that is answered; see `least`."""
        least = self.least(evaluator, calibration)

        def answered(record: Record) -> Record:
            if taken := record.keys() & {ABSTAINED, WITHHELD, SET}:
                raise BadOptions(f"evaluator: a record has the key {min(taken)!r}, which an answer needs.")
            more: Record = {}
            probabilities = None if least is None else evaluator.label_probabilities(record)
            if least is not None and probabilities is not None:
                more[SET] = conformal.label_set(probabilities, least)
            if self.abstain_below is None:
                return {**record, **more}
            if _is_sure(evaluator, record, self.abstain_below):
                return {**record, ABSTAINED: False, **more}
            withheld = {"prediction": None, ABSTAINED: True, WITHHELD: record["prediction"]}
            return {**withheld, **{name: value for name, value in record.items() if name != "prediction"}, **more}

        return answered

    def measure(
        self,
        evaluator: Evaluator,
        records: Sequence[Record],
        calibration: Mapping[str, Any],
        *,
        units: Any = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Return what the answers of records with references are worth.

        Args:
            evaluator: That of the model.
            records: As the evaluator made them.
            calibration: As in `Result`.
            units: The independent unit of each record, numbered from 0; None if each record is independent.
            seed: Seed of the bootstrap.

        Returns:
            ``answered``: the ``coverage`` (``value``, ``low``, ``high``) and the ``rows`` that are answered, with their
            primary ``score``; and ``sets``: the ``coverage`` that was asked and that was ``measured``, the mean
            ``size``, and the share that is ``empty``. Each only if it is asked for.
        """
        least = self.least(evaluator, calibration)
        found: dict[str, Any] = {}
        if self.abstain_below is not None:
            sure = np.array([_is_sure(evaluator, record, self.abstain_below) for record in records])
            chosen = np.flatnonzero(sure).tolist()
            found["answered"] = {
                "abstain_below": self.abstain_below,
                "coverage": _share(sure, units, seed=seed),
                "rows": len(chosen),
                "score": _score(evaluator, [records[place] for place in chosen], _part(units, chosen), seed=seed),
            }
        if least is not None:
            sizes, holds = [], []
            for record in records:
                labels = conformal.label_set(evaluator.label_probabilities(record) or {}, least)
                sizes.append(len(labels))
                holds.append(evaluator.true_label(record) in labels)
            found["sets"] = {
                "coverage": self.coverage,
                "measured": _share(np.array(holds), units, seed=seed),
                "size": float(np.mean(sizes)),
                "empty": float(np.mean(np.array(sizes) == 0)),
            }
        return found


def _is_sure(evaluator: Evaluator, record: Record, least: float) -> bool:
    confidence = evaluator.confidence(record)
    return confidence is not None and confidence >= least


def _share(holds: Any, units: Any, *, seed: int) -> dict[str, float]:
    """Return the share of the rows for which something holds, with its interval."""
    tallies = bootstrap.ratios({"share": (holds.astype(np.float64), np.ones(len(holds)))}, most={"share": 1.0})
    bounds = bootstrap.intervals(tallies, units, seed=seed)["share"]
    return {"value": float(holds.mean()), **asdict(bounds)}


def _part(units: Any, chosen: Any) -> Any:
    return None if units is None else bootstrap.as_unit_ids(np.asarray(units)[chosen].tolist())


def _score(evaluator: Evaluator, records: Sequence[Record], units: Any, *, seed: int) -> dict[str, float] | None:
    """Return the primary score of records with its interval; None if there are none."""
    if not records:
        return None
    value = evaluator.scores(records).get(evaluator.primary)
    if value is None:
        return None
    bounds = intervals_of(evaluator, records, units, seed=seed).get(evaluator.primary)
    return {"value": value, **(asdict(bounds) if bounds is not None else {})}
