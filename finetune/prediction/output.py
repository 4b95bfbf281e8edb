"""The folder of predictions: one file for each block, and what is needed to continue after a stop."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune import folder
from finetune.errors import OutputExists
from finetune.interfaces import Record
from finetune.prediction.blocks import without_row
from finetune.result import SCRATCH, to_json, write_atomically

STATE = ".finetune"
"""The folder for what is not a prediction. Programs that read all files of a folder skip it, because of its name."""
MANIFEST = "manifest.json"
FORMAT = 2
_PARTS = "part-*.jsonl"
_DIFFERENT = {
    "answers": "{}",
    "model": "of another model",
    "input": "of other rows",
    "block_rows": "in files of {} rows",
}
"""Entry of the manifest → what the predictions are if it differs; ``{}`` stands for its value."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a call wrote."""

    output: Path
    """The folder, or the file."""
    rows: int
    """Number of rows, bad ones included; each is a line."""
    parts: int
    """Number of blocks; in a folder, each is a file."""
    made: int
    """Number of blocks that this call predicted; an earlier one predicted the others."""
    dropped: Sequence[Mapping[str, Any]]
    """The bad rows, as `dropped.jsonl` holds them."""


class Output:
    """A folder into which one call at a time writes predictions.

    Args:
        path: The folder. The caller holds its lock.
        model: Digest of the model and of its options.
        input: Digest of the rows.
        block_rows: Rows of a block.
        blocks: Number of blocks.
        rows: Number of rows.
        answers: Whether the records have answers, to be scored.
    """

    def __init__(
        self,
        path: Path,
        *,
        model: str,
        input: str,  # noqa: A002
        block_rows: int,
        blocks: int,
        rows: int,
        answers: bool = False,
    ) -> None:
        self.path = path
        self.blocks = blocks
        self._manifest = {
            "format": FORMAT, "model": model, "input": input, "block_rows": block_rows, "blocks": blocks, "rows": rows,
            "answers": "with answers" if answers else "without answers",
        }  # fmt: skip

    def begin(self, *, overwrite: bool) -> list[int]:
        """Prepare the folder, and return the numbers of the blocks that are missing or damaged.

        Args:
            overwrite: Whether to delete earlier predictions.

        Raises:
            OutputExists: The folder holds something else, and nothing was changed in it.
        """
        check(self.path)
        manifest = self.path / STATE / MANIFEST
        if manifest.is_file() and not overwrite:
            self._require_same(manifest)
        self._clean(everything=overwrite)
        manifest.parent.mkdir(exist_ok=True)
        write_atomically(manifest, to_json(self._manifest, indent=1))
        return [number for number in range(self.blocks) if not self._is_complete(number)]

    def write(self, number: int, text: str) -> None:
        """Write the lines of a block."""
        content = text.encode()
        write_atomically(self._part(number), text)
        record = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        write_atomically(self._record(number), to_json(record))

    def lines(self) -> Iterator[Record]:
        """Yield the lines of all files, in order."""
        for number in range(self.blocks):
            with self._part(number).open(encoding="utf-8") as lines:
                yield from map(json.loads, lines)

    def records(self) -> list[Record]:
        """Return the records of all files, in order, as the evaluator made them."""
        return [without_row(line) for line in self.lines()]

    def _part(self, number: int) -> Path:
        digits = max(5, len(str(self.blocks - 1)))  # so that the names sort in the order of the rows
        return self.path / f"part-{number:0{digits}}.jsonl"

    def _record(self, number: int) -> Path:
        return self.path / STATE / f"{self._part(number).stem}.json"

    def _is_complete(self, number: int) -> bool:
        """Return whether the file of a block is the one that was written."""
        part, record = self._part(number), self._record(number)
        if not part.is_file() or not record.is_file():
            return False
        try:
            written = json.loads(record.read_text(encoding="utf-8"))
        except ValueError:
            return False
        return bool(written == {"bytes": part.stat().st_size, "sha256": folder.file_sha256(part)})

    def _require_same(self, manifest: Path) -> None:
        """Check that earlier predictions are those that this call would make.

        Raises:
            OutputExists: They are not.
        """
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise OutputExists(
                f"output: {str(manifest)!r} is damaged, or of another version of finetune. Name another folder, or "
                "predict all rows again with --overwrite."
            )
        for key, what in _DIFFERENT.items():
            if found.get(key) != self._manifest[key]:
                held = what.format(found.get(key))
                raise OutputExists(
                    f"output: {str(self.path)!r} holds predictions {held}. Name another folder, or replace them with "
                    "--overwrite."
                )

    def _clean(self, *, everything: bool) -> None:
        """Delete what a killed call left half written, or all that calls wrote before: the manifest goes last."""
        state = self.path / STATE
        for path in [*self.path.glob(SCRATCH), *state.glob(SCRATCH)]:
            path.unlink()
        if not everything:
            return
        for path in [*state.glob("part-*.json"), *self.path.glob(_PARTS)]:
            path.unlink()
        if state.is_dir():
            shutil.rmtree(state)


def check(path: Path) -> None:
    """Check that predictions can be written into a folder: it is new, empty, or holds predictions.

    Raises:
        OutputExists: It holds something else.
    """
    if path.exists() and not path.is_dir():
        raise OutputExists(f"output: {str(path)!r} is a file. Name a folder.")
    state = path / STATE
    if state.is_symlink() or (path.is_dir() and not (state / MANIFEST).is_file() and _holds_files(path)):
        raise OutputExists(f"output: {str(path)!r} holds files that are no predictions. Name another folder.")


def _holds_files(path: Path) -> bool:
    return any(each.name not in (folder.LOCK, STATE) for each in path.iterdir())
