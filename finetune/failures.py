"""What a failure of the machine means for a run: no memory, no room on the disk, a folder that cannot be written."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from finetune.errors import CannotWrite, NoRoom, OutOfMemory

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk that is full, of a quota, and of a limit on the size of files."""

UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP)
"""Errors of a folder that cannot be written, of a disk that fails, and of a link where a file is wanted."""

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "failed to allocate", "not enough memory")
_CHECKPOINTS = "checkpoint-*/manifest.json"
_MIB = 2**20


@contextmanager
def explained(output: Path, training: Mapping[str, Any]) -> Iterator[None]:
    """Turn failures of the machine within a `with` block into errors of one line.

    Args:
        output: The run folder.
        training: The training options of the run.

    Raises:
        OutOfMemory: Memory could not be had.
        NoRoom: The disk is full.
        CannotWrite: The disk cannot be written.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory(error, output, training) from error
    except OSError as error:
        if error.errno in FULL:
            raise NoRoom(f"no room in {str(output)!r}: {error.strerror}. {_has(output)}{go_on(output)}") from error
        if error.errno in UNWRITABLE:
            place = error.filename or str(output)
            raise CannotWrite(f"{str(place)!r}: {error.strerror}. {go_on(output)}") from error
        raise
    except RuntimeError as error:  # PyTorch and safetensors have no classes for these
        text = str(error).lower()
        if any(words in text for words in _OUT_OF_MEMORY):
            raise _out_of_memory(error, output, training) from error
        if "no space left" in text or "file write failed" in text:
            raise NoRoom(f"no room in {str(output)!r}. {_has(output)}{go_on(output)}") from error
        raise


def require_room(output: Path, *, model: int, checkpoint: int) -> None:
    """Check before the first step that the disk has room for one checkpoint and the final model.

    Args:
        output: The run folder.
        model: Bytes of the weights that are saved at the end.
        checkpoint: Bytes of a checkpoint; 0 if the run saves none.

    Raises:
        NoRoom: It has not.
    """
    needed = model + checkpoint
    free = shutil.disk_usage(output).free
    if free < needed:
        raise NoRoom(
            f"no room in {str(output)!r}: the run needs {needed / _MIB:,.0f} MiB for a checkpoint and the final model, "
            f"and the disk has {free / _MIB:,.0f} MiB. Name another folder in `output`, or free some space."
        )


def go_on(output: Path, *, flags: str = "--resume") -> str:
    """Return the sentence that says from which checkpoint the run can continue, and with which flags."""
    found = [path.parent for path in output.glob(_CHECKPOINTS) if path.parent.name.rpartition("-")[2].isdecimal()]
    if not found:
        return "There is no checkpoint; start again with --overwrite."
    newest = max(found, key=lambda path: int(path.name.rpartition("-")[2]))
    return f"{newest.name} is complete; then continue with {flags}."


def _has(output: Path) -> str:
    try:
        free = shutil.disk_usage(output).free
    except OSError:
        return ""
    return f"The disk has {free / _MIB:,.0f} MiB. "


def _out_of_memory(error: BaseException, output: Path, training: Mapping[str, Any]) -> OutOfMemory:
    size = training.get("per_device_train_batch_size", 8)
    remedy = "Lower per_device_train_batch_size and raise gradient_accumulation_steps by the same factor"
    if size == 1:
        remedy = "Lower the preprocessor's max_length, or set gradient_checkpointing"
    first = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return OutOfMemory(
        f"out of memory with per_device_train_batch_size {size}: {first}. {remedy}; a strategy such as lora "
        f"needs less, too. {go_on(output, flags='--resume --accept-changes')}"
    )
