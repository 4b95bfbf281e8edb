"""Cut checked rows into blocks of a fixed size; each is predicted alone, by whichever process."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetInfo

from finetune.data import Examples
from finetune.data.fingerprints import fingerprint
from finetune.data.places import ID, JoinedPlaces, Places
from finetune.errors import BadOptions
from finetune.interfaces import Record, Row
from finetune.result import to_json

BLOCK_ROWS = 1_000
"""Rows of a block. In a block of this size, texts of similar length share a batch, and writing it takes little time
beside predicting it."""

PLACE = "place"
"""Key of a line: where its row is in the data; see `finetune.data.places`."""

INPUT = "input"
"""Key of a line: the columns of its row, with the names that they have in the data."""

Predict = Callable[[Dataset, int], list[Record]]
"""Returns the record of each example of a block; the number of the block is added to the seed."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some rows that follow each other in one split."""

    number: int
    rows: int
    """Number of rows, bad ones included."""
    examples: Dataset
    """The good rows, in memory."""
    places: Sequence[Mapping[str, Any]]
    """Where each good row is in the data."""
    inputs: Sequence[Row]
    """Each good row with the columns and names that it has in the data."""
    left_out: Mapping[int, Record]
    """Position of a bad row in the block → its record."""

    def records(self, predict: Predict) -> list[Record]:
        """Return the record of each row, in order, with the place and the columns of the row.

        Raises:
            BadOptions: The evaluator uses the key of the place or of the columns.
        """
        predicted = predict(self.examples, self.number) if len(self.examples) else []
        good = zip(self.places, self.inputs, predicted, strict=True)
        records = []
        for position in range(self.rows):
            bad = self.left_out.get(position)
            if bad is not None:
                records.append(bad)
                continue
            place, row, record = next(good)
            if taken := {PLACE, INPUT} & record.keys():
                raise BadOptions(f"evaluator: a record has the key {taken.pop()!r}, which a line of predictions needs.")
            records.append({PLACE: place, INPUT: row, **record})
        return records

    def text(self, predict: Predict) -> str:
        """Return the records as JSON lines."""
        return "".join(f"{line_of(record)}\n" for record in self.records(predict))


def line_of(record: Record) -> str:
    """Return a record as JSON; a value of the data that JSON cannot hold, such as a date, is written as its `str`."""
    return to_json(record, default=str)


def without_row(record: Record) -> Record:
    """Return a record as the evaluator made it, without the place and the columns of its row."""
    return {key: value for key, value in record.items() if key not in (PLACE, INPUT)}


@dataclass(frozen=True, kw_only=True)
class _Part:
    """All rows of one split."""

    examples: Dataset
    """The good rows; they lie in a file."""
    places: Places | JoinedPlaces | None
    """Where each of them is in the data; None if that is not known, as of a sample of a stream."""
    given: Dataset
    """They with the columns and names that they have in the data."""
    rows: int
    positions: tuple[int, ...]
    """Where the bad rows are among all rows, in order."""
    left_out: tuple[Record, ...]
    """Their records."""


