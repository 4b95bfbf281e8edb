"""Checks for tasks with texts: missing, empty and broken texts, and duplicate rows."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np

from finetune.data import storage
from finetune.interfaces import Finding

_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_FILL_IN = "Add the value, or remove the row."
# The names that tokenizers of the Hub give to their special tokens: [CLS], <s>, </s>, <|endoftext|>, <extra_id_0> …
_SPECIAL = re.compile(
    r"\[(?:CLS|SEP|PAD|UNK|MASK)\]|</?s>|<(?:pad|unk|mask|cls|sep|bos|eos|extra_id_\d+|(?:start|end)_of_turn)>"
    r"|<\|[a-z0-9_]+\|>|__[a-z]{2,3}__"
)


def special_token_in(text: str) -> str | None:
    """Return the first part of a text that looks like a special token of a common tokenizer, or None.

    >>> special_token_in("The </s> tag"), special_token_in("a < b")
    ('</s>', None)
    """
    match = _SPECIAL.search(text)
    return match[0] if match else None


def is_blank(text: str) -> bool:
    """Return whether a text has no visible character, only white space, control and format characters.

    >>> is_blank(""), is_blank(" \\u200b\\n"), is_blank("a")
    (True, True, False)
    """
    if text and text[0].isalnum():  # the usual case; it avoids a look at each character
        return False
    return all(unicodedata.category(character) in _INVISIBLE for character in text)


def check_text(
    value: Any, *, row: int, column: str, name: str = "text", missing: Literal["row", "error"] = "row"
) -> Iterator[Finding]:
    """Yield what is wrong with one text: the codes ``NAME-missing``, ``-not-text``, ``-empty`` and ``-surrogate``.

    Args:
        value: The value of the cell.
        row: Position of the row.
        column: Name of the column.
        name: Name of the text in codes and messages.
        missing: Level of the finding if there is no value.
    """
    if value is None:
        yield Finding(
            code=f"{name}-missing", message=f"the row has no {name}.", fix=_FILL_IN, level=missing,
            row=row, column=column,
        )  # fmt: skip
    elif not isinstance(value, str):
        yield Finding(
            code=f"{name}-not-text", message=f"the value has the type {type(value).__name__}. It must be text.",
            fix="Write the column as text.", level="error", row=row, column=column, value=str(value),
        )  # fmt: skip
    elif is_blank(value):
        yield Finding(
            code=f"{name}-empty", message=f"the {name} has no visible character.", fix=_FILL_IN,
            row=row, column=column, value=value,
        )  # fmt: skip
    elif _SURROGATE.search(value):
        yield Finding(
            code=f"{name}-surrogate",
            message=f"the {name} contains half of a surrogate pair, which no tokenizer can read.",
            fix="Correct the encoding of the text.", level="error", row=row, column=column, value=ascii(value),
        )  # fmt: skip


_CONTROL = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")


def _texts(number: int) -> str:
    return "1 text contains" if number == 1 else f"{number:,} texts contain"


class TextWarnings:
    """Counts texts with something that texts rarely hold: a special token, or a control character.

    Examples:
        >>> warnings = TextWarnings()
        >>> for row, text in enumerate(["tar", "<s>old</s> tar", "the\x07 bell"]):
        ...     warnings.add(row, "text", text)
        >>> [(finding.code, finding.row) for finding in warnings.findings()]
        [('special-token-in-text', 1), ('control-character', 2)]
    """

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str, str]] = {}
        self._counts: Counter[str] = Counter()

    def add(self, row: int, column: str, text: Any) -> None:
        """Look at one text.

        Args:
            row: Position of the row.
            column: Name of the column.
            text: The value of the cell; blank text and anything else is skipped.
        """
        if not isinstance(text, str) or is_blank(text):  # `check_text` reports a blank one
            return
        # The cheap conditions hold for each text in which the patterns can match.
        if "<" in text or "[" in text or "__" in text:
            self._search("special-token-in-text", _SPECIAL, row, column, text)
        if not (text.isascii() and text.isprintable()):
            self._search("control-character", _CONTROL, row, column, text)

    def _search(self, code: str, pattern: re.Pattern[str], row: int, column: str, text: str) -> None:
        match = pattern.search(text)
        if match:
            self._found.setdefault(code, (row, column, match[0]))
            self._counts[code] += 1

    def findings(self, *, special: str = "It is read as plain text.") -> Iterator[Finding]:
        """Yield a warning for each kind of thing that was found, at its first row.

        Args:
            special: How special tokens are read.
        """
        for code, (row, column, value) in self._found.items():
            texts = _texts(self._counts[code])
            if code == "special-token-in-text":
                message = f"{texts} what looks like a special token. {special}"
                fix = "Remove it if it is left over from earlier processing."
            else:
                message = f"{texts} a control character, or the sign for a damaged one."
                fix = "Remove it, or read the file with the right encoding."
                value = f"U+{ord(value):04X}"
            yield Finding(code=code, message=message, fix=fix, level="warning", row=row, column=column, value=value)


def _counted(number: int, message: str) -> str:
    """Return a message after the number of its rows.

    >>> _counted(2, "rows repeat an earlier text."), _counted(1, "rows repeat an earlier text.")
    ('2 rows repeat an earlier text.', '1 row repeats an earlier text.')
    """
    return f"{number:,} {message}" if number != 1 else re.sub(r"^rows (\w+)", r"1 row \1s", message)


_HELD = 1 << 20
"""Rows of a `DuplicateCounter` in memory, 24 bytes each; more are written to the disk."""
_PARTS = 64
"""Files of those rows. Rows with one key are in one file, and one file at a time is read."""
_NUMBERED = 1 << 16
"""Labels that a `DuplicateCounter` numbers; further ones are known by their digest."""


class DuplicateCounter:
    """Counts rows that repeat an earlier row, with the same label or another one.

    Its memory has a limit, whatever the number of rows.

    >>> seen = DuplicateCounter()
    >>> for row, (text, label) in enumerate([("tar", 0), ("tar", 0), ("tar", 1)]):
    ...     seen.add(row, text, label)
    >>> seen.repeats, seen.conflicts
    (1, 1)
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._held = (array("Q"), array("Q"), array("Q"))
        self._folder: Path | None = None
        self._counted: tuple[_Counted, _Counted] | None = None

    def add(self, row: int, key: object, label: Hashable = None) -> None:
        """Count one row.

        Args:
            row: Position of the row.
            key: Rows whose keys have the same `repr` are duplicates.
            label: The label, which duplicates must share.
        """
        number = self._numbers.get(label)
        if number is None:
            number = _digest(label)
            if len(self._numbers) < _NUMBERED:
                number = self._numbers[label] = len(self._numbers)
        for column, value in zip(self._held, (_digest(key), number, row), strict=True):
            column.append(value)
        self._counted = None
        if len(self._held[0]) >= _HELD:
            self._write()

    @property
    def repeats(self) -> int:
        """Rows with the key and the label of an earlier row."""
        return self._count()[0].rows

    @property
    def conflicts(self) -> int:
        """Rows with the key of an earlier row, but another label."""
        return self._count()[1].rows

    def _write(self) -> None:
        """Move the rows in memory to the files on the disk."""
        self._folder = self._folder or storage.folder()
        rows = np.stack([np.frombuffer(column, np.uint64) for column in self._held], axis=1)
        part = rows[:, 0] % np.uint64(_PARTS)
        for number in range(_PARTS):
            with (self._folder / f"{number}.rows").open("ab") as file:
                file.write(rows[part == number].tobytes())
        self._held = (array("Q"), array("Q"), array("Q"))

    def _count(self) -> tuple[_Counted, _Counted]:
        if self._counted is None:
            repeats, conflicts = _Counted(), _Counted()
            for rows in self._parts():
                order = np.argsort(rows[:, 0], kind="stable")  # rows with one key stay in their order
                keys, labels, numbers = rows[order].T
                begins = np.flatnonzero(np.diff(keys, prepend=keys[:1] + np.uint64(1)))
                first = np.repeat(begins, np.diff(begins, append=len(keys)))
                later = np.arange(len(keys)) != first
                same = labels == labels[first]
                repeats.add(numbers[later & same])
                conflicts.add(numbers[later & ~same])
            self._counted = repeats, conflicts
        return self._counted

    def _parts(self) -> Iterator[Any]:
        """Yield arrays of all rows, those with one key together: key, label and position of each row."""
        if self._folder is None:
            if len(self._held[0]):
                yield np.stack([np.frombuffer(column, np.uint64) for column in self._held], axis=1)
            return
        if len(self._held[0]):
            self._write()
        for number in range(_PARTS):
            rows = np.fromfile(self._folder / f"{number}.rows", np.uint64).reshape(-1, 3)
            if len(rows):
                yield rows

    def repeat_warning(
        self,
        message: str,
        *,
        column: str,
        fix: str = "Remove them, or keep them and know that they count more than once.",
    ) -> Iterator[Finding]:
        """Yield ``duplicate-rows`` if there are any.

        Args:
            message: It follows their number, and begins with "rows" and a verb: ``rows repeat an earlier text.``
            column: The column of the key.
            fix: What to do.
        """
        found = self._count()[0]
        if found.rows:
            yield Finding(
                code="duplicate-rows", message=_counted(found.rows, message), fix=fix, level="warning",
                row=found.first, column=column,
            )  # fmt: skip

    def conflict_warning(
        self, message: str, *, column: str, code: str = "label-conflict",
        fix: str = "Keep the row with the right label: a model cannot learn both.",
    ) -> Iterator[Finding]:  # fmt: skip
        """Yield a finding if rows repeat with another label.

        Args:
            message: It follows their number: ``rows repeat an earlier text with another label.``
            column: The column of the key.
            code: Code of the finding.
            fix: What to do.
        """
        found = self._count()[1]
        if found.rows:
            yield Finding(
                code=code, message=_counted(found.rows, message), fix=fix, level="warning",
                row=found.first, column=column,
            )  # fmt: skip


@dataclass
class _Counted:
    """Number of some rows, and the first of them."""

    rows: int = 0
    first: int | None = None

    def add(self, numbers: Any) -> None:
        """Add the positions of rows."""
        if len(numbers):
            least = int(numbers.min())
            self.rows += len(numbers)
            self.first = least if self.first is None else min(self.first, least)


def _digest(value: object) -> int:
    """Return 64 bits of a hash of a value's `repr`."""
    return int.from_bytes(blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
