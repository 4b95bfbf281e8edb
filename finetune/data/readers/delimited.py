r"""csv and tsv, read strictly: every value is text, and no field moves to another column.

csv follows RFC 4180: a field can be in double quotes, a quote inside it is doubled, and it can
hold commas and line ends, which are kept. Another delimiter can take the place of the comma.
tsv has no quoting: every tab separates two fields, every line is a row, and a quote is an ordinary
character. In both, ``\n`` and ``\r\n`` end a line. A lone ``\r`` is data inside quotes and in tsv;
outside quotes in csv it is a finding. A first line such as ``sep=;``, which Excel reads, names the
delimiter of a csv file. A column without a name in the header gets the name that pandas gives it,
`Unnamed: 0`.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import ClassVar

from finetune.data.columns import bad_name, too_many_columns
from finetune.data.findings import blank_line
from finetune.data.kinds import MOST_COLUMNS, control_in
from finetune.data.readers.text import LONGEST, lines, too_long
from finetune.interfaces import Finding, Reader, Row

Record = tuple[int, list[str]]

_DELIMITERS = ";\t|"
"""Delimiters other than the comma that a csv file may have."""
_DECLARED = re.compile('"?sep=([^"\r])"?\r?', re.IGNORECASE)
"""A first line for Excel that names the delimiter, and is no row."""
_QUOTED = re.compile('"[^"]*(?:"|$)')
_CLOSE_IT = "Close the quote, or double the quotes inside the field."
_OLD_MAC = "Lines must end in \\n or \\r\\n. If the file is from an old Mac, save it again."


@dataclass(frozen=True, kw_only=True)
class DelimitedReader(Reader):
    """What csv and tsv share: a header, and rows with as many fields."""

    names: tuple[str, ...] = ()
    """Names of the columns of a file without a header, in order: `[label, text]`. The first line is then a row."""

    quotes: ClassVar[bool]
    """Whether a field can be in quotes."""

    def __post_init__(self) -> None:
        usable = all(name.strip() and not control_in(name) and "\r" not in name for name in self.names)
        if len(set(self.names)) < len(self.names) or not usable:
            raise ValueError("names must be the names of the columns, all different")

    @property
    def given(self) -> str | None:
        """The delimiter that the options give."""
        return None

    def recognises(self, head: str) -> bool:
        """Return True: this reader takes every file of these suffixes that no other reader recognises."""
        return True

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield the rows as mappings from the names of the header to text."""
        content = lines(text, file=file)
        before: list[str] = []
        declared, at = "", 0
        for line in content:
            before.append(line)
            excel = _DECLARED.fullmatch(line) if self.quotes and not declared else None
            if excel:
                declared, at, before[-1] = excel[1], len(before), ""  # the lines after it keep their numbers
            elif line.rstrip("\r"):
                break
        delimiter = self.given or declared or (yield from self.detect(before[-1] if before else "", line=len(before)))
        if not delimiter:
            return
        records = self.records(chain(before, content), delimiter=delimiter, file=file)
        if declared:  # its line was not blank in the file
            records = (each for each in records if not (isinstance(each, Finding) and each.line == at))
        header = list(self.names) or (yield from self._header(records))
        width = len(header)
        for record in records if header else ():
            if type(record) is not tuple:
                yield record  # type: ignore[misc]
            elif len(record[1]) == width:
                yield record[0], dict(zip(header, record[1], strict=True))
            else:
                yield self._ragged(record, header, delimiter)

    @abstractmethod
    def detect(self, header: str, *, line: int) -> Generator[Finding, None, str]:
        """Return the delimiter of a file from its first line, with a finding if it is not that of the format.

        The delimiter is empty if the file cannot be read.
        """

    @abstractmethod
    def records(self, lines: Iterable[str], *, delimiter: str, file: str) -> Iterator[Record | Finding]:
        """Yield the line where each record begins, and its fields."""

    def _header(self, records: Iterator[Record | Finding]) -> Generator[Finding, None, list[str]]:
        """Yield the findings of the header; return its names, or an empty list if it cannot be used."""
        for record in records:
            if isinstance(record, Finding) and record.code == "blank-line":
                yield record
                continue
            if isinstance(record, Finding):
                yield replace(record, level="error", message=f"in the header, {record.message}")
                return []
            names = with_names(record[1])
            problems = list(self._problems(record[0], names))
            yield from problems
            return [] if problems else names
        return []

    def _problems(self, line: int, names: list[str]) -> Iterator[Finding]:
        if len(names) > MOST_COLUMNS:
            yield replace(too_many_columns(len(names)), line=line)
            return
        for name in names:
            control = control_in(name)
            if control:
                yield replace(bad_name(name, control), line=line)
        if any("\r" in name for name in names):
            yield _error(line, "bare-carriage-return", "the name of a column contains a carriage return.", fix=_OLD_MAC)
        for name, times in Counter(names).items():
            if times > 1:
                message = f"{times} columns have the name {name!r}."
                yield _error(line, "duplicate-column", message, fix="Give them different names.", column=name)

    def _ragged(self, record: Record, header: list[str], delimiter: str) -> Finding:
        line, fields = record
        more = len(fields) > len(header)
        fix = f"Check whether a {delimiter!r} is missing."
        if more:
            fix = f"Check for an extra {delimiter!r}."
            if self.quotes:
                fix += " A field that contains one must be in double quotes."
        names = "dataset.options.names" if self.names else "the header"
        return Finding(
            code="ragged-row",
            message=f"the row has {len(fields)} field{'' if len(fields) == 1 else 's'}, {names} has {len(header)}.",
            fix=fix,
            line=line,
            column=None if more else header[len(fields)],
            value=delimiter.join(fields),
        )


