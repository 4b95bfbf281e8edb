"""What a run folder holds that its model does not need: `examine` finds it, and `clean` removes it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from finetune import base as bases
from finetune import folder
from finetune.checkpoint_folders import MANIFEST, PUT_ASIDE, is_own, named_like_checkpoints, step_in_manifest
from finetune.errors import BadCheckpoint, BadRecipe, CannotWrite
from finetune.files import require_files
from finetune.result import DROPPED, LOG, PREDICTIONS, RECIPE, RESULT, Result
from finetune.seed_folders import BASELINES, seeds_of
from finetune.training.checkpoints import best_of, verify_with_best
from finetune.training.resume import ORDER

_STATES = ("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth", ORDER)
"""Patterns of the files that only a resumed run reads."""
_WRITTEN = (RECIPE, RESULT, PREDICTIONS, DROPPED, BASELINES, "report.html", "README.md")
_SPLITS = ("train", "validation", "test")
"""Subfolders in which evaluators write JSON files."""

_DAMAGED = "damaged or not complete"
_LAST = "damaged or not complete, but the run has no valid one; --all frees it"
_LEFT = "left by a process that was stopped"


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something in a run folder that can be removed."""

    name: str
    """Its path within the run folder."""
    paths: Sequence[Path]
    """The files and folders to remove."""
    size: int
    """Bytes that they take."""
    note: str
    """Why the run does not need it."""


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A run folder, and what can be removed from it."""

    run: Path
    finished: bool
    size: int
    """Bytes of all files in the folder."""
    items: Sequence[Item]
    kept: Mapping[str, str]
    """Checkpoint that is not removed → why."""
    resumes_from: str | None
    """Checkpoint from which the run can be resumed after the items are removed; None if there is none."""

    @property
    def freed(self) -> int:
        """Bytes of all items."""
        return sum(item.size for item in self.items)


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """A run folder after its items were removed."""

    examined: Examined
    before: int
    """Bytes of all files in the folder, measured before."""
    after: int
    """The same, measured after."""


def find_runs(place: Path) -> list[Path]:
    """Return a run folder itself, or the run folders directly inside a folder, without links.

    The folder of several seeds is one of the latter.

    Raises:
        BadRecipe: There is no such folder, or it is no run folder and holds none.
    """
    if not place.is_dir():
        raise BadRecipe(f"{str(place)!r} is not a folder. Name a run folder, or a folder that holds run folders.")
    if is_run(place) and not seeds_of(place):
        return [place]
    with _explained():
        inside = sorted(path for path in place.iterdir() if not path.is_symlink() and path.is_dir() and is_run(path))
    if not inside:
        raise BadRecipe(
            f"{str(place)!r} is not a run folder, and holds none: a run folder has a {RECIPE}, and a {LOG} or "
            f"{RESULT}. Nothing was removed."
        )
    return inside


def is_run(directory: Path) -> bool:
    """Return whether a run wrote into a folder."""
    return (directory / RECIPE).is_file() and ((directory / LOG).is_file() or (directory / RESULT).is_file())


def examine(run: Path, *, keep_weights: bool = False, everything: bool = False) -> Examined:
    """Find what a run folder holds that its model does not need; remove nothing.

    Args:
        run: The run folder.
        keep_weights: Keep the weights of checkpoints, and find their optimizer states alone.
        everything: Find all checkpoints of an unfinished run, so that it cannot be resumed.

    Raises:
        OutputExists: A run is writing into the folder.
        BadRecipe: The run has finished, but its result or its weights are damaged.
        CannotWrite: The folder cannot be read.
    """
    with _explained():
        require_files(run)
        folder.require_unlocked(run)
        return _examine(run, _old_locks(run), keep_weights=keep_weights, everything=everything)


def clean(run: Path, *, keep_weights: bool = False, everything: bool = False) -> Cleaned:
    """Remove what `examine` finds, while the folder is locked.

    Args:
        run: The run folder.
        keep_weights: As in `examine`.
        everything: As in `examine`.

    Raises:
        OutputExists: A run is writing into the folder.
        BadRecipe: The run has finished, but its result or its weights are damaged.
        CannotWrite: Something cannot be removed.
    """
    with _explained():
        require_files(run)
        before, locks = _size(run), _old_locks(run)
        with folder.lock(run):  # removes an old lock, too
            found = _examine(run, locks, keep_weights=keep_weights, everything=everything)
            for item in found.items:
                if item not in locks:
                    for path in item.paths:
                        _remove(path)
        return Cleaned(examined=replace(found, size=before), before=before, after=_size(run))


def _old_locks(run: Path) -> list[Item]:
    """Return the lock file of a run folder, if there is one."""
    path = run / folder.LOCK
    return [_item(path.name, [path], _LEFT)] if path.exists() else []


def _examine(run: Path, locks: Sequence[Item], *, keep_weights: bool, everything: bool) -> Examined:
    finished = (run / RESULT).is_file()
    folders = sorted(path for path in run.iterdir() if path.is_dir() and not path.is_symlink())
    checkpoints = named_like_checkpoints(run)
    if finished:
        result = Result.load(run)
        if checkpoints or any(PUT_ASIDE.fullmatch(path.name) for path in folders):
            _require_whole(run, result)
    newest = None if finished or everything else _newest_valid(checkpoints)
    kept = {} if newest is None else _needed(checkpoints, newest)
    items: list[Item] = []
    has_none = newest is None and not finished and not everything
    for step, path in checkpoints.items():
        if path.name in kept:
            continue
        if not is_own(path):
            if (other := step_in_manifest(path)) is not None:
                kept[path.name] = f"its {MANIFEST} is that of step {other}, so it is a copy"
            continue
        if has_none:
            kept[path.name] = _LAST
            continue
        if finished:
            note = "the final model is in the run folder"
        elif everything:
            note = "the run could be resumed from it"
        elif newest is not None and step < newest:
            note = f"older than checkpoint-{newest}"
        else:
            note = _DAMAGED
        items += _items(path, note, kept, only_states=keep_weights and note != _DAMAGED)
    for path in folders:
        if has_none and path.name.startswith("invalid-"):
            kept[path.name] = _LAST
        elif PUT_ASIDE.fullmatch(path.name):
            items += _items(path, _DAMAGED, kept, only_states=False)
    for path in _scratch_files(run):
        items.append(_item(str(path.relative_to(run)), [path], _LEFT))
    return Examined(
        run=run,
        finished=finished,
        size=_size(run),
        items=[*items, *locks],
        kept=kept,
        resumes_from=None if newest is None else checkpoints[newest].name,
    )


def _needed(checkpoints: Mapping[int, Path], newest: int) -> dict[str, str]:
    """Return the checkpoints that an unfinished run needs to go on, and why."""
    kept = {checkpoints[newest].name: "the run can be resumed from it"}
    best = best_of(checkpoints[newest])
    if best is not None and best in checkpoints.values():
        kept.setdefault(best.name, "it has the best model so far")
    return kept


def _require_whole(run: Path, result: Result) -> None:
    """Check that a finished run has the model that it saved, so that no checkpoint is needed to repair it.

    Raises:
        BadRecipe: A file of the model is missing or damaged.
    """
    if result.base.get("saved_model"):
        lost = bases.lost(result.base, run)
        problem = f"{bases.some(lost)} {'is' if len(lost) == 1 else 'are'} not as the run saved it" if lost else ""
    else:
        problem = _problem_without_digests(run, result)
    if problem:
        raise BadRecipe(
            f"the model in {str(run)!r} is damaged: {problem}. Its checkpoints are kept, because they may hold the "
            "only good weights. Restore the model first."
        )


def _problem_without_digests(run: Path, result: Result) -> str:
    """Return what is wrong with the model of a run whose result has no digests; an older version wrote it."""
    saved, has = result.saved_bytes, folder.size_of_weights(run)
    if saved and has != saved:
        return f"it has {has:,} bytes of weights, and the run saved {saved:,}"
    return bases.unreadable(run)


def _newest_valid(checkpoints: Mapping[int, Path]) -> int | None:
    """Return the step of the newest checkpoint that a run can be resumed from, with the best one if it needs that."""
    for step in sorted(checkpoints, reverse=True):
        path = checkpoints[step]
        try:
            verify_with_best(path)
        except BadCheckpoint:
            continue
        return step
    return None


def _other_files(checkpoint: Path) -> list[str]:
    """Return the files in a checkpoint that its manifest does not name: someone put them there afterwards."""
    try:
        path = checkpoint / MANIFEST
        manifest = json.loads(path.read_text(encoding="utf-8") if path.is_file() else "")
        listed = {*manifest["files"], MANIFEST}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []  # not complete, so nothing is known about its files
    found = {str(path.relative_to(checkpoint)) for path in _files(checkpoint)}
    return sorted(found - listed)


def _items(checkpoint: Path, note: str, kept: dict[str, str], *, only_states: bool) -> Iterator[Item]:
    """Yield what can be removed of a checkpoint; if it stays for a reason, add that to `kept`."""
    if only_states:
        states = sorted(path for pattern in _STATES for path in checkpoint.glob(pattern))
        if states:
            yield _item(f"{checkpoint.name}: optimizer state", states, f"its weights stay; {note}")
        return
    others = _other_files(checkpoint)
    if others:
        kept[checkpoint.name] = f"it holds files that the run did not write: {', '.join(others[:3])}"
        return
    yield _item(checkpoint.name, [checkpoint], note)


def _item(name: str, paths: Sequence[Path], note: str) -> Item:
    return Item(name=name, paths=paths, size=sum(map(_size, paths)), note=note)


def _scratch_files(run: Path) -> Iterator[Path]:
    """Yield the files that `write_atomically` leaves in a run folder if its process is killed."""
    for name in _WRITTEN:
        yield from _numbered(run, name)
    for split in _SPLITS:
        if not (run / split).is_symlink():
            yield from _numbered(run / split, "*.json")


def _numbered(directory: Path, name: str) -> Iterator[Path]:
    """Yield the files of a folder that are named after a file and a process: ``.NAME.4242``."""
    for path in sorted(directory.glob(f".{name}.*")):
        process = path.name.removesuffix(".scratch").rpartition(".")[2]
        if process.isdecimal() and path.is_file() and not path.is_symlink():
            yield path


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; links count as they are."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in _files(path))


def _files(directory: Path) -> Iterator[Path]:
    """Yield every file and link below a folder; no link is followed."""
    for place, folders, names in os.walk(directory, onerror=_raise):
        for name in names:
            yield Path(place, name)
        for name in folders:
            if Path(place, name).is_symlink():
                yield Path(place, name)


def _raise(error: OSError) -> None:
    raise error


@contextmanager
def _explained() -> Iterator[None]:
    """Turn a refusal of the system within a `with` block into an error of one line.

    Raises:
        CannotWrite: A file cannot be read or removed.
    """
    try:
        yield
    except OSError as error:
        raise CannotWrite(f"{str(error.filename)!r}: {error.strerror}. Check who owns it, then clean again.") from error
