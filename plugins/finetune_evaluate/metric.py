"""A module of evaluate as a further metric of a task."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from finetune.errors import BadOptions, BadRecipe
from finetune.interfaces import Record
from finetune_evaluate import formats as forms
from finetune_evaluate import loading


@dataclass(frozen=True, kw_only=True)
class EvaluateMetric:
    """Records → the scores of a module, under its name: ``f1?average=macro/f1``."""

    name: str
    """As the recipe has it, less `evaluate:`."""
    module: Any
    """An `evaluate.Metric`."""
    arguments: Mapping[str, Any]
    """What its ``compute`` takes besides predictions and references."""

    def check(self, records: Sequence[Record]) -> None:
        """Say before the first step whether records are of a form that the module takes.

        Raises:
            BadOptions: They are not.
        """
        forms.inputs(self.module, records, name=self.name)

    def __call__(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the scores of records that hold a reference.

        Raises:
            BadOptions: The module wants records of another form, or has failed.
        """
        inputs = forms.inputs(self.module, records, name=self.name)
        try:
            found = self.module.compute(**inputs, **self.arguments)
        except Exception as error:  # the module is a stranger's, and may raise what it likes
            said = " ".join(str(error).split()) or "no more was said"
            raise BadOptions(
                f"metrics: {self.name!r} failed: {type(error).__name__}: {said} "
                f"Arguments of its `compute` stand after a question mark: `evaluate:f1?average=macro`."
            ) from error
        prefix = self.name.removeprefix("./").rstrip("/")
        scores = {f"{prefix}/{score}": value for score, value in _numbers(found)}
        if not scores:
            raise BadOptions(f"metrics: {self.name!r} gives no number for these records, but {found!r:.200}.")
        return scores


def metric(rest: str) -> EvaluateMetric:
    """Return the metric that stands after `evaluate:` in a recipe.

    Raises:
        FinetuneError: It cannot be loaded, or wants what no record holds.
    """
    name, _, query = rest.partition("?")
    try:
        given = parse_qsl(query, strict_parsing=True) if query else []
    except ValueError as error:
        raise BadRecipe(f"metrics: {rest!r}: after the question mark, `name=value&name=value` was wanted.") from error
    module = loading.load(name)
    forms.require(module, name=name)
    return EvaluateMetric(name=rest, module=module, arguments={key: _value(text) for key, text in given})


def _value(text: str) -> Any:
    """Return an argument as JSON reads it, or else the text.

    >>> _value("0.5"), _value("true"), _value("macro")
    (0.5, True, 'macro')
    """
    try:
        return json.loads(text)
    except ValueError:
        return text


def _numbers(found: Any) -> Iterator[tuple[str, float]]:
    """Yield every number, those in mappings too; texts, lists and what is not finite are no scores.

    >>> list(_numbers({"overall_f1": 0.5, "PER": {"f1": 0.25}, "hashcode": "x"}))
    [('overall_f1', 0.5), ('PER/f1', 0.25)]
    """
    for name, value in (found or {}).items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{rest}", number) for rest, number in _numbers(value))
            continue
        if hasattr(value, "item") and getattr(value, "size", None) == 1:  # a number of NumPy
            value = value.item()
        if isinstance(value, int | float) and math.isfinite(value):
            yield str(name), float(value)
