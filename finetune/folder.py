"""The run folder: checks before a run writes into it, a lock, and the files that a run writes."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune import recipe, seed_folders
from finetune.errors import BadRecipe, OutputExists
from finetune.files import require_files
from finetune.interfaces import Record, Row
from finetune.result import DROPPED, LOG, NON_FINITE, RECIPE, RESULT, find_non_finite, to_json, write_atomically

if sys.platform != "win32":
    import fcntl


LOCK = ".lock"
"""The file that a run locks; it lies in the run folder while the run writes there."""


def check(output: Path, *, resume: bool, overwrite: bool) -> None:
    """Check that a run may write into a folder; write nothing.

    Args:
        output: The run folder; it need not exist.
        resume: Whether the run continues the one in the folder.
        overwrite: Whether the run may replace the one in the folder.

    Raises:
        OutputExists: The folder holds files, and the run neither resumes nor overwrites; or a file is in its place.
        BadRecipe: The folder cannot be made here.
    """
    place = output.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir() and place != output.absolute():
        raise OutputExists(f"output: {str(output)!r} cannot be made, because {str(place)!r} is a file. Name a folder.")
    if not os.access(place, os.W_OK):
        raise BadRecipe(f"output: {str(output)!r} cannot be written: {str(place)!r} is not writable. Name a folder.")
    if not output.exists():
        if resume:
            raise OutputExists(
                f"output: {str(output)!r} does not exist, so there is no run to resume. Train without --resume."
            )
        return
    if not output.is_dir():
        raise OutputExists(f"output: {str(output)!r} is a file. Name a folder.")
    if all(path.name == LOCK for path in output.iterdir()):
        return
    is_run = (output / RECIPE).is_file()
    if resume and (output / RESULT).is_file():
        raise OutputExists(f"output: the run in {str(output)!r} has finished, so there is nothing to resume.")
    if not resume and not overwrite:
        hint = "Name another folder."
        if is_run:
            hint = "Continue the run with --resume, replace it with --overwrite, or name another folder."
        raise OutputExists(f"output: {str(output)!r} is not empty. {hint}")
    if resume:
        _refuse_links(output)
        require_files(output)
    if not is_run:
        raise OutputExists(
            f"output: {str(output)!r} holds files but no {RECIPE}, so it is not a run folder and is not replaced. "
            "Name another folder."
        )


def require_one_run(output: Path) -> None:
    """Check that a folder that a run continues is not that of several seeds.

    Raises:
        OutputExists: It is.
    """
    if seeds := seed_folders.seeds_of(output):
        raise OutputExists(f"output: {seed_folders.name_one(output, seeds)} Or replace the folder with --overwrite.")


def has_checkpoint(output: Path) -> bool:
    """Return whether a folder holds a checkpoint that was complete once; it may be damaged now, or set aside.

    A copy with a name that the user chose counts, too: `--auto-resume` must not replace a folder that has one.
    """
    return any(output.glob("*checkpoint-*/manifest.json"))


def _refuse_links(output: Path) -> None:
    """Check that a folder holds no links, through which a run would write into other folders.

    Raises:
        OutputExists: It does.
    """
    for path in sorted(output.rglob("*")):
        if path.is_symlink():
            raise OutputExists(
                f"output: {str(path)!r} is a link to {os.readlink(path)!r}, and a run writes into its own folder only. "
                "Put the file itself there, or remove the link."
            )


def create(output: Path, *, resume: bool, content: Mapping[str, Any], dropped: Sequence[Mapping[str, Any]]) -> None:
    """Create the folder, empty unless the run resumes, and write the recipe and the dropped rows.

    Args:
        output: The run folder.
        resume: Whether to keep what the folder holds.
        content: The recipe, with every option written out.
        dropped: Rows that the run leaves out.

    Raises:
        BadRecipe: The system does not let this user make the folder.
    """
    if output.exists() and not resume:
        empty(output)
    _make(output)
    write_atomically(output / RECIPE, recipe.dump(content))
    if dropped:
        write_lines(output / DROPPED, dropped)
    if not resume:
        (output / LOG).touch()


def empty(output: Path, *, but: Collection[str] = ()) -> None:
    """Remove everything in a folder except its lock, and what is named.

    Args:
        output: The folder.
        but: Names of what stays.
    """
    for path in output.iterdir():
        if path.name == LOCK or path.name in but:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


_locks: set[int] = set()
"""Open files by which this process holds its locks."""


def _close_in_child() -> None:
    """Leave the locks to the process that forked: workers of a data loader outlive it by seconds if it is killed."""
    for held in _locks:
        os.close(held)
    _locks.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_close_in_child)


@contextmanager
def lock(output: Path) -> Iterator[None]:
    """Lock a run folder against a second run, also on another machine that shares the disk.

    The lock is a file in the folder, which is created if need be. The system releases it when the process ends, and the
    file is removed.

    Raises:
        OutputExists: Another run has locked the folder.
        BadRecipe: The folder cannot be made.
        OSError: The folder cannot be written.
    """
    if sys.platform == "win32":
        _make(output)
        yield
        return
    existed = output.exists()
    _make(output)
    path = output / LOCK
    held = _locked(path)
    _locks.add(held)
    try:
        os.ftruncate(held, 0)
        os.write(held, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock is released; see `_locked`
        _locks.discard(held)
        os.close(held)
        if not existed and output.is_dir() and not any(output.iterdir()):
            output.rmdir()


def require_unlocked(output: Path) -> None:
    """Check that no run is writing into a folder; write nothing.

    Raises:
        OutputExists: A run has locked the folder.
        OSError: The lock cannot be opened.
    """
    path = output / LOCK
    if sys.platform == "win32" or not os.path.lexists(path):
        return
    file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        _take(file, path)
    finally:
        os.close(file)


def _make(output: Path) -> None:
    """Make a folder and those above it.

    Raises:
        BadRecipe: The system does not let this user make it.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadRecipe(f"output: {str(output)!r} cannot be made: {error.strerror}. Name another folder.") from error


