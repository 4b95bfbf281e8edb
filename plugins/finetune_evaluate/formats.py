"""Records → predictions and references of the form that a module of evaluate asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from datasets import Features, Value

from finetune.errors import BadOptions, BadRecipe
from finetune.interfaces import Record

SIDES = ("predictions", "references")
OUTSIDE = "O"


class Misfit(Exception):
    """What one record holds is not of the form wanted; the core never sees it."""


def require(module: Any, *, name: str) -> None:
    """Check that a module wants nothing but predictions and references.

    Raises:
        BadRecipe: It wants more, such as the source of a translation.
    """
    wanted = list(_options(module)[0])
    if further := [each for each in wanted if each not in SIDES]:
        raise BadRecipe(
            f"metrics: {name!r} wants {', '.join(wanted)}; records hold predictions and references, and no "
            f"{', '.join(further)}. Write a function from records to scores for it: `my_module:my_metric`."
        )


def inputs(module: Any, records: Sequence[Record], *, name: str) -> dict[str, list[Any]]:
    """Return what the module's ``compute`` takes, in the first of its forms that fits.

    Raises:
        BadOptions: None fits.
    """
    if not records:
        raise BadOptions(f"metrics: {name!r}: there is no record with a reference to score.")
    failed = []
    for features in _options(module):
        try:
            made = {side: _column(features[side], records, side.removesuffix("s")) for side in features}
            _require_answers(features, made)
            return made
        except Misfit as misfit:
            failed.append(f"{dict(features)}: {misfit}")
    raise BadOptions(f"metrics: {name!r} does not fit this task. It wants {'; or '.join(failed)}.")


def _options(module: Any) -> list[Features]:
    found = module.features
    return list(found) if isinstance(found, list) else [found]


def _column(wanted: Any, records: Sequence[Record], side: str) -> list[Any]:
    make = _squad if _is_squad(wanted) else _plain
    made = []
    for number, record in enumerate(records):
        try:
            made.append(make(wanted, record, side, number))
        except Misfit as misfit:
            raise Misfit(f"the {side} of record {number} is {record[side]!r:.80}, {misfit}") from None
    return made


def _plain(wanted: Any, record: Record, side: str, number: int) -> Any:
    value = record[side]
    names = list(record["probabilities"]) if isinstance(record.get("probabilities"), Mapping) else None
    of = _element(wanted)
    if of is None:
        return _one(wanted, value, names)
    if isinstance(value, str) and side == "reference":  # several references are wanted, and there is one
        value = [value]
    if "tags" in record:
        tags = record["tags" if side == "prediction" else "reference_tags"]
        value = [OUTSIDE if tag is None else tag for tag in tags]  # a word that was cut off has no entity
    if not isinstance(value, list | tuple):
        raise Misfit("and a list was wanted")
    if names is not None and _kind(of) in {"int", "bool"}:  # several labels: 1 for each that is given
        return [int(name in value) for name in names]
    return [_one(of, each, names) for each in value]


def _one(wanted: Any, value: Any, names: Sequence[str] | None) -> Any:
    """Return a value as a `datasets.Value` wants it; a label becomes its number where a number is wanted."""
    kind = _kind(wanted)
    if kind is None:
        raise Misfit(f"and {wanted} is no form that records can be brought to")
    if kind == "int" and isinstance(value, str):
        if names is None:
            raise Misfit("a text, and a whole number was wanted; no record says what number a label has")
        return names.index(value)
    fits, noun = _FITS[kind]
    if not fits(value):
        raise Misfit(f"and {noun} was wanted")
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
    """Return what a list is a list of; None for what is no list."""
    if isinstance(wanted, list):
        return wanted[0]
    return getattr(wanted, "feature", None)


def _is_squad(wanted: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(wanted, Mapping) and "id" in wanted and bool({"prediction_text", "answers"} & set(wanted))


def _squad(wanted: Mapping[str, Any], record: Record, side: str, number: int) -> dict[str, Any]:
    """Return a question's side as SQuAD's own metrics take it."""
    value = record[side]
    if side == "prediction":
        if not isinstance(value, str):
            raise Misfit("and a text was wanted")
        made = {"id": str(number), "prediction_text": value}
        # The threshold is behind us: what the evaluator left unanswered is unanswered for certain.
        return {**made, "no_answer_probability": float(not value)} if "no_answer_probability" in wanted else made
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise Misfit("and a list of texts was wanted")
    return {"id": str(number), "answers": {"text": list(texts), "answer_start": [0] * len(texts)}}


def _require_answers(features: Mapping[str, Any], made: Mapping[str, Sequence[Any]]) -> None:
    """Refuse questions without an answer where the metric is SQuAD 1.1's, which takes the best of the answers."""
    predictions = features.get("predictions")
    if not _is_squad(predictions) or "no_answer_probability" in predictions or "references" not in made:
        return
    for number, reference in enumerate(made["references"]):
        if not reference["answers"]["text"]:
            raise Misfit(f"record {number} is a question without an answer, for which there is squad_v2")
