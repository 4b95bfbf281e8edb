"""Predictions as a table: one column for each value, so that a spreadsheet or a data frame can hold them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from finetune.interfaces import Record
from finetune.prediction.blocks import INPUT, PLACE
from finetune.result import to_json, write_atomically

FORMATS = {"jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet"}
"""Format of a file of predictions → its suffix."""

ROWS = 10_000
"""Rows of a parquet file that are written together."""

_PLACE = ("file", "line", "row", "path", "split", "dataset")
"""What a place can hold that becomes a column; its id is a column of the input."""

Lines = Callable[[], Iterable[Record]]
"""Returns all records; it is called once or twice, so that they need not fit into memory."""


def flat(record: Record) -> dict[str, Any]:
    """Return a record as one row of a table: the columns of the input, the prediction, and the place.

    A mapping becomes a column for each of its keys: ``probabilities.sea``. Lists and deeper mappings become JSON. A
    column of the input that has the name of one of ours becomes ``input.NAME``; if the input has that name too, the
    prefix is repeated.

    >>> flat({"place": {"file": "a.csv", "line": 2}, "input": {"text": "ship"}, "prediction": "sea",
    ...       "probabilities": {"sea": 0.9}})
    {'text': 'ship', 'prediction': 'sea', 'probabilities.sea': 0.9, 'file': 'a.csv', 'line': 2}
    """
    ours: dict[str, Any] = {}
    for name, value in record.items():
        if name in (INPUT, PLACE):
            continue
        if isinstance(value, Mapping):
            for key, each in value.items():
                ours[f"{name}.{key}"] = _cell(each)
        else:
            ours[name] = _cell(value)
    place = record.get(PLACE, {})
    for name in _PLACE:
        if name in place:
            ours.setdefault(name, place[name])
    given = record.get(INPUT, {})
    row: dict[str, Any] = {}
    for name, value in given.items():
        shown = name
        while shown in ours or shown in row or (shown != name and shown in given):
            shown = f"{INPUT}.{shown}"
        row[shown] = _cell(value)
    return {**row, **ours}


def _cell(value: Any) -> Any:
    """Return a value as one cell can hold it."""
    return to_json(value) if isinstance(value, list | tuple | Mapping) else value


def columns_of(records: Iterable[Record]) -> dict[str, type | None]:
    """Return the columns of a table, each with the type that holds all its values; None if it has none.

    The columns of the first rows come first, but columns that only some rows have come before the place.
    """
    found: dict[str, type | None] = {}
    for record in records:
        for name, value in flat(record).items():
            found[name] = _joined(found.get(name), _kind(value))
    last = [name for name in found if name in _PLACE]
    return {name: found[name] for name in (*(each for each in found if each not in last), *last)}


class _Large(int):
    """The type of a column with a whole number that a float does not hold exactly."""


def _kind(value: Any) -> type | None:
    """Return the type of a column that holds a value; None for any."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str
    if isinstance(value, int) and abs(value) > 2**53:
        return _Large
    return None if value is None else type(value)


def _joined(one: type | None, other: type | None) -> type | None:
    """Return the type that holds values of both."""
    if one is None or other is None or one is other:
        return one or other
    if {one, other} == {int, _Large}:
        return _Large
    return float if {one, other} == {int, float} else str


def as_csv(records: Iterable[Record], columns: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a csv file, each with its line end."""
    names = list(columns)
    yield _csv_line(names, dict(zip(names, names, strict=True)))
    for record in records:
        yield _csv_line(names, flat(record))


def _csv_line(names: Sequence[str], row: Mapping[str, Any]) -> str:
    text = io.StringIO()
    # Python 3.11 quotes a lone carriage return only if the end of a line has one
    csv.DictWriter(text, names, restval="", lineterminator="\r\n").writerow(row)
    return text.getvalue().removesuffix("\r\n") + "\n"


def write(path: Path, kind: str, lines: Lines) -> None:
    """Write predictions as a file, which is complete or as it was.

    Args:
        path: The file.
        kind: One of `FORMATS`.
        lines: Returns the records.
    """
    if kind == "jsonl":
        write_atomically(path, (f"{to_json(record)}\n" for record in lines()))
        return
    columns = columns_of(lines())
    if kind == "csv":
        write_atomically(path, as_csv(lines(), columns))
        return
    scratch = path.with_name(f".{path.name}.scratch")
    try:
        _write_parquet(scratch, lines(), columns)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _write_parquet(path: Path, records: Iterable[Record], columns: Mapping[str, type | None]) -> None:
    kinds: dict[type | None, pa.DataType] = {
        int: pa.int64(),
        _Large: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
        str: pa.string(),
    }
    schema = pa.schema([(name, kinds.get(kind, pa.string())) for name, kind in columns.items()])
    with pq.ParquetWriter(path, schema) as writer:
        rows: list[dict[str, Any]] = []
        for record in records:
            row = flat(record)
            for name, kind in columns.items():
                if kind is str and row.get(name) is not None:
                    row[name] = _as_text(row[name])
            rows.append(row)
            if len(rows) >= ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)
