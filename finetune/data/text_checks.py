"""Checks that every task with texts shares: texts that are missing, empty or broken, and rows that repeat."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterator
from hashlib import blake2b
from typing import Any, Literal

from finetune.interfaces import Finding

_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_FILL_IN = "Fill it in, or drop the row."


def is_blank(text: str) -> bool:
    """Say whether nothing in a text can be seen: no characters, or only white space, control and format characters.

    >>> is_blank(""), is_blank(" \\u200b\\n"), is_blank("a")
    (True, True, False)
    """
    if text and text[0].isalnum():  # the usual case, without a look at each character
        return False
    return all(unicodedata.category(character) in _INVISIBLE for character in text)


def check_text(
    value: Any, *, row: int, column: str, name: str = "text", missing: Literal["row", "error"] = "row"
) -> Iterator[Finding]:
    """Yield what is wrong with one text: the codes ``NAME-missing``, ``-not-text``, ``-empty`` and ``-surrogate``.

    Args:
        value: The cell.
        row: Position of its row.
        column: Its column.
        name: What the text is called in codes and messages.
        missing: Level of the finding where there is no value.
    """
    if value is None:
        yield Finding(
            code=f"{name}-missing", message=f"the row has no {name}.", fix=_FILL_IN, level=missing,
            row=row, column=column,
        )  # fmt: skip
    elif not isinstance(value, str):
        yield Finding(
            code=f"{name}-not-text", message=f"expected text, found {type(value).__name__}.",
            fix="Write the column as text.", level="error", row=row, column=column, value=str(value),
        )  # fmt: skip
    elif is_blank(value):
        yield Finding(
            code=f"{name}-empty", message=f"the {name} has no visible character.", fix=_FILL_IN,
            row=row, column=column, value=value,
        )  # fmt: skip
    elif _SURROGATE.search(value):
        yield Finding(
            code=f"{name}-surrogate", message=f"the {name} holds half of a surrogate pair, which no tokenizer reads.",
            fix="Repair the encoding.", level="error", row=row, column=column, value=ascii(value),
        )  # fmt: skip


class DuplicateCounter:
    """Counts rows that repeat an earlier one, with the same label or with another, in 8 bytes and a label a row.

    >>> seen = DuplicateCounter()
    >>> for row, (text, label) in enumerate([("tar", 0), ("tar", 0), ("tar", 1)]):
    ...     seen.add(row, text, label)
    >>> seen.repeats, seen.conflicts
    (1, 1)
    """

    def __init__(self) -> None:
        self._labels: dict[bytes, Hashable] = {}
        self.repeats = 0
        """Rows whose key came before with the same label."""
        self.conflicts = 0
        """Rows whose key came before with another label."""
        self._first_repeat: int | None = None
        self._first_conflict: int | None = None

    def add(self, row: int, key: object, label: Hashable = None) -> None:
        """Count one row.

        Args:
            row: Its position.
            key: What makes two rows the same; compared by its `repr`.
            label: What they should agree on.
        """
        digest = blake2b(repr(key).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if digest not in self._labels:
            self._labels[digest] = label
        elif self._labels[digest] == label:
            self.repeats += 1
            self._first_repeat = row if self._first_repeat is None else self._first_repeat
        else:
            self.conflicts += 1
            self._first_conflict = row if self._first_conflict is None else self._first_conflict

    def repeat_warning(
        self, message: str, *, column: str, fix: str = "Remove them, or keep in mind that they count more than once."
    ) -> Iterator[Finding]:
        """Yield ``duplicate-rows`` if there are any; ``message`` follows their number: ``rows repeat an earlier text.``"""
        if self.repeats:
            yield Finding(
                code="duplicate-rows", message=f"{self.repeats:,} {message}", fix=fix, level="warning",
                row=self._first_repeat, column=column,
            )  # fmt: skip

    def conflict_warning(
        self, message: str, *, column: str, code: str = "label-conflict",
        fix: str = "Decide which label is right: no model can learn both.",
    ) -> Iterator[Finding]:  # fmt: skip
        """Yield a finding if rows repeat with another label; ``message`` follows their number."""
        if self.conflicts:
            yield Finding(
                code=code, message=f"{self.conflicts:,} {message}", fix=fix, level="warning",
                row=self._first_conflict, column=column,
            )  # fmt: skip
