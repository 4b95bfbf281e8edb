"""Faults of the machine that a campaign prepares in the process of a command."""

from __future__ import annotations

import builtins
import io
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))  # for `toy`, also in the processes of the commands


class FailOnce:
    """Counts the operations on files below a folder that write, and lets one of them fail."""

    def __init__(self, folder: str, number: int, error: int, log: str = "") -> None:
        self.folder = os.path.realpath(folder)
        self.number = number
        self.error = error
        self.log = log
        self.count = 0

    def check(self, path: Any, what: str) -> None:
        """Count an operation, and raise the error if it is the one that fails.

        Raises:
            OSError: It is.
        """
        try:
            place = os.path.realpath(os.fspath(path))
        except TypeError:
            return
        if isinstance(place, bytes) or not place.startswith(self.folder):
            return
        self.count += 1
        if self.log:
            descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, f"{what} {os.path.relpath(place, self.folder)}\n".encode())
            os.close(descriptor)
        if self.count == self.number:
            raise OSError(self.error, os.strerror(self.error), place)


def fail_once(folder: str, number: int, error: int, log: str = "") -> None:
    """Let the operation of a number fail in this process.

    Args:
        folder: Only operations on files below it count.
        number: From 1; 0 to count alone.
        error: The error of the system.
        log: A file that gets a line for each operation.
    """
    fault = FailOnce(folder, number, error, log)

    def replace(module: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(module, name)

        def guarded(path: Any, *args: Any, **kwargs: Any) -> Any:
            fault.check(path, name)
            return real(path, *args, **kwargs)

        setattr(module, name, guarded)

    for name in ("mkdir", "unlink", "remove", "rename", "replace", "rmdir"):
        replace(os, name)
    real_open, real_os_open, real_fsync = builtins.open, os.open, os.fsync

    def guarded_open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if any(letter in mode for letter in "wax+"):
            fault.check(file, "open")
        opened = real_open(file, mode, *args, **kwargs)
        if any(letter in mode for letter in "wax+") and isinstance(file, str | os.PathLike):
            return _Written(opened, fault, file)
        return opened

    def guarded_os_open(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            fault.check(path, "os.open")
        return real_os_open(path, flags, *args, **kwargs)

    def guarded_fsync(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        fault.check(os.readlink(f"/proc/self/fd/{number}"), "fsync")
        real_fsync(descriptor)

    builtins.open = guarded_open
    io.open = guarded_open
    os.open = guarded_os_open
    os.fsync = guarded_fsync
    for module, name in (("safetensors.torch", "save_file"), ("transformers.modeling_utils", "safe_save_file")):
        _guard_rust(module, name, fault)
    real_save = torch.save

    def guarded_save(content: Any, file: Any, *args: Any, **kwargs: Any) -> Any:
        fault.check(file, "torch.save")
        return real_save(content, file, *args, **kwargs)

    torch.save = guarded_save


def _guard_rust(module: str, name: str, fault: FailOnce) -> None:
    """Let a function of safetensors fail as Rust does."""
    from importlib import import_module

    from safetensors import SafetensorError

    holder = import_module(module)
    real = getattr(holder, name, None)
    if real is None:
        return

    def guarded(tensors: Any, filename: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            fault.check(filename, "safetensors")
        except OSError as error:
            raise SafetensorError(
                f"Error while serializing: I/O error: {error.strerror} (os error {error.errno})"
            ) from None
        return real(tensors, filename, *args, **kwargs)

    setattr(holder, name, guarded)


class _Written:
    """A file whose writes count; half of what the failing one should write reaches the disk."""

    def __init__(self, file: Any, fault: FailOnce, path: Any) -> None:
        self._file, self._fault, self._path = file, fault, path

    def write(self, content: Any) -> Any:
        try:
            self._fault.check(self._path, "write")
        except OSError as error:
            self._file.write(content[: len(content) // 2])
            error.filename = None  # as the system does
            raise
        return self._file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Any:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._file.__exit__(*error)

    def __iter__(self) -> Any:
        return iter(self._file)


def limit_files(size: int) -> None:
    """Let no file of this process grow beyond a size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def out_of_memory(step: int, rows: int) -> None:
    """Let the memory be too small at a step for a batch of more than some rows."""
    from transformers import Trainer

    real = Trainer.training_step

    def guarded(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step + 1 == step and len(inputs["input_ids"]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(self, model, inputs, *args, **kwargs)

    Trainer.training_step = guarded  # type: ignore[method-assign]


def not_finite(where: str, value: float, step: int) -> None:
    """Let a number not be finite at a step.

    Args:
        where: ``loss``, ``gradient``, ``weight`` or ``metric``.
        value: NaN or infinity.
        step: From 1.
    """
    from transformers import Trainer

    if where == "metric":
        from finetune.training.trainer import PatchedTrainer

        real_evaluate = PatchedTrainer.evaluation_loop

        def evaluated(self: Any, *args: Any, **kwargs: Any) -> Any:
            found = real_evaluate(self, *args, **kwargs)
            if self.state.global_step == step and "eval_loss" in found.metrics:
                found.metrics["eval_loss"] = value
            return found

        PatchedTrainer.evaluation_loop = evaluated  # type: ignore[method-assign]
        return
    if where == "loss":
        real_loss = Trainer.compute_loss

        def computed(self: Any, *args: Any, **kwargs: Any) -> Any:
            found = real_loss(self, *args, **kwargs)
            if self.model.training and self.state.global_step + 1 == step:
                return (found[0] + value, found[1]) if isinstance(found, tuple) else found + value
            return found

        Trainer.compute_loss = computed  # type: ignore[method-assign]
        return
    real_step = Trainer.training_step

    def trained(self: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        found = real_step(self, model, *args, **kwargs)
        if self.state.global_step + 1 == step:
            last = [p for p in model.parameters() if p.grad is not None][-1]
            with torch.no_grad():
                (last.grad if where == "gradient" else last).view(-1)[0] = value
        return found

    Trainer.training_step = trained  # type: ignore[method-assign]


def fail() -> None:
    """Raise an error that no message explains."""
    raise RuntimeError("prepared")


def refuse_on_the_second_process() -> None:
    """Let the second process of a run refuse the model."""
    if os.environ["RANK"] == "1":
        from finetune.errors import Incompatible
        from finetune.training import checks

        def refuse(*_: Any, **__: Any) -> None:
            raise Incompatible("the second process refuses the model.")

        checks.something_trains = refuse


def fail_to_load(fault: str) -> Any:
    """Fail as a process can that is to load a model."""
    from finetune.errors import Incompatible

    if fault == "refused":
        raise Incompatible("the model is refused.")
    if fault == "user":
        return {}["gold"]
    if fault == "memory":
        raise MemoryError("there is no memory")
    os._exit(3)