@dataclass(frozen=True, kw_only=True)
class CsvReader(DelimitedReader):
    """Reads comma-separated values as RFC 4180 defines them, also with another delimiter than the comma."""

    delimiter: str | None = None
    """The character between two fields. By default it is the comma. If the first line has no comma
    outside quotes, but has semicolons, tabs or bars (`|`), it is that character, with a warning. A
    first line `sep=;`, as Excel writes it, states it."""

    suffixes: ClassVar[tuple[str, ...]] = (".csv",)
    quotes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ValueError("delimiter must be one character, and neither a double quote nor a line end")

    @property
    def given(self) -> str | None:
        """The delimiter that the options give."""
        return self.delimiter

    def detect(self, header: str, *, line: int) -> Generator[Finding, None, str]:
        """Return the delimiter that the options give, or that the first line has, with a warning if it is no comma."""
        if self.delimiter is not None:
            return self.delimiter
        plain = _QUOTED.sub("", header)
        found = [] if "," in plain else [mark for mark in _DELIMITERS if mark in plain]
        if len(found) > 1:
            message = f"the first line has no comma, but {' and '.join(map(repr, found))}. It is unclear which one"
            fix = f"Set dataset.options: {{delimiter: {_in_yaml(found[0])}}}, or another character."
            yield _error(line, "wrong-delimiter", f"{message} separates the columns.", fix=fix, value=header)
            return ""
        if found:
            yield Finding(
                code="other-delimiter",
                message=f"the first line has no comma, so the file is read with {found[0]!r} as its delimiter.",
                fix=f"To read it without this warning: dataset.options: {{delimiter: {_in_yaml(found[0])}}}.",
                level="warning",
                line=line,
            )
            return found[0]
        return ","

    def records(self, lines: Iterable[str], *, delimiter: str, file: str) -> Iterator[Record | Finding]:
        """Yield the records. A line without quotes is split at once; others are read character by character."""
        numbered = enumerate(lines, 1)
        for number, line in numbered:
            if '"' in line:
                record = _Quoted(number, line, numbered, delimiter, file).record()
                yield record
                if type(record) is Finding and record.level == "error":
                    return  # after an unclosed quote, the rows are not known
                continue
            plain = line.removesuffix("\r")
            if "\r" in plain:
                yield _bare_return(number, line)
            elif plain:
                yield number, plain.split(delimiter)
            else:
                yield blank_line(number)


@dataclass(frozen=True, kw_only=True)
class TsvReader(DelimitedReader):
    """Reads tab-separated values; quotes are ordinary characters."""

    suffixes: ClassVar[tuple[str, ...]] = (".tsv",)
    quotes: ClassVar[bool] = False

    def detect(self, header: str, *, line: int) -> Generator[Finding, None, str]:
        """Return the tab; yield an error if the first line has none, but another delimiter."""
        found = [] if "\t" in header else [mark for mark in "," + _DELIMITERS if mark in header]
        if found:
            yield _error(
                line,
                "wrong-delimiter",
                f"the header has one column, {header!r}. The file seems to use {found[0]!r} as its delimiter.",
                fix="Set dataset.format: csv.",
                value=header,
            )
        return "" if found else "\t"

    def records(self, lines: Iterable[str], *, delimiter: str, file: str) -> Iterator[Record | Finding]:
        """Yield the lines, split at tabs."""
        for number, line in enumerate(lines, 1):
            plain = line.removesuffix("\r")
            yield (number, plain.split(delimiter)) if plain else blank_line(number)


