"""What a failure of the machine means: no memory, no room on the disk, a file that cannot be written, a signal."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from finetune import processes, seed_folders
from finetune.checkpoint_folders import named_like_checkpoints, step_in_manifest
from finetune.errors import CannotWrite, FinetuneError, Interrupted, NoRoom, OutOfMemory, TrainingFailed
from finetune.result import RESULT
from finetune.user_code import first_line

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk that is full, of a quota, and of a limit on the size of files."""

FAILING = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE)
"""Errors of a disk that fails or is gone."""

UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENOTDIR)
"""Errors of a place that cannot be written, and of a link or a folder where a file is wanted."""

SIGNALS: Sequence[signal.Signals] = tuple(
    signal.Signals[name] for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)
"""Signals that stop a command. SIGHUP comes when the terminal closes, such as an ssh session that breaks."""

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "failed to allocate", "not enough memory", "alloc_failed")
_NOT_WRITTEN = ("no space left", "file write failed", "iostream error", "unexpected pos")
"""What PyTorch says if a file cannot be written; it does not say why."""
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How libraries in Rust, such as safetensors and tokenizers, name an error of the system."""
_MIB = 2**20


class Stopped(KeyboardInterrupt):
    """A signal that stops a command, raised wherever the command is."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


@dataclass
class Attempt:
    """A run that is being trained: what an error has to say about it."""

    output: Path
    """The run folder."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """The training options of the run."""
    began: bool = False
    """Whether the folder holds something of this run: it is resumed, or it was created."""


@dataclass(frozen=True)
class _Batch:
    """A batch for which the memory was not enough."""

    option: str
    """The option that sets its size."""
    size: int
    text: str
    """A sentence about its longest row."""


@contextmanager
def explained(output: Path, training: Mapping[str, Any], *, began: bool = False) -> Iterator[Attempt]:
    """Turn failures of the machine within a `with` block into errors of one line.

    Args:
        output: The run folder.
        training: The training options of the run.
        began: Whether the folder holds something of this run. The block sets it when that changes.

    Raises:
        OutOfMemory: Memory could not be had.
        NoRoom: The disk is full.
        CannotWrite: The disk cannot be written.
        Interrupted: A signal stopped the command.
    """
    attempt = Attempt(output, training, began)
    try:
        yield attempt
    except Stopped as stop:
        raise interrupted(stop, attempt) from stop
    except Exception as error:
        meaning = explain(error, attempt)
        if meaning is None:
            raise
        raise meaning from error


def explain(error: BaseException, attempt: Attempt | None = None) -> FinetuneError | None:
    """Return what a failure of the machine means, as an error of one line; None for any other error.

    Args:
        error: An error, or one that it caused: ``raise BadData(…) from error``.
        attempt: The run that is being trained; None if the command trains none.
    """
    if isinstance(error, TrainingFailed | Interrupted):
        return None
    step: BaseException | None = error
    while step is not None:
        if is_out_of_memory(step):
            return _out_of_memory(step, attempt)
        number = _errno(step)
        if number in FULL or _is_not_written(step):
            return NoRoom(_no_room(step, attempt))
        if number in FAILING or (number in UNWRITABLE and step is error):
            place = _place(step, attempt)
            why = os.strerror(number or 0)
            return CannotWrite(f"{f'{place!r}: ' if place else ''}{why}. {_after(attempt, _remedy(number))}".strip())
        step = step.__cause__
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory could not be had. PyTorch has no class for this on a CPU."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


def add_batch(error: BaseException, text: str, *, option: str, size: int) -> None:
    """Add to an error for which batch the memory was not enough.

    Args:
        error: It is raised again.
        text: A sentence about the longest row.
        option: The option that sets the size of the batch.
        size: How many rows it has.
    """
    with suppress(AttributeError):
        error.finetune_batch = _Batch(option, size, text)  # type: ignore[attr-defined]


def require_room(output: Path, *, model: int, checkpoint: int, checkpoints: int = 1) -> None:
    """Check that the disk has room for checkpoints and the final model.

    Args:
        output: The run folder.
        model: Bytes of the weights that are saved at the end.
        checkpoint: Bytes of a checkpoint; 0 if the run saves none.
        checkpoints: How many more of them will be on the disk at the same time.

    Raises:
        NoRoom: It has not.
    """
    needed = model + checkpoint * checkpoints
    free = shutil.disk_usage(output).free
    if free >= needed:
        return
    what = "a checkpoint" if checkpoints == 1 else f"{checkpoints} checkpoints"
    remedy = "Name another folder in `output`, or free some space."
    if newest_checkpoint(output) is not None:
        remedy = f"Free some space. {go_on(output)}"
    raise NoRoom(
        f"no room in {str(output)!r}: the run needs {needed / _MIB:,.0f} MiB for {what} and the final model, "
        f"and the disk has {free / _MIB:,.0f} MiB. {remedy}"
    )


def go_on(output: Path, *, flags: str = "--resume") -> str:
    """Return the sentence that says from which checkpoint the run can continue, and with which flags."""
    if (output / RESULT).is_file():
        return "The run is complete."
    newest = newest_checkpoint(output)
    if seed_folders.folder_above(output) is not None:
        state = f"{newest} of {output.name} is complete" if newest else f"{output.name} has no checkpoint"
        return f"{state}; then continue with {flags}, which does not train finished seeds again."
    if seed_folders.seeds_of(output):
        return f"Continue with {flags}, which does not train finished seeds again."
    if newest is None:
        return "There is no checkpoint; start again with --overwrite."
    return f"{newest} is complete; then continue with {flags}."


def resume_command(output: Path) -> str:
    """Return the command that continues a run; the recipe in its folder holds the overrides, too."""
    output = seed_folders.folder_above(output) or output
    number = processes.count()
    more = f" --processes {number}" if number > 1 else ""
    return f"finetune train {shlex.quote(str(output))} --resume{more}"


def newest_checkpoint(output: Path) -> str | None:
    """Return the name of the newest complete checkpoint in a run folder; None if there is none."""
    if not output.is_dir():
        return None
    found = named_like_checkpoints(output)
    complete = [path.name for step, path in found.items() if step_in_manifest(path) == step]
    return complete[-1] if complete else None


@contextmanager
def stopping() -> Iterator[None]:
    """Raise `Stopped` within a `with` block when a signal comes, so that temporary files are removed.

    A signal that is ignored stays so: ``nohup`` ignores SIGHUP, so that the command outlives its terminal.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    before = {}
    try:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
    except ValueError:  # not the main thread: the caller handles signals
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupted(error: KeyboardInterrupt, attempt: Attempt | None = None) -> Interrupted:
    """Return the error that says which signal stopped a command, what is safe, and how to go on.

    Args:
        error: A `Stopped`, or the one that Python raises for Ctrl-C.
        attempt: The run that is being trained; None if the command trains none.
    """
    name = error.signal if isinstance(error, Stopped) else signal.SIGINT
    safe = "No file is half written; call the command again."
    if attempt is not None and not _holds_something(attempt):
        safe = f"Nothing was changed in {str(attempt.output)!r}; start again."
    elif attempt is not None:
        safe = go_on(attempt.output).replace("; then continue", "; continue")
    return Interrupted(f"stopped by {name.name}. {safe}", signal=int(name))


