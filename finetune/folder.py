"""The run folder: who may write into it, and what is written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune import recipe
from finetune.errors import OutputExists
from finetune.interfaces import Record, Row
from finetune.result import DROPPED, LOG, RECIPE, RESULT, write_atomically

if sys.platform != "win32":
    import fcntl


def check(output: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that is not this run's to write into; write nothing.

    Raises:
        OutputExists: It holds something, and the run neither resumes nor overwrites it.
    """
    if not output.exists():
        if resume:
            raise OutputExists(f"output: there is nothing to resume in {str(output)!r}: it does not exist.")
        return
    if not output.is_dir():
        raise OutputExists(f"output: {str(output)!r} is a file; name a folder.")
    if not any(output.iterdir()):
        return
    is_run = (output / RECIPE).is_file()
    if resume and (output / RESULT).is_file():
        raise OutputExists(f"output: the run in {str(output)!r} has finished; there is nothing to resume.")
    if not resume and not overwrite:
        hint = " Go on with --resume, start afresh with --overwrite, or name another folder." if is_run else ""
        raise OutputExists(f"output: {str(output)!r} is not empty.{hint or ' Name another folder.'}")
    if not is_run:
        raise OutputExists(f"output: {str(output)!r} holds something that is no run of ours; it is left alone.")


def create(output: Path, *, resume: bool, content: Mapping[str, Any], dropped: Sequence[Mapping[str, Any]]) -> None:
    """Make the folder, empty unless resuming, and write what is known before the first step."""
    if output.exists() and not resume:
        shutil.rmtree(output)
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / RECIPE, recipe.dump(content))
    if dropped:
        write_lines(output / DROPPED, dropped)
    if not resume:
        (output / LOG).touch()


@contextmanager
def lock(output: Path) -> Iterator[None]:
    """Hold a run folder, so that no second run writes into it; the system lets go when this process ends.

    Raises:
        OutputExists: Another run holds it.
    """
    if sys.platform == "win32":
        yield
        return
    name = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]
    # Beside the folder's parent it would litter, and inside it would be swept away with an earlier run.
    with (Path(tempfile.gettempdir()) / f"finetune-{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputExists(
                f"output: another run is writing into {str(output)!r}. Wait for it, or stop it."
            ) from error
        yield


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines; a value that JSON lacks is written as its text."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows))


def lines_of(
    split: str, examples: Iterable[Row], records: Iterable[Record], judged: Iterable[Mapping[str, Any]]
) -> Iterable[dict[str, Any]]:
    """Return the lines of `predictions.jsonl` for one split: place, example, record, and how it is judged."""
    for index, (example, record, verdict) in enumerate(zip(examples, records, judged, strict=True)):
        yield {"split": split, "index": index, "example": dict(example), **record, "judged": dict(verdict)}


def write_files(directory: Path, files: Mapping[str, Any]) -> None:
    """Write the files that a benchmark wants."""
    if files:
        directory.mkdir(exist_ok=True)
    for name, content in files.items():
        write_atomically(directory / name, json.dumps(content, indent=1, ensure_ascii=False))


def make_readable(output: Path) -> None:
    """Give weights the mode of other files; safetensors writes them for their owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for path in output.glob("*.safetensors"):
        path.chmod(0o666 & ~mask)


def size_of_weights(output: Path) -> int:
    """Return how many bytes the weights on the root of a run folder take, those of checkpoints left out."""
    return sum(path.stat().st_size for path in output.glob("*.safetensors"))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
