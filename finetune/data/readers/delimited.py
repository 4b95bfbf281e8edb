r"""csv and tsv, read strictly: every value is text, and no field moves to another column.

csv is RFC 4180: fields may stand in double quotes, a quote inside is doubled, and a quoted field may hold commas and
line ends, which are kept as they are. tsv knows no quoting: every tab parts two fields, every line is a row, and a
quote is an ordinary character. In both, ``\n`` and ``\r\n`` end a line. A lone ``\r`` is data inside quotes and in a
tsv; outside quotes in a csv it is a finding.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from typing import ClassVar

from finetune.data.findings import blank_line
from finetune.data.readers.text import LONGEST, lines, too_long
from finetune.interfaces import Finding, Reader, Row

Record = tuple[int, list[str]]

_OLD_MAC = "Lines must end in \\n or \\r\\n; a file from an old Mac wants saving anew."


class DelimitedReader(Reader):
    """What csv and tsv share: the header, and rows that are as long as it."""

    delimiter: ClassVar[str]
    others: ClassVar[str]
    """What a header of one column must not hold."""

    def recognises(self, head: str) -> bool:
        """Take every file of these suffixes that no other reader wants."""
        return True

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield the rows as mappings of the header's names to text."""
        records = self.records(lines(text, file=file), file=file)
        header = yield from self._header(records)
        width = len(header)
        for record in records if header else ():
            if type(record) is not tuple:
                yield record  # type: ignore[misc]
            elif len(record[1]) == width:
                yield record[0], dict(zip(header, record[1], strict=True))
            else:
                yield self._ragged(record, header)

    @abstractmethod
    def records(self, lines: Iterable[str], *, file: str) -> Iterator[Record | Finding]:
        """Yield the line on which each record begins, and its fields."""

    def _header(self, records: Iterator[Record | Finding]) -> Generator[Finding, None, list[str]]:
        """Yield what is wrong with the header; return its names, or nothing where it cannot be used."""
        for record in records:
            if isinstance(record, Finding):
                blank = record.code == "blank-line"
                yield record if blank else replace(record, level="error", message=f"in the header, {record.message}")
                if blank:
                    continue
                return []
            problems = list(self._problems(*record))
            yield from problems
            return [] if problems else record[1]
        return []

    def _problems(self, line: int, names: list[str]) -> Iterator[Finding]:
        found = [other for other in self.others if other in names[0]]
        if any("\r" in name for name in names):
            yield _error(line, "bare-carriage-return", "a column's name holds a carriage return", fix=_OLD_MAC)
        elif len(names) == 1 and found:
            yield _error(
                line,
                "wrong-delimiter",
                f"the header is one column, {names[0]!r}; the file looks like {found[0]!r} parts its fields",
                fix="Set dataset.format: tsv." if found[0] == "\t" else f"Save it with {self.delimiter!r} between.",
                value=names[0],
            )
        for name, times in Counter(names).items():
            if not name.strip():
                where = names.index(name) + 1
                yield _error(
                    line,
                    "empty-column-name",
                    f"column {where} has no name",
                    fix="A table saved by pandas wants index=False." if where == 1 else "Name it.",
                )
            elif times > 1:
                yield _error(
                    line, "duplicate-column", f"{times} columns are called {name!r}", fix="Rename them.", column=name
                )

    def _ragged(self, record: Record, header: list[str]) -> Finding:
        line, fields = record
        more = len(fields) > len(header)
        quoting = " Put a field that holds one in double quotes." if self.delimiter == "," else ""
        return Finding(
            code="ragged-row",
            message=f"{len(fields)} fields, the header has {len(header)}",
            fix=f"A {self.delimiter!r} too {'many' if more else 'few'}?{quoting if more else ''}",
            line=line,
            column=None if more else header[len(fields)],
            value=self.delimiter.join(fields),
        )


class CsvReader(DelimitedReader):
    """Comma-separated values, as RFC 4180 has them."""

    suffixes = (".csv",)
    delimiter = ","
    others = ";\t|"

    def records(self, lines: Iterable[str], *, file: str) -> Iterator[Record | Finding]:
        """Yield the records; a plain line is split, one with a quote is walked through."""
        numbered = enumerate(lines, 1)
        for number, line in numbered:
            if '"' in line:
                record = _Quoted(number, line, numbered, file).record()
                yield record
                if type(record) is Finding and record.level == "error":
                    return  # where a quote is open, nobody knows what is a row
            elif "\r" in line and "\r" in line[:-1]:
                yield _bare_return(number, line)
            elif plain := line.removesuffix("\r"):
                yield number, plain.split(",")
            else:
                yield blank_line(number)


class TsvReader(DelimitedReader):
    """Tab-separated values; quotes are ordinary characters."""

    suffixes = (".tsv",)
    delimiter = "\t"
    others = ",;|"

    def records(self, lines: Iterable[str], *, file: str) -> Iterator[Record | Finding]:
        """Yield the lines, split at tabs."""
        for number, line in enumerate(lines, 1):
            if plain := line.removesuffix("\r"):
                yield number, plain.split("\t")
            else:
                yield blank_line(number)


class _Quoted:
    """Walks through one record that holds quotes, over several lines where it must."""

    def __init__(self, number: int, line: str, rest: Iterator[tuple[int, str]], file: str) -> None:
        self.first = self.number = number
        self.line = line
        self.rest = rest
        self.file = file
        self.position = 0
        self.size = 0

    def record(self) -> Record | Finding:
        """Return the line on which the record begins and its fields, or what is wrong with it."""
        fields: list[str] = []
        while True:
            quoted = self.line.startswith('"', self.position)
            field = self._quoted() if quoted else self._plain()
            if isinstance(field, Finding):
                return field
            fields.append(field)
            if self.line[self.position :] in {"", "\r"}:
                return self.first, fields
            self.position += 1  # over the comma

    def _plain(self) -> str | Finding:
        end = self.line.find(",", self.position)
        field = self.line[self.position :].removesuffix("\r") if end < 0 else self.line[self.position : end]
        if "\r" in field:
            return _bare_return(self.first, field)
        if '"' in field:
            return self._stray(f"a quote stands inside the unquoted field {field[:40]!r}")
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
                    return _error(
                        opened, "unclosed-quote", "the quote that opens here is never closed", value=parts[0][:80]
                    )
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
        if follows in {"", "\r"} or follows[0] == ",":
            return None
        if self.number == self.first:
            return self._stray(f"{follows[:40]!r} follows a closing quote")
        return _error(
            opened,
            "unclosed-quote",
            f"the quote that opens here is next closed on line {self.number}, where {follows[:40]!r} follows",
            fix="Close it, or double the quotes inside the field.",
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
            fix='Put the whole field in quotes, and double those inside: "say ""yes""".',
            line=self.first,
            value=self.line,
        )


def _bare_return(line: int, value: str) -> Finding:
    return Finding(
        code="bare-carriage-return",
        message="a carriage return stands outside quotes and ends no line",
        fix=f"Put the field in double quotes. {_OLD_MAC}",
        line=line,
        value=value,
    )


def _error(line: int, code: str, message: str, *, fix: str = "", **place: str | None) -> Finding:
    return Finding(code=code, message=message, fix=fix, level="error", line=line, **place)  # type: ignore[arg-type]