def _holds_something(attempt: Attempt) -> bool:
    """Return whether the folder holds something of the run, or of the runs of other seeds."""
    return attempt.began or seed_folders.folder_above(attempt.output) is not None


def _errno(error: BaseException) -> int | None:
    """Return the number of an error of the system; None for another error."""
    if isinstance(error, OSError):
        return error.errno
    if isinstance(error, FinetuneError):
        return None  # its text can quote another error
    found = _OS_ERROR.search(str(error))
    return int(found[1]) if found else None


def _is_not_written(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _NOT_WRITTEN)


def _place(error: BaseException, attempt: Attempt | None) -> str:
    """Return the file of an error, or else the run folder; an empty text if neither is known."""
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    if isinstance(name, str | bytes | os.PathLike):
        return os.fsdecode(name)
    return str(attempt.output) if attempt else ""


def _no_room(error: BaseException, attempt: Attempt | None) -> str:
    place, number = _place(error, attempt), _errno(error)
    why = f": {os.strerror(number)}" if number else ""
    has, temporary = "", tempfile.gettempdir()
    with suppress(OSError):
        folder = attempt.output.absolute() if attempt else Path(place or ".").absolute().parent
        while not folder.exists():  # the error came before the run folder was made
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        has = f"The disk has {free / _MIB:,.0f} MiB"
        if os.stat(folder).st_dev != os.stat(temporary).st_dev:
            left = shutil.disk_usage(temporary).free
            has += f", and that of the temporary folder {temporary!r} has {left / _MIB:,.0f} MiB"
            if left < free and attempt and place == str(attempt.output):
                place = temporary  # the error names no file, and this disk has less room
        has += ". "
    remedy = "Free some space, or set TMPDIR to a folder on another disk."
    return f"no room{f' in {place!r}' if place else ''}{why}. {has}{_after(attempt, remedy)}"


def _remedy(number: int | None) -> str:
    return "The disk fails." if number in FAILING else "Change its permissions, or name another place."


def _after(attempt: Attempt | None, remedy: str) -> str:
    """Return how to go on after a failure: with the run, or else a remedy."""
    if attempt is None:
        return remedy
    if not _holds_something(attempt):
        return f"Nothing was changed in {str(attempt.output)!r}. {remedy}"
    return go_on(attempt.output)


def _out_of_memory(error: BaseException, attempt: Attempt | None) -> OutOfMemory:
    why = f": {first_line(error)[:200].rstrip('.')}"
    batch: _Batch | None = getattr(error, "finetune_batch", None)
    if attempt is None or not attempt.began:
        remedy = "Use a smaller model or less data, or a machine with more memory."
        if batch is not None:
            remedy = f"{batch.text}Lower {batch.option}, or the length of the texts."
        return OutOfMemory(f"out of memory{why}. {_after(attempt, remedy)}")
    option, size = "per_device_train_batch_size", attempt.training.get("per_device_train_batch_size", 8)
    if batch is not None and batch.option != option:
        return OutOfMemory(
            f"out of memory with {batch.option} {batch.size}{why}. {batch.text}Lower {batch.option}; no result depends "
            f"on it. {go_on(attempt.output)}"
        )
    remedy = "Lower per_device_train_batch_size and raise gradient_accumulation_steps by the same factor"
    if size == 1:
        remedy = "Lower the preprocessor's max_length, or set gradient_checkpointing"
    longest = batch.text if batch else ""
    return OutOfMemory(
        f"out of memory with {option} {size}{why}. {longest}{remedy}; a strategy such as lora "
        f"needs less, too. {go_on(attempt.output, flags='--resume --accept-changes')}"
    )
