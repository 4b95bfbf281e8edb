"""What a run was given in Python and no recipe file can hold: functions, callbacks, and rows in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune.errors import BadRecipe
from finetune.recipe import Recipe

ROWS = "rows:"
"""The dataset path in the recipe of a run whose examples were given in Python."""


@dataclass(frozen=True, kw_only=True)
class PythonObjects:
    """Arguments of `finetune.train` that a recipe file cannot hold; `Recipe.python` describes them."""

    rows: Mapping[str, Any] | None = None
    """Split → examples, instead of the recipe's data set."""
    callbacks: Sequence[Any] = ()
    """Further callbacks of the trainer."""
    data_collator: Callable[..., Any] | None = None
    """Makes the batches, instead of the preprocessor's collator."""
    metrics: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """Name → a metric that cannot be imported by a name: a lambda, or a function inside another."""
    compute_metrics: Callable[..., Any] | None = None
    """A function from `transformers.EvalPrediction` to scores."""
    notes: Sequence[str] = ()
    """What the user must know about these objects."""

    def described(self) -> dict[str, list[str]]:
        """Return the objects as `Recipe.python` describes them: argument of `finetune.train` → their names."""
        names = {
            "callbacks": [type(callback).__name__ for callback in self.callbacks],
            "metrics": list(self.metrics),
        }
        for argument in ("data_collator", "compute_metrics"):
            given = getattr(self, argument)
            names[argument] = [] if given is None else [name_of(given)]
        return {argument: found for argument, found in names.items() if found}


NONE = PythonObjects()
"""Nothing, as for every recipe that is read from a file."""


def name_of(given: Any) -> str:
    """Return a name for a function or an object."""
    return str(getattr(given, "__name__", type(given).__name__))


def require(recipe: Recipe, objects: PythonObjects) -> None:
    """Check that a run has the Python objects that its recipe was written with.

    Raises:
        BadRecipe: It lacks some, as it does if the recipe is read from a file.
    """
    missing = {name: given for name, given in recipe.python.items() if name not in objects.described()}
    if recipe.dataset.path == ROWS and objects.rows is None:
        missing = {"dataset": ["rows in memory"], **missing}
    if missing:
        named = "; ".join(f"{argument}: {', '.join(given)}" for argument, given in missing.items())
        arguments = ", ".join(f"{argument}=…" for argument in missing)
        raise BadRecipe(
            f"the run was given objects in Python that no file can hold ({named}). Call finetune.train again with "
            f"{arguments}, and resume=True to continue it."
        )
