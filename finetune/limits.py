"""Count the answers and rows that are longer than a limit of ours, and name the value that is enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from finetune.interfaces import Finding, Limit

REPORTED = 0.01
"""If more than this share of a split's answers are too long, it is reported."""


def count(limit: Limit) -> dict[str, Any]:
    """Return how many answers there are, how many are longer than a limit, and which values are enough.

    >>> count(Limit(option="evaluator.max_answer_length", value=2, lengths=[1, 2, 3, 9]))
    {'option': 'evaluator.max_answer_length', 'value': 2, 'answers': 4, 'too_long': 2, 'enough': 9, 'enough_for_99': 9}
    """
    lengths = sorted(map(int, limit.lengths))
    allowed = int(REPORTED * len(lengths))
    kind = {} if limit.what == "answers" else {"what": limit.what}
    return {
        **kind,
        "option": limit.option,
        "value": limit.value,
        "answers": len(lengths),
        "too_long": sum(length > limit.value for length in lengths),
        "enough": lengths[-1] if lengths else 0,
        "enough_for_99": lengths[-1 - allowed] if lengths else 0,
    }


def counts(found: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the counts for the data report; answers that all fit are not listed, nor rows, which are ``truncated``."""
    counted: dict[str, int] = {}
    for each in found:
        if each["too_long"] and _what(each) == "answers":
            counted[f"over_{each['option'].rpartition('.')[2]}"] = each["too_long"]
    return counted


def check(limits: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Finding]:
    """Yield a warning for each split and option with many answers that are too long."""
    for split, found in limits.items():
        for each in found:
            if _is_reported(each):
                yield Finding(
                    code="answers-over-limit", level="warning", split=split,
                    message=f"{_too_long(each)} {_consequence(each)}.", fix=_remedy(each),
                )  # fmt: skip


def sentences(limits: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Yield what `check` warns about, as sentences that name the split."""
    for split, found in limits.items():
        for each in found:
            if _is_reported(each):
                yield f"On {split}, {_too_long(each)} {_consequence(each)}. {_remedy(each)}"


def _what(found: Mapping[str, Any]) -> str:
    return str(found.get("what", "answers"))


def _is_reported(found: Mapping[str, Any]) -> bool:
    return bool(found["too_long"] > REPORTED * found["answers"])


def _too_long(found: Mapping[str, Any]) -> str:
    verb = "is" if found["too_long"] == 1 else "are"
    share = found["too_long"] / found["answers"]
    numbers = f"{found['too_long']:,} of {found['answers']:,} {_what(found)} ({share:.1%})"
    return f"{numbers} {verb} longer than {found['option']}, which is {found['value']:,},"


def _consequence(found: Mapping[str, Any]) -> str:
    if _what(found) == "rows":
        return "so training does not read " + ("its end" if found["too_long"] == 1 else "their ends")
    return "so the model can never give " + ("it in full" if found["too_long"] == 1 else "them in full")


def _remedy(found: Mapping[str, Any]) -> str:
    most = found["enough_for_99"]
    others = f", or {most:,} for 99% of them" if most < found["enough"] else ""
    return f"Set it to {found['enough']:,} for all {_what(found)}{others}."
