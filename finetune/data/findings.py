"""Findings: what can be wrong with data. The codes, and the report that collects the findings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from finetune.errors import BadData, did_you_mean
from finetune.interfaces import Finding

_LEVELS: tuple[Literal["error", "row", "warning"], ...] = ("error", "row", "warning")
SHOWN = 20
"""Most findings of a code that are kept; all are counted."""
UNREAD = "unread-columns"
"""Code of columns that the task does not read; a preprocessor that says what such a column would do uses it too."""

CODES: dict[str, str] = {
    # the source
    "no-such-file": "the file or folder does not exist, or no file matches the pattern",
    "not-a-file": "the path is a device, a pipe, a broken link, or a folder instead of a file",
    "unreadable-file": "the operating system cannot open or read the file",
    "same-file": "the same file is given for two splits, or twice for one split",
    "unknown-format": "no reader can read this file; if it is an archive or a workbook, the message says so",
    "mixed-formats": "a split mixes text files with parquet or arrow files",
    "columns-differ": "another file of a split lacks columns of the first file, or has other types",
    "unknown-split": "the named split does not exist, or the name is not train, validation or test",
    "folder-left-out": "texts are not used, because not every split has the folder of their label (warning)",
    "unused-split": "the run does not use this split of the source (warning)",
    "unlabelled-split": "no row of a held-out split has an answer, so the run does not use it (warning)",
    "source-failed": "a Hub data set, a plugin's source or a Python function returned no rows",
    # bytes and text
    "wrong-encoding": "the bytes are not text in the given encoding",
    "truncated-gzip": "the .gz file ends too early",
    "corrupt-gzip": "the .gz file cannot be decompressed",
    "not-gzip": "the file name ends in .gz, but the content is not compressed",
    "unnamed-gzip": "the content is compressed, but the file name does not end in .gz",
    "record-too-long": "a line or record is longer than 64 Mi characters",
    "corrupt-file": "the parquet or arrow file cannot be read",
    "no-rows": "the split has no rows; or a warning: one of its files has none",
    "blank-line": "a blank line in a text file; it is skipped, and counted in the data report only",
    # csv and tsv
    "ragged-row": "the row has more or fewer fields than the header",
    "stray-quote": "there is a quote inside an unquoted field, or text after a closing quote",
    "unclosed-quote": "a quoted field is never closed, or text follows where it is closed",
    "bare-carriage-return": "there is a carriage return outside quotes that does not end a line",
    "bad-column-name": "the name of a column holds a control character, such as NUL",
    "duplicate-column": "two columns have the same name",
    "no-header": "the first line of a csv or tsv file holds values instead of the names of the columns",
    "other-delimiter": "the first line of a csv file has no comma; another delimiter is used (warning)",
    "wrong-delimiter": "the delimiter of the file is not that of the format, or is unclear",
    # JSON
    "bad-json": "the text is not JSON",
    "not-an-array": "the .json file holds no list of objects; the message names its shape",
    "rows-in-object": "the rows of the .json file are inside one object; the message says where (warning)",
    "truncated-json": "the JSON array ends too early",
    "text-after-end": "there is text after the end of the JSON array",
    "not-an-object": "the row is not an object (a mapping of columns to values)",
    "duplicate-key": "an object has the same key twice",
    "not-a-number": "a number is NaN, Infinity or -Infinity, which JSON does not allow",
    "number-too-large": "the integer has more than 64 bits, or the column's type cannot hold the number exactly",
    "missing-key": "the row lacks a key of the first row (warning if the task does not use the column)",
    "extra-key": "the first row does not have this key; earlier rows get None (warning, once per key)",
    "missing-nested-key": "a nested object lacks a key that others have; it gets None (warning, once per key)",
    "too-many-columns": "the table has more than 2,000 columns",
    "too-many-keys": "over 1,000 keys are in some rows only, or one column has over 2,000; store the mapping as a list",
    "type-changed": "the value has another type than the other values of its column",
    "column-left-out": "the values of a column do not fit together; the task does not read it (warning)",
    "unsupported-type": "a table cannot hold this Python value",
    "lone-surrogate": "the text holds half of a surrogate pair, which is not a character",
    "nul": "the text holds a NUL character",
    # the table
    "unknown-rename": "the column to rename does not exist",
    "rename-clash": "the new name of a column is already in use",
    "constant-exists": "the data already has a column that `dataset.constants` gives",
    "missing-column": "a column that the task needs does not exist",
    "unread-columns": "the task does not read these columns of the data; the message names them (warning)",
    "input-differs": "rows use a column that changes the input, such as `text_pair`, unlike the rows of train",
    "unknown-tokens": "the tokenizer does not know many characters of a column, or some that a model must write",
    "answers-over-limit": "over 1% of the answers or rows are longer than an option allows (warning)",
    "longer-than-context": "features have more tokens than the model was made for (warning)",
    "cannot-split": "there are too few rows or groups to split validation from train",
    "label-only-in-train": "a label has too few rows for both splits, so the automatic split keeps them all in train "
    "(warning)",
    "label-left-out": "`dataset.limit` leaves train no row with a label, so the held-out rows with it are left out "
    "(warning)",
    "too-much-held-out": "more than 100,000 rows are split off from a stream",
    # predictions
    "too-few-rows-for-coverage": "`--coverage` asks for a share that the run had too few rows of validation for",
}
"""Every code of the core and its meaning; preprocessors add more."""


def blank_line(line: int) -> Finding:
    """Return the finding of a blank line, which is skipped and counted in the data report only."""
    return Finding(code="blank-line", message="the line is blank.", level="warning", line=line)


class UnreadableError(Exception):
    """A file cannot be read any further; carries the finding out of the reader."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class Report:
    """Collects findings: the first 20 of each code with their places, and the number of all.

    Args:
        on_bad: ``drop`` if bad rows are left out, ``error`` if they stop the run.
        remedy: What to do if nothing but bad rows stops the run.
    """

    def __init__(self, *, on_bad: str = "error", remedy: str = "") -> None:
        self._remedy = remedy
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
        """Add a finding that always stops the run."""
        self.add(Finding(code=code, message=message, fix=fix, level="error", **place))

    def merge(self, other: Report, *, warnings: bool = True) -> None:
        """Add the findings of another report, with or without its warnings."""
        for (code, level), number in other._tally.items():
            if warnings or level != "warning":
                self._tally[code, level] += number
        for code, findings in other._kept.items():
            kept = self._kept.setdefault(code, [])
            for finding in findings:
                if len(kept) < SHOWN and (warnings or finding.level != "warning"):
                    kept.append(finding)

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
        """The kept findings, grouped by code."""
        return tuple(finding for kept in self._kept.values() for finding in kept)

    @property
    def stops(self) -> bool:
        """Whether the findings stop the run."""
        return bool(self.levels["error"] or (self.levels["row"] and not self.drops))

    def stop(self) -> None:
        """Raise an error if the findings stop the run.

        Raises:
            BadData: With the kept findings and all counts.
        """
        if self.stops:
            raise BadData(self.summary(), findings=self.findings, counts=self.counts)

    def summary(self, *, first: int = 5) -> str:
        """Return a summary for people: some findings, the worst level first, and the number of each code.

        Args:
            first: How many findings to show.
        """
        shown = sorted(self.findings, key=lambda finding: _LEVELS.index(finding.level))[:first]
        total = sum(self.counts.values())
        lines = [f"{total:,} finding{'s' if total != 1 else ''} in the data."]
        lines += [f"  {one_line(finding)}" for finding in shown]
        if total > len(shown):
            lines.append(f"  … and {total - len(shown):,} more")
        counts = ", ".join(f"{code} {number:,}" for code, number in sorted(self.counts.items()))
        lines.append(f"By code: {counts}.")
        if self._remedy and self.levels["row"] and not self.levels["error"]:
            lines.append(self._remedy)
        return "\n".join(lines)


