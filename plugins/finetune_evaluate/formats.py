"""Records → predictions and references in the form that a module of evaluate takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from datasets import Features, Value

from finetune.errors import BadOptions, BadRecipe
from finetune.interfaces import Record

SIDES = ("predictions", "references")
OUTSIDE = "O"


class Misfit(Exception):
    """A record does not have the expected form. It never leaves this module."""


def require(module: Any, *, name: str) -> None:
    """Check that a module takes nothing but predictions and references.

    Raises:
        BadRecipe: It takes more, such as the source of a translation.
    """
    wanted = list(_forms(module)[0])
    further = [side for side in wanted if side not in SIDES]
    if further:
        raise BadRecipe(
            f"metrics: {name!r} takes {', '.join(wanted)}; records hold predictions and references, and no "
            f"{', '.join(further)}. Write a function from records to scores instead: `my_module:my_metric`."
        )


def inputs(module: Any, records: Sequence[Record], *, name: str) -> dict[str, list[Any]]:
    """Return the arguments of the module's ``compute``, in the first of its forms that fits.

    Raises:
        BadOptions: No form fits.
    """
    if not records:
        raise BadOptions(f"metrics: {name!r}: there is no record with a reference to score.")
    problems = []
    for form in _forms(module):
        try:
            return _inputs(form, records)
        except Misfit as misfit:
            problems.append(f"{dict(form)}: {misfit}")
    raise BadOptions(f"metrics: {name!r} does not fit this task. It takes {'; or '.join(problems)}.")


def _forms(module: Any) -> list[Features]:
    """Return the forms that a module takes: it has one, or a list."""
    features = module.features
    return list(features) if isinstance(features, list) else [features]


def _inputs(form: Mapping[str, Any], records: Sequence[Record]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for side, wanted in form.items():
        convert = _squad if _is_squad(wanted) else _plain
        field = side.removesuffix("s")
        columns[side] = []
        for number, record in enumerate(records):
            try:
                columns[side].append(convert(wanted, record, field, number))
            except Misfit as misfit:
                raise Misfit(f"the {field} of record {number} is {record[field]!r:.80}, {misfit}") from None
    _require_answers(form, columns)
    return columns


def _plain(wanted: Any, record: Record, field: str, number: int) -> Any:
    value = record[field]
    names = list(record["probabilities"]) if isinstance(record.get("probabilities"), Mapping) else None
    element = _element(wanted)
    if element is None:
        return _single(wanted, value, names)
    if isinstance(value, str) and field == "reference":  # the module takes several references, and there is one
        value = [value]
    if "tags" in record:
        tags = record["tags" if field == "prediction" else "reference_tags"]
        value = [OUTSIDE if tag is None else tag for tag in tags]  # a truncated word has no entity
    if not isinstance(value, list | tuple):
        raise Misfit("not a list")
    if names is not None and _kind(element) in {"int", "bool"}:  # several labels: 1 for each that is given
        return [int(name in value) for name in names]
    return [_single(element, each, names) for each in value]


def _single(wanted: Any, value: Any, names: Sequence[str] | None) -> Any:
    """Return a value as a `datasets.Value` takes it; a label becomes its number if a number is expected."""
    kind = _kind(wanted)
    if kind is None:
        raise Misfit(f"and records cannot be converted to {wanted}")
    if kind == "int" and isinstance(value, str):
        if names is None:
            raise Misfit("a text, not a whole number; the records do not hold the numbers of labels")
        return names.index(value)
    fits, noun = _FITS[kind]
    if not fits(value):
        raise Misfit(f"not {noun}")
    return value


_FITS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "int": (lambda value: isinstance(value, int), "a whole number"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "float": (lambda value: isinstance(value, int | float), "a number"),
    "string": (lambda value: isinstance(value, str), "a text"),
}


def _kind(wanted: Any) -> str | None:
    dtype = wanted.dtype if isinstance(wanted, Value) else ""
    for kind, beginnings in {"int": ("int", "uint"), "bool": ("bool",), "float": ("float", "double")}.items():
        if dtype.startswith(beginnings):
            return kind
    return "string" if "string" in dtype else None


def _element(wanted: Any) -> Any:
    """Return the form of a list's elements; None if the form is not a list."""
    if isinstance(wanted, list):
        return wanted[0]
    return getattr(wanted, "feature", None)


def _is_squad(wanted: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(wanted, Mapping) and "id" in wanted and bool({"prediction_text", "answers"} & set(wanted))


def _squad(wanted: Mapping[str, Any], record: Record, field: str, number: int) -> dict[str, Any]:
    """Return the prediction or reference of a question as SQuAD's own metrics take it."""
    value = record[field]
    if field == "prediction":
        if not isinstance(value, str):
            raise Misfit("not a text")
        made: dict[str, Any] = {"id": str(number), "prediction_text": value}
        if "no_answer_probability" in wanted:
            # The evaluator has applied its threshold already, so an empty prediction is a certain
            # "no answer".
            made["no_answer_probability"] = float(not value)
        return made
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise Misfit("not a list of texts")
    return {"id": str(number), "answers": {"text": list(texts), "answer_start": [0] * len(texts)}}


def _require_answers(form: Mapping[str, Any], columns: Mapping[str, Sequence[Any]]) -> None:
    """Refuse questions without an answer if the metric is SQuAD 1.1's, which takes the best of the answers."""
    predictions = form.get("predictions")
    if not _is_squad(predictions) or "no_answer_probability" in predictions or "references" not in columns:
        return
    for number, reference in enumerate(columns["references"]):
        if not reference["answers"]["text"]:
            raise Misfit(f"record {number} is a question without an answer: use squad_v2")
