"""What can be wrong with data: the codes, and the report that collects them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from finetune.errors import BadData, did_you_mean
from finetune.interfaces import Finding

SHOWN = 20
"""Findings kept of each code; all are counted."""

CODES: dict[str, str] = {
    # the source
    "no-such-file": "the file or folder does not exist, or a pattern matches nothing",
    "not-a-file": "a device, a pipe, a loop of links, or a folder where a file is wanted",
    "unreadable-file": "the operating system refuses to open or read the file",
    "same-file": "one file is given for two splits, or twice for one",
    "unknown-format": "no reader is for this file",
    "mixed-formats": "one split mixes text files with parquet or arrow files",
    "columns-differ": "a further file of a split lacks columns of the first, or has other types",
    "unknown-split": "a split is named that is not there, or a name that is no part of a run",
    "unused-split": "a split of the source plays no part in the run (warning)",
    "source-failed": "a Hub data set, a plugin's source or a Python function gave no rows",
    # bytes and text
    "wrong-encoding": "bytes that are not text in the encoding given",
    "truncated-gzip": "a .gz file that ends too early",
    "corrupt-gzip": "a .gz file that does not decompress",
    "not-gzip": "a file called .gz that is not compressed",
    "unnamed-gzip": "a compressed file that is not called .gz",
    "record-too-long": "one line or record is longer than 64 Mi characters",
    "corrupt-file": "a parquet or arrow file that cannot be read",
    "no-rows": "a split without a single row",
    "blank-line": "a blank line in a plain text file: skipped, and counted in the data report alone",
    # csv and tsv
    "ragged-row": "a row has more or fewer fields than the header",
    "stray-quote": "a quote inside a field that is not quoted, or text after a closing quote",
    "unclosed-quote": "a quoted field that never ends, or ends where text follows",
    "bare-carriage-return": "a carriage return outside quotes that ends no line",
    "duplicate-column": "two columns of one name",
    "empty-column-name": "a column without a name",
    "wrong-delimiter": "a header of one column that holds another delimiter",
    # JSON
    "bad-json": "text that is not JSON",
    "not-an-array": "a .json file that is no array of objects",
    "truncated-json": "a JSON array that ends too early",
    "text-after-end": "text after the end of a JSON array",
    "not-an-object": "a row that is not an object (a mapping of columns to values)",
    "duplicate-key": "an object that has a key twice",
    "not-a-number": "the literals NaN, Infinity and -Infinity, which JSON does not have",
    "number-too-large": "an integer of more than 64 bits, or a number that the column's type cannot hold exactly",
    "missing-key": "a row lacks a key that the first row has (warning where the task does not use the column)",
    "extra-key": "a key that the first row does not have; earlier rows are read as None (warning, once a key)",
    "missing-nested-key": "a nested object lacks a key that others have; it is read as None (warning, once a key)",
    "too-many-keys": "nested objects with thousands of different keys: a mapping that should be a list",
    "type-changed": "a value of another type than the rows before",
    "unsupported-type": "a Python value that a table cannot hold",
    "lone-surrogate": "half of a surrogate pair, which is no character",
    "nul": "a NUL character, which no text holds",
    # the table
    "unknown-rename": "a rename of a column that is not there",
    "rename-clash": "a rename onto a name that is taken",
    "constant-exists": "a column given by `dataset.constants` is in the data already",
    "missing-column": "a column that the task needs is not there",
    "cannot-part": "too few rows or groups to part validation from train",
}
"""Every code of the core's own, and what it means; preprocessors bring more."""


def blank_line(line: int) -> Finding:
    """Return what a reader yields for a blank line: skipped, and counted in the data report alone."""
    return Finding(code="blank-line", message="a blank line", level="warning", line=line)