def one_line(finding: Finding) -> str:
    """Return a finding as one line: ``reviews.csv:12: label: message. fix``.

    >>> one_line(Finding(code="nul", message="a NUL character", fix="Remove it.", file="a.csv", line=3, column="text"))
    'a.csv:3: text: a NUL character. Remove it.'
    """
    parts = [part for part in (place_of(finding), finding.column, with_value(finding)) if part]
    return visible(": ".join(parts) + (f" {finding.fix}" if finding.fix else ""))


def with_value(finding: Finding) -> str:
    r"""Return the message of a finding, with the wrong value unless the message or the fix shows it.

    >>> with_value(Finding(code="type-changed", message="expected a name.", value="1.4"))
    'expected a name (found: 1.4).'
    >>> with_value(Finding(code="type-changed", message="'1.4' is a number", value="1.4"))
    "'1.4' is a number."
    """
    message = finding.message if finding.message.endswith((".", "?", "!")) else f"{finding.message}."
    value = cut(finding.value) or ""
    bare = value.strip().strip("'\"").strip()
    if not bare or re.search(rf"(?<!\w){re.escape(bare)}(?!\w)", f"{message} {finding.fix}"):
        return message
    printable = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in value)
    return f"{message[:-1]} (found: {printable}){message[-1]}"


def place_of(finding: Finding) -> str:
    """Return the place of a finding's row: ``reviews.csv:12``, ``test, row 3``, or ``squad.json:1: data[0]``.

    >>> place_of(Finding(code="nul", message="", split="test", row=3))
    'test, row 3'
    """
    if finding.file is not None and finding.line is not None:
        place = f"{finding.file}:{finding.line}"
    else:
        row = None if finding.row is None else f"row {finding.row}"
        place = ", ".join(part for part in (finding.file or finding.split, row) if part)
    return f"{place}: {finding.path}" if finding.path else place


def cut(value: object | None, *, length: int = 80) -> str | None:
    """Return a value as text of at most ``length`` characters, without lone surrogates."""
    if value is None:
        return None
    text = visible(str(value)[: length + 1])
    return text if len(text) <= length else text[: length - 1] + "…"


def visible(text: str) -> str:
    """Return a text with escapes for lone surrogates, which cannot be encoded."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that differs only in case or outer spaces, else the most similar one, else None.

    >>> nearest("label", ["text", " Label"])
    ' Label'
    """
    known = list(known)
    for other in known:
        if other.strip().casefold() == name.strip().casefold():
            return other
    hint = did_you_mean(name, known)
    return next((other for other in known if hint and hint == f" Did you mean {other!r}?"), None)