class Blocks:
    """The blocks of all splits, which are read from the disk one by one.

    No block holds rows of two splits. The object can be pickled; another process of the same machine reads the rows
    from the same files.

    Args:
        examples: Checked rows.
        rows: Rows of a block; the last block of a split can have fewer.
        names: File → the name that lines show for it.
    """

    def __init__(self, examples: Examples, *, rows: int = BLOCK_ROWS, names: Mapping[str, str] = {}) -> None:
        self.size = rows
        self.dropped = examples.dropped
        """The bad rows, as `Examples.dropped` holds them."""
        self._parts = [_part(examples, split, names) for split in examples.splits]
        self.files = [file for sizes in examples.sizes.values() for file in sizes if file is not None]
        """The files of the rows."""
        self._counts = [-(-part.rows // rows) for part in self._parts]
        self.input = _digest(examples, self._parts)
        """Digest of all rows, good and bad."""

    def __len__(self) -> int:
        """Return the number of blocks."""
        return sum(self._counts)

    @property
    def rows(self) -> int:
        """Number of rows of all blocks, bad ones included."""
        return sum(part.rows for part in self._parts)

    def __iter__(self) -> Iterator[Block]:
        """Yield every block in order."""
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, number: int) -> Block:
        """Read a block."""
        part, start = self._place(number)
        stop = min(start + self.size, part.rows)
        first, last = bisect_left(part.positions, start), bisect_left(part.positions, stop)
        bad = zip(part.positions[first:last], part.left_out[first:last], strict=True)
        length = stop - last - (start - first)
        return Block(
            number=number,
            rows=stop - start,
            examples=_in_memory(part.examples, start - first, stop - last),
            places=[{}] * length if part.places is None else part.places[start - first : stop - last],
            inputs=part.given.with_format("arrow")[start - first : stop - last].to_pylist(),
            left_out={position - start: record for position, record in bad},
        )

    def _place(self, number: int) -> tuple[_Part, int]:
        """Return the part that a block belongs to, and the position of its first row there."""
        inside = number
        for part, count in zip(self._parts, self._counts, strict=True):
            if inside < count:
                return part, inside * self.size
            inside -= count
        raise IndexError(number)


def _part(examples: Examples, split: str, names: Mapping[str, str]) -> _Part:
    sizes = examples.sizes[split]
    starts, rows = {}, 0
    for file, size in sizes.items():
        starts[file] = rows
        rows += size
    bad = {starts[row["file"]] + row["row"]: _left_out(row, names) for row in examples.dropped if row["split"] == split}
    positions = tuple(sorted(bad))
    left_out = tuple(bad[position] for position in positions)
    given, places = examples.given.get(split), examples.places.get(split)
    return _Part(
        examples=examples.splits[split],
        places=None if places is None else places.renamed(names),
        given=examples.splits[split] if given is None else given.rows,
        rows=rows,
        positions=positions,
        left_out=left_out,
    )


def _left_out(row: Mapping[str, Any], names: Mapping[str, str]) -> Record:
    """Return the record of a row that is left out of a prediction."""
    place = {name: row[name] for name in ("file", "line", "row", "path") if row[name] is not None}
    if "file" in place:
        place["file"] = names.get(place["file"], place["file"])
    else:
        place = {"split": row["split"], **place}
    if row["example"].get(ID) is not None:
        place[ID] = row["example"][ID]
    return {PLACE: place, INPUT: row["example"], "prediction": None, "left_out": " ".join(row["messages"])}


def _in_memory(examples: Dataset, start: int, stop: int) -> Dataset:
    """Return some rows as a data set of their own, without a file: features that are made of it stay in memory, too."""
    table = examples.with_format("arrow")[start:stop]
    copied = pa.BufferOutputStream()  # else the rows would refer to the whole file, and be pickled with it
    with pa.ipc.new_stream(copied, table.schema) as stream:
        stream.write_table(table)
    rows = pa.ipc.open_stream(copied.getvalue()).read_all()
    return Dataset(rows, info=DatasetInfo(features=examples.features))


def _digest(examples: Examples, parts: list[_Part]) -> str:
    """Return the SHA-256 of everything that the lines depend on, except the model."""
    digest = hashlib.sha256()
    for split, part in zip(examples.splits, parts, strict=True):
        digest.update(f"{split} {examples.fingerprints[split]} {part.rows}\n".encode())
        if split in examples.given:
            digest.update(f"{fingerprint(examples.given[split])}\n".encode())
        for content in part.places.content() if part.places is not None else ():
            digest.update(content)
        for position, record in zip(part.positions, part.left_out, strict=True):
            digest.update(f"{position} {line_of(record)}\n".encode())
    return digest.hexdigest()
