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
from finetune_evaluate import formats, loading


@dataclass(frozen=True, kw_only=True)
class EvaluateMetric:
    """Records → the scores of a module, under its name: ``f1?average=macro/f1``."""

    name: str
    """The name in the recipe, without `evaluate:`."""
    module: Any
    """An `evaluate.Metric`."""
    arguments: Mapping[str, Any]
    """Arguments of its ``compute`` besides predictions and references."""

    def check(self, records: Sequence[Record]) -> None:
        """Check before the first step that the module takes records of this form.

        Raises:
            BadOptions: It does not.
        """
        formats.inputs(self.module, records, name=self.name)

    def __call__(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the scores of records that hold a reference.

        Raises:
            BadOptions: The module takes records of another form, failed, or returned no number.
        """
        inputs = formats.inputs(self.module, records, name=self.name)
        try:
            result = self.module.compute(**inputs, **self.arguments)
        except Exception as error:  # the module is third-party code, and may raise anything
            reason = " ".join(str(error).split()) or "no reason given"
            raise BadOptions(
                f"metrics: {self.name!r} failed: {type(error).__name__}: {reason.rstrip('.')}. "
                f"Write arguments of its `compute` after a question mark: `evaluate:f1?average=macro`."
            ) from error
        prefix = self.name.removeprefix("./").rstrip("/")
        scores = {f"{prefix}/{score}": value for score, value in _numbers(result)}
        if not scores:
            raise BadOptions(f"metrics: {self.name!r} returns no number for these records, but {result!r:.200}.")
        return scores


def metric(rest: str) -> EvaluateMetric:
    """Return the metric for what stands after `evaluate:` in a recipe.

    Raises:
        FinetuneError: It cannot be loaded, or needs what no record holds.
    """
    name, _, query = rest.partition("?")
    try:
        pairs = parse_qsl(query, strict_parsing=True) if query else []
    except ValueError as error:
        raise BadRecipe(
            f"metrics: {rest!r}: what follows the question mark is not of the form `name=value&name=value`."
        ) from error
    module = loading.load(name)
    formats.require(module, name=name)
    return EvaluateMetric(name=rest, module=module, arguments={key: _value(text) for key, text in pairs})


def _value(text: str) -> Any:
    """Return an argument as JSON reads it, or else the text.

    >>> _value("0.5"), _value("true"), _value("macro")
    (0.5, True, 'macro')
    """
    try:
        return json.loads(text)
    except ValueError:
        return text


def _numbers(result: Any) -> Iterator[tuple[str, float]]:
    """Yield every finite number, also from inner mappings; texts and lists are not scores.

    >>> list(_numbers({"overall_f1": 0.5, "PER": {"f1": 0.25}, "hashcode": "x"}))
    [('overall_f1', 0.5), ('PER/f1', 0.25)]
    """
    for name, value in (result or {}).items():
        if isinstance(value, Mapping):
            for inner, number in _numbers(value):
                yield f"{name}/{inner}", number
            continue
        if hasattr(value, "item") and getattr(value, "size", None) == 1:  # a NumPy number
            value = value.item()
        if isinstance(value, int | float) and math.isfinite(value):
            yield str(name), float(value)
