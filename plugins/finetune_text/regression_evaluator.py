"""How good predicted numbers are; the arithmetic is SciPy's and scikit-learn's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from finetune.interfaces import Evaluator, Predictions, Record, Tallies
from finetune.kit import safe_divide
from finetune_text.outputs import logits_of, references, require_records, require_score

ERRORS = ("mse", "rmse", "mae")
SCORES = ("pearson", "spearman", "r2", *ERRORS)


@dataclass(frozen=True, kw_only=True)
class TextRegressionEvaluator(Evaluator):
    """Correlations (the order), errors (the distance) and R² (against always saying the mean)."""

    primary: str = "pearson"
    """The score to choose by: `pearson`, `spearman`, `r2`, `mse`, `rmse` or `mae`."""

    def __post_init__(self) -> None:
        require_score(self.primary, SCORES)

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is a better one."""
        return self.primary not in ERRORS

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the predicted number of each example: ``{'prediction': 3.2, 'reference': 3.5}``."""
        numbers = logits_of(predictions, width=1)[:, 0]
        return [
            {"prediction": float(value)} | ({} if reference is None else {"reference": float(reference)})
            for value, reference in zip(numbers, references(predictions), strict=True)
        ]

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return correlations, errors and R².

        A correlation needs two different predictions and two different references, R² two different references; what
        cannot be computed is absent, and `details` says why.
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
        """Return the moments that errors, R² and Pearson's correlation are made of; ranks are no sums."""
        truth, guess = _numbers(records)
        middle = truth.mean()  # moments about 0 would lose digits
        x, y = truth - middle, guess - middle
        values = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, np.abs(x - y)], axis=1)
        return Tallies(values=values, scores=_of_moments)

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the answers of whoever always says the mean of the training rows."""
        mean = float(np.mean(references(train)))
        return {"mean": [{"prediction": mean, "reference": float(number)} for number in references(predictions)]}

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return how far each number is from the right one."""
        return [abs(record["prediction"] - record["reference"]) for record in records]

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return the range of predictions and references, and why a score is absent."""
        truth, guess = _numbers(records)
        undefined: dict[str, str] = {}
        for what, numbers, needed_by in (
            ("prediction", guess, ("pearson", "spearman")),
            ("reference", truth, ("pearson", "spearman", "r2")),
        ):
            if _constant(numbers):
                undefined |= dict.fromkeys(needed_by, f"every {what} is {numbers[0]:g}")
        return {
            "prediction": {"least": float(guess.min()), "greatest": float(guess.max())},
            "reference": {"least": float(truth.min()), "greatest": float(truth.max())},
            "undefined": undefined,
        }


def _numbers(records: Sequence[Record]) -> tuple[Any, Any]:
    require_records(records)
    truth = np.array([record["reference"] for record in records], dtype=float)
    guess = np.array([record["prediction"] for record in records], dtype=float)
    return truth, guess


def _of_moments(sums: Any) -> dict[str, Any]:
    size, x, y, xx, yy, xy, away = np.moveaxis(np.asarray(sums), -1, 0)
    squared = np.maximum(xx - 2 * xy + yy, 0.0)
    spread_x, spread_y = (np.maximum(size * square - first**2, 0.0) for square, first in ((xx, x), (yy, y)))
    varied = np.where(np.minimum(spread_x, spread_y) > 1e-18 * size**2, spread_x * spread_y, 0.0)
    return {
        "mse": safe_divide(squared, size),
        "rmse": np.sqrt(safe_divide(squared, size)),
        "mae": safe_divide(away, size),
        "r2": 1 - safe_divide(squared * size, spread_x),
        "pearson": safe_divide(size * xy - x * y, np.sqrt(varied)),
    }


def _constant(numbers: Any) -> bool:
    """Say whether numbers do not vary beyond rounding: correlations of such are noise."""
    return bool(np.ptp(numbers) <= 1e-9 * max(1.0, float(np.abs(numbers).max())))