class UnreadableError(Exception):
    """Reading of a file cannot go on; carries the finding through whichever reader is at work."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class Report:
    """Collects findings: 20 of a code with their places, and the number of all."""

    def __init__(self, *, on_bad: str = "error") -> None:
        self.drops = on_bad == "drop"
        self._tally: Counter[tuple[str, str]] = Counter()
        self._kept: dict[str, list[Finding]] = {}

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if it is among the first of its code."""
        self._tally[finding.code, finding.level] += 1
        kept = self._kept.setdefault(finding.code, [])
        if len(kept) < SHOWN:
            kept.append(replace(finding, value=cut(finding.value)))

    def error(self, code: str, message: str, *, fix: str = "", **place: Any) -> None:
        """Add a finding that always stops."""
        self.add(Finding(code=code, message=message, fix=fix, level="error", **place))

    def merge(self, other: Report, *, warnings: bool = True) -> None:
        """Add what another report holds, with or without its warnings."""
        for (code, level), number in other._tally.items():
            if warnings or level != "warning":
                self._tally[code, level] += number
        for code, findings in other._kept.items():
            kept = self._kept.setdefault(code, [])
            kept += [f for f in findings if warnings or f.level != "warning"][: SHOWN - len(kept)]

    @property
    def counts(self) -> dict[str, int]:
        """The number of all findings, by code."""
        counts: Counter[str] = Counter()
        for (code, _), number in self._tally.items():
            counts[code] += number
        return dict(counts)

    @property
    def levels(self) -> Counter[str]:
        """The number of all findings, by level."""
        levels: Counter[str] = Counter()
        for (_, level), number in self._tally.items():
            levels[level] += number
        return levels

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings kept, code by code."""
        return tuple(finding for kept in self._kept.values() for finding in kept)

    @property
    def stops(self) -> bool:
        """Whether what was found stops the run."""
        return bool(self.levels["error"] or (self.levels["row"] and not self.drops))

    def stop(self) -> None:
        """Raise `BadData` if what was found stops the run."""
        if self.stops:
            raise BadData(self.summary(), findings=self.findings, counts=self.counts)

    def summary(self, *, first: int = 5) -> str:
        """Return what a person reads: the first few findings of the worst level, and the number of each code."""
        levels: tuple[Literal["error", "row", "warning"], ...] = ("error", "row", "warning")
        ordered = [finding for level in levels for finding in self.findings if finding.level == level]
        total = sum(self.counts.values())
        lines = [f"{total:,} finding{'s' if total != 1 else ''} in the data."]
        lines += [f"  {said(finding)}" for finding in ordered[:first]]
        if total > len(ordered[:first]):
            lines.append(f"  … and {total - len(ordered[:first]):,} more")
        lines.append(
            "By code: " + ", ".join(f"{code} {number:,}" for code, number in sorted(self.counts.items())) + "."
        )
        if self.levels["row"] and not self.levels["error"]:
            lines.append(
                "Mend the rows, or set dataset.on_bad: drop to leave bad rows out, counted and listed in dropped.jsonl."
            )
        return "\n".join(lines)


def said(finding: Finding) -> str:
    """Return a finding as one line: ``reviews.csv:12: label: message. fix``.

    >>> said(Finding(code="nul", message="a NUL character", fix="Remove it.", file="a.csv", line=3, column="text"))
    'a.csv:3: text: a NUL character. Remove it.'
    """
    row = None if finding.row is None else f"row {finding.row}"
    if finding.file is not None and finding.line is not None:
        place = f"{finding.file}:{finding.line}"
    else:
        place = ", ".join(part for part in (finding.file or finding.split, row) if part)
    message = finding.message if finding.message.endswith((".", "?", "!")) else f"{finding.message}."
    parts = [part for part in (place, finding.column, message) if part]
    return visible(": ".join(parts) + (f" {finding.fix}" if finding.fix else ""))


def cut(value: object | None, *, length: int = 80) -> str | None:
    """Return a value as text of at most ``length`` characters that any terminal can show."""
    if value is None:
        return None
    text = visible(str(value)[: length + 1])
    return text if len(text) <= length else text[: length - 1] + "…"


def visible(text: str) -> str:
    """Spell out what cannot be encoded: a lone surrogate."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that differs only in case or outer spaces, or else the most similar one.

    >>> nearest("label", ["text", " Label"])
    ' Label'
    """
    known = list(known)
    for other in known:
        if other.strip().casefold() == name.strip().casefold():
            return other
    hint = did_you_mean(name, known)
    return next((other for other in known if hint and hint == f" Did you mean {other!r}?"), None)