def _locked(path: Path) -> int:
    """Return an open file that this process has locked, and that is still the one in the folder."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            _take(file, path)
        except OutputExists:
            os.close(file)
            raise
        try:
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        except FileNotFoundError:
            pass
        os.close(file)  # an earlier run ended, and removed the file after this one opened it


def _take(file: int, path: Path) -> None:
    """Lock an open file of a path.

    Raises:
        OutputExists: Another process has locked it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(file, 200).decode(errors="replace").strip() or "another run"
        raise OutputExists(
            f"output: {holder} is writing into {str(path.parent)!r}. Wait until it ends, or stop it."
        ) from error


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines; a value that JSON cannot hold is written as its `str`."""
    write_atomically(path, (to_json(row, default=str) + "\n" for row in rows))


def lines_of(
    split: str,
    examples: Iterable[Row],
    records: Iterable[Record],
    evaluations: Iterable[Mapping[str, Any]],
    *,
    places: Iterable[Mapping[str, Any]],
) -> Iterable[dict[str, Any]]:
    """Yield the lines of `predictions.jsonl` for one split: index, place, example, record and evaluation of each row.

    If a record holds numbers that JSON does not have, such as NaN, the line says where.
    """
    rows = zip(places, examples, records, evaluations, strict=True)
    for index, (place, example, record, evaluation) in enumerate(rows):
        line = {
            "split": split, "index": index, "place": dict(place), "example": dict(example), **record,
            "evaluation": dict(evaluation),
        }  # fmt: skip
        if found := find_non_finite(record):
            line[NON_FINITE] = found
        yield line


def write_files(directory: Path, files: Mapping[str, Any]) -> None:
    """Write the evaluator's files, such as the one that a benchmark's own script reads."""
    if files:
        directory.mkdir(exist_ok=True)
    for name, content in files.items():
        write_atomically(directory / name, to_json(content, indent=1))


def make_readable(output: Path) -> None:
    """Give the weights the mode of other files; safetensors writes files that only their owner can read."""
    mask = os.umask(0)
    os.umask(mask)
    for path in output.glob("*.safetensors"):
        path.chmod(0o666 & ~mask)


def size_of_weights(output: Path) -> int:
    """Return the size in bytes of the weights in a run folder, without those of its checkpoints."""
    return sum(path.stat().st_size for path in output.glob("*.safetensors"))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
