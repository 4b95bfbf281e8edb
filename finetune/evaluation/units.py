"""The independent units of the examples, which intervals resample."""

from __future__ import annotations

from typing import Any

from finetune.data.preparation import Prepared
from finetune.evaluation import bootstrap
from finetune.interfaces import Preprocessor


def unit_ids(prepared: Prepared, split: str) -> Any:
    """Return the independent unit of each example, numbered from 0; None if each example is independent."""
    return units_of_examples(prepared.plan.preprocessor, prepared.features[split].examples)


def units_of_examples(preprocessor: Preprocessor, examples: Any) -> Any:
    """Return the independent unit of each example, numbered from 0; None if each example is independent."""
    column = preprocessor.needs().group
    return bootstrap.as_unit_ids(examples[column]) if column in examples.column_names else None
