"""Scores of predicted numbers, computed by SciPy and scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from finetune.interfaces import Evaluator, Predictions, Record, Tallies
from finetune.kit import check_primary, safe_divide
from finetune_text.outputs import logits_of, references, require_records

ERRORS = ("mse", "rmse", "mae")
SCORES = ("pearson", "spearman", "r2", *ERRORS)


@dataclass(frozen=True, kw_only=True)
class TextRegressionEvaluator(Evaluator):
    """Correlations (order), errors (distance) and R² (compared with always predicting the mean)."""

    primary: str = "pearson"
    """The score that models are chosen by: `pearson`, `spearman`, `r2`, `mse`, `rmse` or `mae`."""

    def __post_init__(self) -> None:
        check_primary(self.primary, SCORES)

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is a better one."""
        return self.primary not in ERRORS

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        units = {
            "rmse": "in the unit of the references",
            "mae": "in the unit of the references",
            "mse": "in its square",
        }
        return {"pearson": "−1 to 1", "spearman": "−1 to 1", "r2": "at most 1", **units}

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the predicted number of each example: ``{'prediction': 3.2, 'reference': 3.5}``."""
        numbers = logits_of(predictions, width=1)[:, 0]
        records: list[Record] = []
        for value, reference in zip(numbers, references(predictions), strict=True):
            record = {"prediction": float(value)}
            if reference is not None:
                record["reference"] = float(reference)
            records.append(record)
        return records

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return correlations, errors and R².

        A correlation needs two different predictions and two different references, R² two different
        references. A score that cannot be computed is absent, and `details` says why.
        """
        truth, guess = _numbers(records)
        squared = mean_squared_error(truth, guess)
        scores = {"mse": squared, "rmse": np.sqrt(squared), "mae": mean_absolute_error(truth, guess)}
        if not _constant(truth):
            scores["r2"] = r2_score(truth, guess)
            if not _constant(guess):
                scores["pearson"] = pearsonr(truth, guess).statistic
                scores["spearman"] = spearmanr(truth, guess).statistic
        return {name: float(value) for name, value in scores.items()}

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return the moments of errors, R² and Pearson's correlation; ``spearman`` cannot be computed from sums."""
        truth, guess = _numbers(records)
        middle = truth.mean()  # Moments about 0 would lose digits.
        x, y = truth - middle, guess - middle
        values = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, np.abs(x - y)], axis=1)
        return Tallies(values=values, scores=_scores_of_moments)

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the records of always predicting the mean of the training rows."""
        mean = float(np.mean(references(train)))
        return {"mean": [{"prediction": mean, "reference": float(number)} for number in references(predictions)]}

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return the absolute error of each number."""
        return [abs(record["prediction"] - record["reference"]) for record in records]

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return the range of predictions and references, and why a score is absent."""
        truth, guess = _numbers(records)
        undefined: dict[str, str] = {}
        if _constant(guess):
            undefined |= dict.fromkeys(("pearson", "spearman"), f"every prediction is {guess[0]:g}")
        if _constant(truth):
            undefined |= dict.fromkeys(("pearson", "spearman", "r2"), f"every reference is {truth[0]:g}")
        return {
            "prediction": {"least": float(guess.min()), "greatest": float(guess.max())},
            "reference": {"least": float(truth.min()), "greatest": float(truth.max())},
            "undefined": undefined,
        }


def _numbers(records: Sequence[Record]) -> tuple[Any, Any]:
    """Return references and predictions as arrays (N,)."""
    require_records(records)
    truth = np.array([record["reference"] for record in records], dtype=float)
    guess = np.array([record["prediction"] for record in records], dtype=float)
    return truth, guess


def _scores_of_moments(sums: Any) -> dict[str, Any]:
    """Return the scores of sums of 1, x, y, x², y², xy and |x − y|, x being the references: (…, 7)."""
    size, x, y, xx, yy, xy, distance = np.moveaxis(np.asarray(sums), -1, 0)
    squared = np.maximum(xx - 2 * xy + yy, 0.0)
    spread_x = np.maximum(size * xx - x**2, 0.0)
    spread_y = np.maximum(size * yy - y**2, 0.0)
    # Numbers that differ by rounding alone have no correlation.
    varied = np.where(np.minimum(spread_x, spread_y) > 1e-18 * size**2, spread_x * spread_y, 0.0)
    return {
        "mse": safe_divide(squared, size),
        "rmse": np.sqrt(safe_divide(squared, size)),
        "mae": safe_divide(distance, size),
        "r2": 1 - safe_divide(squared * size, spread_x),
        "pearson": safe_divide(size * xy - x * y, np.sqrt(varied)),
    }


def _constant(numbers: Any) -> bool:
    """Say whether numbers vary only by rounding: their correlation would be noise."""
    return bool(np.ptp(numbers) <= 1e-9 * max(1.0, float(np.abs(numbers).max())))
