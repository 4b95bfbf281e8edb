"""Labels as data sets write them: their text, their names in order of id, and the model's options."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from finetune.errors import Incompatible
from finetune.interfaces import Batch, Row

LABEL = "label"
"""The column."""
INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,99})")  # Python refuses to read thousands of digits
"""An integer as `str` writes it: ``007`` is a name."""

_WHOLE = re.compile(r"(-?\d+)\.0+")
"""A whole number as pandas writes it in a column with gaps."""


def as_text(value: Any) -> str | None:
    """Return a label as text, or None where there is none.

    >>> as_text("pos"), as_text(3), as_text(3.0), as_text(True), as_text("")
    ('pos', '3', '3', 'True', None)
    """
    if value is None or value == "" or value != value:  # NaN is not equal to itself
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def sort_labels(names: Iterable[str]) -> tuple[str, ...]:
    """Return label names in the order of their ids: integers by value, everything else by code point.

    >>> sort_labels(["10", "9"]), sort_labels(["b", "a"])
    (('9', '10'), ('a', 'b'))
    """
    names = set(names)
    if all(INTEGER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def class_label_names(examples: Sequence[Row], column: str = LABEL) -> tuple[str, ...] | None:
    """Return the names of a `datasets.ClassLabel` column (or of a list of them), where the examples have one."""
    feature = (getattr(examples, "features", None) or {}).get(column)
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return tuple(names) if names is not None else None


def are_ids(texts: Iterable[str], labels: Sequence[str]) -> bool:
    """Say whether texts of labels are positions in ``labels``: none of them is a name, and some are 0 … k-1.

    >>> are_ids({"0", "1"}, ("neg", "pos")), are_ids({"1", "2"}, ("1", "2"))
    (True, False)
    """
    texts = set(texts)
    return texts.isdisjoint(labels) and not texts.isdisjoint(map(str, range(len(labels))))


def learn(
    texts: Mapping[str, int], *, given: Sequence[str] | None, class_label: tuple[str, ...] | None, ids: bool | None
) -> tuple[tuple[str, ...], bool]:
    """Return the label names in order of id, and whether the data hold positions in them.

    Args:
        texts: Labels of the training data as text → how often each occurs.
        given: Names from the recipe.
        class_label: Names of the data set's `datasets.ClassLabel`.
        ids: What the recipe says about positions; None where it says nothing.
    """
    labels = tuple(given or class_label or sort_labels(texts))
    if ids is None:
        ids = class_label is not None or (given is not None and are_ids(texts, labels))
    return labels, ids


def of_model(config: Any) -> tuple[str, ...]:
    """Return the names of the labels of a trained model, in the order of their ids.

    Raises:
        Incompatible: The ids have gaps, or two labels have one name.
    """
    named = {int(position): str(name) for position, name in (config.id2label or {}).items()}
    names = tuple(named[position] for position in sorted(named))
    if sorted(named) != list(range(len(names))) or len(set(names)) != len(names):
        raise Incompatible(
            f"model: its configuration names the labels {named}. They must have different names and the ids 0, 1, 2 "
            "and so on. Correct id2label in config.json, or set preprocessor.labels."
        )
    return names


def ids_of(labels: Sequence[str], *, ids: bool) -> dict[str, int]:
    """Return the id of every label, by the text that the data hold: a position where ``ids``, else the name."""
    return {str(position) if ids else name: position for position, name in enumerate(labels)}


def given_labels(examples: Batch, column: str = LABEL) -> Sequence[Any] | None:
    """Return the labels of a batch, or None where no example has one."""
    values: Sequence[Any] = examples.get(column, ())
    return None if all(value is None for value in values) else values


def model_options(labels: Sequence[str], **more: Any) -> dict[str, Any]:
    """Return what `from_pretrained` must know of the labels.

    >>> model_options(("neg", "pos"))
    {'num_labels': 2, 'id2label': {0: 'neg', 1: 'pos'}, 'label2id': {'neg': 0, 'pos': 1}}
    """
    id2label = dict(enumerate(labels))
    label2id = ids_of(labels, ids=False)
    return {"num_labels": len(labels), "id2label": id2label, "label2id": label2id, **more}


def normalized(name: str) -> str:
    """Return a label without the differences of case, white space, invisible characters and Unicode form.

    >>> normalized(" Pos ") == normalized("po\\u200bſ") == "pos", normalized("1.0")
    (True, '1')
    """
    visible = "".join(character for character in name if unicodedata.category(character) != "Cf")
    folded = " ".join(unicodedata.normalize("NFC", visible).casefold().split())
    whole = _WHOLE.fullmatch(folded)
    return whole[1] if whole else unicodedata.normalize("NFC", folded)
