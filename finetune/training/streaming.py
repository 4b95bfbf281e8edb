"""The batches of a trainer whose train split is a stream, and where a checkpoint stands in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from finetune.errors import BadCheckpoint
from finetune.result import to_json

FIXED_PROCESSES = "A streamed run goes on with the same number of processes: each has its own position in the data."


class StreamLoader:
    """Gives a trainer the batches of a stream. It has no length: the recipe says how many steps are made.

    Args:
        stream: See `finetune.data.feature_stream.FeatureStream`.
        size: Features of a batch.
        names: Columns that the model takes.
        collate: Makes a batch of features.
        begin_epoch: Called with the number of an epoch of the data when the first batch with rows of it is made.
    """

    def __init__(
        self,
        stream: Any,
        *,
        size: int,
        names: Collection[str],
        collate: Callable[[list[dict[str, Any]]], Any],
        begin_epoch: Callable[[int], None],
    ) -> None:
        self.stream = stream
        self.position: Any = None
        """Where the last batch ends; None before the first."""
        self._size, self._names = size, frozenset(names)
        self._collate, self._begin_epoch = collate, begin_epoch

    def __iter__(self) -> Iterator[Any]:
        start = self.position or self.stream.start()
        epoch = -1
        for features, position in self.stream.batches(self._size, start=start):
            if position.epoch != epoch:
                epoch = position.epoch
                self._begin_epoch(epoch)
            batch = []
            for feature in features:
                batch.append({name: value for name, value in feature.items() if name in self._names})
            self.position = position
            yield self._collate(batch)

    def save(self, directory: Path) -> None:
        """Write the position of this process into a checkpoint."""
        content = {"processes": self.stream.processes, **asdict(self.position or self.stream.start())}
        self._path(directory).write_text(to_json(content), encoding="utf-8")

    def restore(self, directory: Path) -> None:
        """Go on at the position of a checkpoint.

        Raises:
            BadCheckpoint: It holds no position for this process, or that of another number of processes.
        """
        try:
            content = json.loads(self._path(directory).read_text(encoding="utf-8"))
            processes = content.pop("processes")
            if processes != self.stream.processes:
                raise BadCheckpoint(
                    f"{directory.name} was written by {processes} processes, and this run has {self.stream.processes}. "
                    f"{FIXED_PROCESSES}"
                )
            self.position = self.stream.start(**content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadCheckpoint(f"{directory.name} does not hold a position in the stream of train.") from error

    def _path(self, directory: Path) -> Path:
        return directory / f"stream-{self.stream.process}.json"