class _Quoted:
    """Reads one record with quotes, which can span several lines."""

    def __init__(self, number: int, line: str, rest: Iterator[tuple[int, str]], delimiter: str, file: str) -> None:
        self.first = self.number = number
        self.line = line
        self.rest = rest
        self.delimiter = delimiter
        self.file = file
        self.position = 0
        self.size = 0

    def record(self) -> Record | Finding:
        """Return the line where the record begins and its fields, or the finding that makes it bad."""
        fields: list[str] = []
        while True:
            quoted = self.line.startswith('"', self.position)
            field = self._quoted() if quoted else self._plain()
            if isinstance(field, Finding):
                return field
            fields.append(field)
            if self.line[self.position :] in {"", "\r"}:
                return self.first, fields
            self.position += 1  # skip the delimiter

    def _plain(self) -> str | Finding:
        end = self.line.find(self.delimiter, self.position)
        field = self.line[self.position :].removesuffix("\r") if end < 0 else self.line[self.position : end]
        if "\r" in field:
            return _bare_return(self.first, field)
        if '"' in field:
            return self._stray(f"there is a quote inside the unquoted field {field[:40]!r}.")
        self.position = len(self.line) if end < 0 else end
        return field

    def _quoted(self) -> str | Finding:
        opened, start = self.number, self.position + 1
        parts: list[str] = []
        while True:
            end = self.line.find('"', start)
            if end < 0:
                parts.append(self.line[start:])
                if not self._next_line():
                    message = "the quote that opens here is never closed."
                    return _error(opened, "unclosed-quote", message, fix=_CLOSE_IT, value=parts[0][:80])
                parts.append("\n")
                start = 0
            elif self.line.startswith('""', end):
                parts.append(self.line[start : end + 1])
                start = end + 2
            else:
                parts.append(self.line[start:end])
                self.position = end + 1
                return self._after_quote(opened) or "".join(parts)

    def _after_quote(self, opened: int) -> Finding | None:
        follows = self.line[self.position :]
        if follows in {"", "\r"} or follows[0] == self.delimiter:
            return None
        if self.number == self.first:
            return self._stray(f"{follows[:40]!r} follows a closing quote.")
        return _error(
            opened,
            "unclosed-quote",
            f"the quote that opens here is closed on line {self.number}, where {follows[:40]!r} follows.",
            fix=_CLOSE_IT,
        )

    def _next_line(self) -> bool:
        self.size += len(self.line)
        if self.size > LONGEST:
            raise too_long(file=self.file, line=self.first, what="quoted record")
        following = next(self.rest, None)
        if following is None:
            return False
        self.number, self.line = following
        self.position = 0
        return True

    def _stray(self, message: str) -> Finding:
        return Finding(
            code="stray-quote",
            message=message,
            fix='Put the whole field in quotes, and double the quotes inside it: "say ""yes""".',
            line=self.first,
            value=self.line,
        )


def with_names(header: Sequence[str]) -> list[str]:
    """Return the names of a header, in which a column without a name gets the one that pandas gives it.

    >>> with_names(["", "text", " "])
    ['Unnamed: 0', 'text', 'Unnamed: 2']

    pandas writes the index of its rows as a first column without a name, and a spreadsheet writes empty columns at the
    end.
    """
    names = list(header)
    for position, name in enumerate(header):
        if not name.strip():
            given = f"Unnamed: {position}"
            names[position] = f"{given}.1" if given in header else given
    return names


def _in_yaml(delimiter: str) -> str:
    """Return a delimiter as YAML writes it: ``";"``."""
    return json.dumps(delimiter)


def _bare_return(line: int, value: str) -> Finding:
    return Finding(
        code="bare-carriage-return",
        message="there is a carriage return outside quotes that does not end a line.",
        fix=f"Put the field in double quotes. {_OLD_MAC}",
        line=line,
        value=value,
    )


def _error(line: int, code: str, message: str, *, fix: str = "", **place: str | None) -> Finding:
    return Finding(code=code, message=message, fix=fix, level="error", line=line, **place)  # type: ignore[arg-type]
