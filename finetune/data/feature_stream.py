"""Features that are made while train is read: rows in a new order each time, and where each batch ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.data.examples import Examples
from finetune.data.features import BATCH, OVERFLOW
from finetune.data.streaming import StreamedSplit
from finetune.data.streams import identity_of
from finetune.errors import BadData
from finetune.interfaces import Preprocessor, Row
from finetune.recipe import Source


@dataclass(frozen=True)
class Position:
    """Where a process is in the stream: after so many features of a chunk of rows."""

    epoch: int = 0
    """How many times all rows were read."""
    chunk: int = 0
    """How many chunks of this epoch were used up."""
    offset: int = 0
    """How many features of the next chunk were used up."""


@dataclass(frozen=True, kw_only=True)
class FeatureStream:
    """The features of a streamed split, without an end: after the last row it begins again in another order.

    Each process makes the features of its own rows: every row belongs to one process. With one feature for each row,
    the processes together use the rows that one process would use with their total batch size.
    """

    split: StreamedSplit
    preprocessor: Preprocessor
    """Fitted."""
    tokenizer: Any
    buffer: int
    """Rows from which the next one is drawn."""
    seed: int
    process: int = 0
    """Number of this process."""
    processes: int = 1
    """How many there are."""

    def rows(self, epoch: int) -> Iterator[Row]:
        """Yield all rows in the order of an epoch: pieces of the data set in random order, then through the buffer."""
        random = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        if self.buffer == 1:
            for _, block in self.split.pieces():
                yield from block.rows.to_pylist()
            return
        buffer: list[Row] = []
        order = random.permutation(len(self.split.survey.pieces)).tolist()
        for _, block in self.split.pieces(order):
            rows = block.rows.to_pylist()
            room = self.buffer - len(buffer)
            buffer += rows[:room]
            rest = rows[room:] if room < len(rows) else []
            for row, place in zip(rest, random.integers(0, self.buffer, size=len(rest)).tolist(), strict=True):
                yield buffer[place]
                buffer[place] = row
        for place in random.permutation(len(buffer)).tolist():
            yield buffer[place]

    def chunks(self, epoch: int) -> Iterator[list[Row]]:
        """Yield the rows of this process, as many together as a map-style data set prepares together."""
        chunk: list[Row] = []
        for number, row in enumerate(self.rows(epoch)):
            if number % self.processes != self.process:
                continue
            chunk.append(row)
            if len(chunk) == BATCH:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def features(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Return the features of some rows."""
        columns = {name: [row[name] for row in rows] for name in self.split.columns.column_names}
        made: Mapping[str, Sequence[Any]] = self.preprocessor.features(columns, self.tokenizer)
        names = [name for name in made if name != OVERFLOW]
        values = zip(*(made[name] for name in names), strict=True)
        return [dict(zip(names, map(_plain, each), strict=True)) for each in values]

    def batches(self, size: int, *, start: Position) -> Iterator[tuple[list[dict[str, Any]], Position]]:
        """Yield batches of features without an end, each with the position after it.

        The rows before the start are read and shuffled again, and no features are made of them.

        Raises:
            BadData: The rows of this process make no feature.
        """
        batch: list[dict[str, Any]] = []
        epoch, skipped, offset = start.epoch, start.chunk, start.offset
        while True:
            count = 0
            for number, rows in enumerate(self.chunks(epoch)):
                if number < skipped:
                    continue
                made = self.features(rows)
                count += len(made)
                for place in range(offset, len(made)):
                    batch.append(made[place])
                    if len(batch) == size:
                        yield batch, Position(epoch, number, place + 1)
                        batch = []
                offset = 0
            if not count and not skipped:
                raise BadData(f"process {self.process} of {self.processes} gets no features from train.")
            epoch, skipped = epoch + 1, 0

    @staticmethod
    def start(epoch: int = 0, chunk: int = 0, offset: int = 0) -> Position:
        """Return a position; without arguments, the beginning."""
        return Position(int(epoch), int(chunk), int(offset))

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change when a run resumes, in addition to the content of the rows."""
        survey, rule = self.split.survey, self.split.rule
        return {
            "files": identity_of(survey),
            "held_out": None if rule is None else [list(rule.columns), rule.share],
            "shuffle_buffer": self.buffer,
        }


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def notes(examples: Examples, source: Source) -> list[str]:
    """Return what the user must know about a streamed train split; empty if train is not streamed."""
    if examples.stream is None:
        return []
    count, sample = examples.stream.count, len(examples.splits["train"])
    order = "in the order of the files" if source.shuffle_buffer == 1 else "in a new order each time, shuffled in a "
    order += f"buffer of {source.shuffle_buffer:,} rows" if source.shuffle_buffer > 1 else ""
    found = [f"train is streamed: its {count:,} rows are read {order}"]
    if sample < count:
        found.append(
            f"token counts, findings that need a tokenizer's tokens, the baselines and the score on train are those of "
            f"{sample:,} rows of train that were drawn at random; near duplicates between the splits were not searched"
        )
    return found
