"""What is wrong with a text to read and a text to write."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from finetune.interfaces import Finding

COPIES = 0.05
"""Share of rows whose target is their source, from which on we warn."""
_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
_SPECIAL = re.compile(
    r"</?s>|<(?:pad|unk|mask|bos|eos|extra_id_\d+)>|<\|[a-z_]+\|>|\[(?:PAD|UNK|CLS|SEP|MASK)\]|__[a-z]{2,3}__"
)
"""Special tokens of the families that `AutoModelForSeq2SeqLM` loads, as tokenizers take them out of plain text."""


def first(target: Any) -> Any:
    """Return a target, or the first of several."""
    return (target[0] if target else None) if isinstance(target, list | tuple) else target


def check_source(source: Any, number: int, column: str) -> Iterator[Finding]:
    """Yield what is wrong with one source."""
    problem = _problem("source", source, missing="row")
    if problem is not None:
        yield Finding(**problem, row=number, column=column, value=None if source is None else str(source))


def check_target(target: Any, number: int, column: str) -> Iterator[Finding]:
    """Yield what is wrong with one target, or with one of several."""
    for each in (target or [""]) if isinstance(target, list | tuple) else [target]:
        problem = _problem("target", each, missing="error")
        if problem is not None:
            yield Finding(**problem, row=number, column=column, value=None if each is None else str(each))


def _problem(side: str, value: Any, *, missing: str) -> dict[str, Any] | None:
    drop = "Fill it in, or drop the row."
    if value is None:
        return {"code": f"{side}-missing", "message": f"the row has no {side}.", "fix": drop, "level": missing}
    if not isinstance(value, str):
        message = f"text was wanted, not {type(value).__name__}."
        return {"code": f"{side}-not-text", "message": message, "fix": "Write it as text.", "level": "error"}
    if not value or (not value[0].isalnum() and all(unicodedata.category(c) in _INVISIBLE for c in value)):
        return {"code": f"{side}-empty", "message": f"nothing in the {side} can be seen.", "fix": drop}
    return None


class Tally:
    """Counts what only many rows tell."""

    def __init__(self) -> None:
        self.rows = 0
        self._counts = dict.fromkeys(("copies", "special", "several"), 0)
        self._firsts: dict[str, tuple[int, str]] = {}

    def add(self, number: int, source: Any, target: Any) -> None:
        """Take in one row."""
        self.rows += 1
        written = first(target)
        if isinstance(written, str) and written == source:
            self._count("copies", number, written)
        token = next((found for text in (source, written) if (found := _special(text))), None)
        if token is not None:
            self._count("special", number, token)
        if isinstance(target, list | tuple) and len(target) > 1:
            self._count("several", number, str(target))

    def _count(self, name: str, number: int, value: str) -> None:
        self._counts[name] += 1
        self._firsts.setdefault(name, (number, value))

    def findings(self) -> Iterator[Finding]:
        """Yield a warning for each that there was, with its first row."""
        copies, special, several = self._counts.values()
        if copies > COPIES * self.rows:
            yield self._warning(
                "copies", "source-equals-target", f"in {copies:,} of {self.rows:,} rows the target is the source.",
                "Are they the right columns? What remains teaches the model to copy.",
            )  # fmt: skip
        if special:
            yield self._warning(
                "special", "special-token-in-text", f"{special:,} rows hold what may be taken for a special token.",
                "Remove it: a written </s> ends the text for the model.",
            )  # fmt: skip
        if several:
            yield self._warning(
                "several", "several-targets", f"{several:,} rows have several targets.",
                "Training uses the first, scoring all.",
            )  # fmt: skip

    def _warning(self, name: str, code: str, message: str, fix: str) -> Finding:
        number, value = self._firsts[name]
        return Finding(code=code, message=message, fix=fix, level="warning", row=number, value=value)


def _special(text: Any) -> str | None:
    found = _SPECIAL.search(text) if isinstance(text, str) else None
    return found[0] if found else None
