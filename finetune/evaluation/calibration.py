"""Whether the probabilities of a run can be trusted: its temperature, and how well calibrated it is on each split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from finetune.errors import BadOptions
from finetune.evaluation import bootstrap, temperature
from finetune.evaluation.conformal import nonconformity
from finetune.interfaces import Decisions, Evaluator, Predictions, Tallies

LEAST_ROWS = 30
"""With fewer rows of validation, no temperature is fitted: the interval of the improvement would be too narrow."""
BINS = 10
"""Ranges of probability, all equally wide, of the expected calibration error."""
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
"""Shares of the rows that are answered, for which a result holds the share that is right."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The temperature of a run, and how good its probabilities are without it (``before``) and with it (``after``)."""

    temperature: float
    """What scores are divided by before they become probabilities; 1 changes nothing."""
    fitted: float | None
    """The temperature with the least NLL on validation; None if none was fitted. It is used only if the NLL is less
    by more than noise."""
    reason: str
    """Why this temperature is used, as a sentence."""
    rows: int
    """Number of rows of validation."""
    improvement: Mapping[str, float] | None = None
    """How much less the mean NLL on validation is with `fitted`: ``value``, and ``low`` and ``high`` at 95%."""
    splits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Held-out split → ``before`` and ``after``, each with ``nll``, ``ece``, ``brier`` (``value``, ``low``, ``high``)
    and ``bins``; the number of ``decisions``; and ``answered``, the share that is right if only the surest predictions
    are answered."""
    sets: Mapping[str, Any] = field(default_factory=dict)
    """What sets of labels with a stated coverage are made from; see `finetune.evaluation.conformal`. Empty if the task
    has no fixed labels."""


def calibrate(
    evaluator: Evaluator, predictions: Mapping[str, Predictions], *, units: Mapping[str, Any], seed: int
) -> tuple[Evaluator, Calibration | None]:
    """Fit the temperature of an evaluator on validation, and measure what it does on each split.

    Args:
        evaluator: Fitted in all other ways.
        predictions: Held-out split → predictions.
        units: Split → the independent unit of each example, numbered from 0; None if each example is independent.
        seed: Seed of the bootstrap.

    Returns:
        The evaluator with the temperature, and what was measured; None if the task gives no probabilities.
    """
    found: dict[str, Decisions] = {}
    for split, predicted in predictions.items():
        decisions = evaluator.decisions(predicted)
        if decisions is not None:
            found[split] = decisions
    if not found:
        return evaluator, None
    settled = _settle(evaluator, found.get("validation"), units=units.get("validation"), seed=seed)
    measured = {
        split: measure(decisions, settled.temperature, units=units[split], seed=seed)
        for split, decisions in found.items()
    }
    sets = nonconformity(found["validation"], settled.temperature) if "validation" in found else {}
    return with_temperature(evaluator, settled.temperature), replace(settled, splits=measured, sets=sets)


def with_temperature(evaluator: Evaluator, value: float | None) -> Evaluator:
    """Return an evaluator with another temperature; the same one if it has this one.

    Raises:
        BadOptions: The evaluator has no field for it.
    """
    if evaluator.temperature == value:
        return evaluator
    try:
        return replace(evaluator, temperature=value)  # type: ignore[type-var]  # evaluators are dataclasses
    except TypeError as error:
        raise BadOptions(
            f"evaluator: {type(evaluator).__name__} has decisions() and no field `temperature: float | None = None`, "
            "which a run sets. Add it, and divide the scores by it in records()."
        ) from error


def _settle(evaluator: Evaluator, validation: Decisions | None, *, units: Any, seed: int) -> Calibration:
    """Return the temperature to use, and why."""
    rows = 0 if validation is None else len(np.unique(_rows(validation)))
    none = partial(Calibration, temperature=1.0, fitted=None, rows=rows)
    if evaluator.temperature is not None:
        return replace(none(reason="The recipe sets it."), temperature=evaluator.temperature)
    if validation is None:
        return none(reason="There is no validation split with answers to fit one on.")
    if rows < LEAST_ROWS:
        return none(reason=f"Validation has {rows} rows with answers, and {LEAST_ROWS} are needed to fit one.")
    fitted = temperature.fit(validation)
    if not temperature.is_determined(fitted):
        return none(
            fitted=fitted,
            reason="The rows of validation do not determine one: all predictions are right, or the scores say nothing.",
        )
    improvement = _improvement(validation, fitted, units=units, seed=seed)
    if improvement is None or improvement.low <= 0:
        return none(
            fitted=fitted,
            improvement=None if improvement is None else asdict(improvement),
            reason=f"A temperature of {fitted:.2f} would lower the NLL on validation by no more than noise.",
        )
    return Calibration(
        temperature=fitted,
        fitted=fitted,
        rows=rows,
        improvement=asdict(improvement),
        reason="It lowers the NLL on validation by more than noise.",
    )


def _improvement(decisions: Decisions, value: float, *, units: Any, seed: int) -> bootstrap.Difference | None:
    """Return how much less the mean NLL is with a temperature than without one, with its paired interval."""
    counts = np.ones(len(decisions.scores))
    without, with_it = (
        bootstrap.ratios({"nll": (_by_row(decisions, temperature.losses(decisions, each)), _by_row(decisions, counts))})
        for each in (1.0, value)
    )
    return bootstrap.differences(without, with_it, _units_of_rows(decisions, units), seed=seed).get("nll")


def measure(decisions: Decisions, value: float, *, units: Any = None, seed: int = 0) -> dict[str, Any]:
    """Return how good probabilities are with and without a temperature; an entry of `Calibration.splits`.

    ``ece`` is the expected calibration error: the mean distance between the probability of a prediction and the share
    that is right, in ten ranges of probability. It is never negative, so a small sample makes it greater. ``brier`` is
    the Brier score; see `finetune.evaluation.temperature.brier`.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.

    Args:
        decisions: Those of one split.
        value: The temperature.
        units: The independent unit of each example, numbered from 0; None if each example is independent.
        seed: Seed of the bootstrap.
    """
    own = _units_of_rows(decisions, units)
    found: dict[str, Any] = {"decisions": len(decisions.scores)}
    for name, each in (("before", 1.0), ("after", value)):
        found[name] = _quality(decisions, each, units=own, seed=seed)
        if value == 1.0:
            found["after"] = found["before"]
            break
    if len(np.unique(_rows(decisions))) == len(decisions.scores):
        found["answered"] = _answered(decisions, value, units=own, seed=seed)
    return found


def _quality(decisions: Decisions, value: float, *, units: Any, seed: int) -> dict[str, Any]:
    sure, right = temperature.confidence(decisions, value), temperature.is_right(decisions)
    bin_of = np.minimum((sure * BINS).astype(int), BINS - 1)
    inside = bin_of[:, None] == np.arange(BINS)
    columns = [
        temperature.losses(decisions, value)[:, None],
        temperature.brier(decisions, value)[:, None],
        inside * (sure - right)[:, None],
        np.ones((len(sure), 1)),
    ]
    values = _by_row(decisions, np.concatenate(columns, axis=1))
    tallies = Tallies(values=values, scores=_scores_of_sums)
    scores = tallies.scores(values.sum(axis=0))
    bounds = bootstrap.intervals(tallies, units, seed=seed)
    found: dict[str, Any] = {"bins": _bins(bin_of, sure, right)}
    for name, score in scores.items():
        found[name] = {"value": float(score), **(asdict(bounds[name]) if name in bounds else {})}
    return found


def _scores_of_sums(sums: Any) -> dict[str, Any]:
    """Return the scores of the sums of NLL, Brier score, distance in each bin, and decisions: (…, 3 + `BINS`)."""
    size = sums[..., -1]
    distances = np.abs(sums[..., 2:-1]).sum(axis=-1)
    return {
        "nll": bootstrap.safe_divide(sums[..., 0], size),
        "brier": bootstrap.safe_divide(sums[..., 1], size),
        "ece": bootstrap.safe_divide(distances, size),
    }


def _bins(bin_of: Any, sure: Any, right: Any) -> list[dict[str, Any]]:
    """Return the size, the mean probability and the share that is right of each range of probability."""
    bins = []
    for number in np.unique(bin_of).tolist():
        inside = bin_of == number
        bins.append(
            {
                "low": number / BINS,
                "high": (number + 1) / BINS,
                "size": int(inside.sum()),
                "confidence": float(sure[inside].mean()),
                "accuracy": float(right[inside].mean()),
            }
        )
    return bins


def _answered(decisions: Decisions, value: float, *, units: Any, seed: int) -> list[dict[str, Any]]:
    """Return the share that is right among the surest predictions, for each of `COVERAGES`."""
    sure = temperature.confidence(decisions, value)
    right = temperature.is_right(decisions).astype(np.float64)
    order = np.argsort(-sure, kind="stable")
    found = []
    for share in COVERAGES:
        least = float(sure[order[math.ceil(share * len(order)) - 1]])
        answered = (sure >= least).astype(np.float64)
        tallies = bootstrap.ratios({"right": (right * answered, answered)}, most={"right": 1.0})
        bounds = bootstrap.intervals(tallies, units, seed=seed).get("right")
        found.append(
            {
                "coverage": float(answered.mean()),
                "probability": least,
                "right": float((right * answered).sum() / answered.sum()),
                **(asdict(bounds) if bounds else {}),
            }
        )
    return found


def _rows(decisions: Decisions) -> Any:
    """Return the position of the example of each decision."""
    return np.arange(len(decisions.scores)) if decisions.rows is None else np.asarray(decisions.rows)


def _by_row(decisions: Decisions, values: Any) -> Any:
    """Return the sums of values over the decisions of each example that has any, in their order."""
    rows = np.unique(_rows(decisions), return_inverse=True)[1]
    sums = np.zeros((int(rows.max()) + 1, *values.shape[1:]))
    np.add.at(sums, rows, values)
    return sums


def _units_of_rows(decisions: Decisions, units: Any) -> Any:
    """Return the units of the examples that have decisions, numbered from 0 again."""
    if units is None:
        return None
    return bootstrap.as_unit_ids(np.asarray(units)[np.unique(_rows(decisions))].tolist())


def note_of(calibration: Calibration) -> str:
    """Return a note for the user if a run has fitted a temperature, else an empty text."""
    if calibration.improvement is None or calibration.temperature == 1.0:
        return ""
    found = calibration.improvement
    surer = "less sure" if calibration.temperature > 1 else "surer"
    return (
        f"temperature {calibration.temperature:.2f}, fitted on {calibration.rows:,} rows of validation: probabilities "
        f"are {surer}, and the NLL is {found['value']:.3f} less there ({found['low']:.3f} to {found['high']:.3f})"
    )
