"""Where predictions go: a folder of JSON lines, or one file, which is made of such a folder at the end."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.errors import BadOptions, OutputExists
from finetune.prediction import output, tables
from finetune.prediction.output import Output

_OTHERS = (".json", ".tsv", ".txt", ".xlsx", ".xls", ".arrow", ".feather", ".ndjson", ".gz")
"""Suffixes of files that are not written; a folder can have any other."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The folder of blocks, and the file that is made of them."""

    folder: Path
    """Where the blocks are written."""
    file: Path | None = None
    """The file that takes the place of the folder when all rows are predicted; None to keep the folder."""
    kind: str = "jsonl"
    """The format of the file."""

    @property
    def path(self) -> Path:
        """What the user named."""
        return self.folder if self.file is None else self.file

    def check(self, *, overwrite: bool) -> None:
        """Check that predictions can be written.

        Raises:
            OutputExists: There is something else.
            BadOptions: The folder of the file does not exist.
        """
        if self.file is not None:
            if self.file.is_dir():
                raise OutputExists(f"output: {str(self.file)!r} is a folder. Name a file.")
            if self.file.exists() and not overwrite:
                raise OutputExists(
                    f"output: {str(self.file)!r} exists. Name another file, or replace this one with --overwrite."
                )
            if not self.file.parent.is_dir():
                raise BadOptions(f"output: the folder {str(self.file.parent)!r} does not exist. Make it first.")
        output.check(self.folder)

    def refuse_inputs(self, files: Sequence[str]) -> None:
        """Check that the file is none of those with the rows.

        Raises:
            OutputExists: It is one of them.
        """
        if self.file is None or not self.file.exists():
            return
        for name in files:
            path = Path(name).expanduser()
            if path.exists() and self.file.samefile(path):
                raise OutputExists(f"output: {str(self.file)!r} is the file with the rows. Name another file.")

    def finish(self, written: Output) -> None:
        """Make the file, and remove the folder."""
        if self.file is None:
            return
        tables.write(self.file, self.kind, written.lines)
        shutil.rmtree(self.folder)


def target(path: str | Path, kind: str | None = None) -> Target:
    """Return where predictions go.

    Args:
        path: A folder, or a file whose suffix is that of its format.
        kind: The format of the file; None for that of its suffix.

    Raises:
        BadOptions: The format is unknown.
    """
    named = Path(path)
    if kind is None:
        suffix = named.suffix.lower()
        kind = next((name for name, ending in tables.FORMATS.items() if ending == suffix), None)
        if kind is None and suffix in _OTHERS and not named.is_dir():
            raise BadOptions(
                f"output: {suffix} files are not written. Name a folder, or a file that ends in .jsonl, .csv or "
                ".parquet."
            )
    if kind is not None and kind not in tables.FORMATS:
        raise BadOptions(f"format: {kind!r} is unknown. The formats are {', '.join(tables.FORMATS)}.")
    if kind is None or (named.is_dir() and kind == "jsonl"):
        return Target(folder=named)
    return Target(folder=named.with_name(f"{named.name}.parts"), file=named, kind=kind)
