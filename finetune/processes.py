"""The processes of one run, as ``torchrun`` or ``accelerate launch`` starts them: each knows its number.

Process 0, the main one, reads and checks the data, writes the run folder and prints. The others get the data from it,
and train with it. A run in one process calls the same functions, and they do nothing.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

from finetune.errors import BadOptions, FinetuneError, ProcessFailed

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long a process waits for the others outside training; one of them may read a large data set meanwhile."""

_BROKEN = ("connection closed by peer", "connection reset by peer", "broken pipe", "timed out waiting", "nccl error")
"""What the errors of torch say when another process is gone; they have no class."""

_ENGINES = {
    "ACCELERATE_USE_DEEPSPEED": ("DeepSpeed", "its checkpoints are pickles, which can run code"),
    "ACCELERATE_USE_MEGATRON_LM": ("Megatron-LM", "it is not tested"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": ("parallelism_config", "it is not tested"),
}
"""Variables by which accelerate says what divides a model → its name, and why it is not supported."""

_control: Any = None
"""The group for messages between the processes; it works on CPUs, whatever trains on."""


def count() -> int:
    """Return how many processes the run has."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def number() -> int:
    """Return the number of this process; 0 for the main one."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Return whether this is the process that writes and prints."""
    return number() == 0


def require_gpus(count: int) -> list[str]:
    """Return the GPUs of this machine as ``CUDA_VISIBLE_DEVICES`` names them; none without GPUs.

    Args:
        count: How many processes are wanted; each needs a GPU if there are any.

    Raises:
        BadOptions: There are fewer GPUs.
    """
    import torch

    gpus = torch.cuda.device_count()
    if 0 < gpus < count:
        raise BadOptions(f"--processes is {count}, and this machine has {gpus} GPUs. Each process needs one.")
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named and gpus else [str(number) for number in range(gpus)]


def threads_each(processes: int) -> int:
    """Return how many threads each of some processes of this machine gets."""
    return max(1, (os.cpu_count() or 1) // processes)


def join(*, timeout: float) -> None:
    """Join the other processes of the run.

    Args:
        timeout: Seconds after which a step of training is given up if another process does not answer.

    Raises:
        BadOptions: accelerate is configured for DeepSpeed, or for another engine that is not supported.
    """
    global _control
    if count() == 1 or _control is not None:
        return
    for variable, (engine, why) in _ENGINES.items():
        if os.environ.get(variable, "").lower() in ("true", "1"):
            raise BadOptions(
                f"the configuration of accelerate has {engine}, which is not supported: {why}. Leave it out, and use "
                "FSDP version 2 to divide the weights."
            )
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=timedelta(seconds=timeout))
    _control = distributed.new_group(backend="gloo", timeout=PATIENCE)


def leave() -> None:
    """Leave the other processes; a run that ends well does so."""
    global _control
    if _control is not None:
        from torch import distributed

        _control = None
        distributed.destroy_process_group()


def wait() -> None:
    """Wait until every process is here."""
    if _control is not None:
        from torch import distributed

        distributed.barrier(_control)


def any_of(flag: int) -> int:
    """Return the largest number that a process gives; each gets the same answer."""
    if _control is None:
        return flag
    import torch
    from torch import distributed

    largest = torch.tensor(flag)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX, _control)
    return int(largest)


@contextmanager
def agreed() -> Iterator[None]:
    """End a `with` block on every process with the error of the first one that has one.

    The block must not exchange anything with the other processes.

    Raises:
        ProcessFailed: Another process has an error, and shows it.
    """
    error: FinetuneError | None = None
    try:
        yield
    except FinetuneError as caught:
        error = caught
    first = count() - any_of(count() - number() if error is not None else 0)
    if error is not None and (first == number() or count() == 1):
        raise error
    if first < count():
        _wait_for_end(first)
        raise ProcessFailed(f"process {first} of {count()} has an error, which it shows.", number=first)


def _wait_for_end(other: int) -> None:
    """Wait until a process with an error has ended, so that a launcher takes its exit code for that of the run."""
    import torch
    from torch import distributed

    with suppress(RuntimeError):  # nothing is ever sent; the connection breaks when that process ends
        received = distributed.irecv(torch.zeros(1), src=other, group=_control)
        if received is not None:
            received.wait(timedelta(seconds=10))


def from_main(make: Callable[[], T]) -> T:
    """Call a function on the main process, and give its result to all others.

    Raises:
        FinetuneError: The function raised it.
        ProcessFailed: It raised an error on the main process.
    """
    if _control is None:
        return make()
    from torch import distributed

    made: list[Any] = [None]
    with agreed():
        if is_main():
            made = [make()]
    distributed.broadcast_object_list(made, src=0, group=_control)
    result: T = made[0]
    return result


@contextmanager
def explained(go_on: Callable[[], str]) -> Iterator[None]:
    """Turn the error of a broken connection within a `with` block into one that says that another process ended.

    Args:
        go_on: Returns the sentence that says how to continue.

    Raises:
        ProcessFailed: Another process ended.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error).lower()
        if count() == 1 or not any(sign in text for sign in _BROKEN):
            raise
        raise ProcessFailed(f"another of the {count()} processes of the run ended. {go_on()}") from error


def shared(make: Callable[[], T]) -> T:
    """Call a function on one process of each machine, and give its result to the others there.

    What cannot be pickled, such as a preprocessor with a function inside a function, each process makes itself.

    Raises:
        FinetuneError: The function raised it.
        ProcessFailed: It raised an error on the process that called it.
    """
    size = int(os.environ.get("LOCAL_WORLD_SIZE", str(count())))
    if _control is None or count() % size:
        return make()
    from torch import distributed

    local = int(os.environ.get("LOCAL_RANK", "0"))
    subgroups: Any = distributed.new_subgroups  # upstream leaves it without types
    group, _ = subgroups(size, backend="gloo", timeout=PATIENCE)
    made: T | None = None
    packed: list[bytes | None] = [None]
    with agreed():
        if local == 0:
            made = make()
            try:
                packed = [pickle.dumps(made)]
            except (pickle.PicklingError, TypeError, AttributeError):
                packed = [None]
    distributed.broadcast_object_list(packed, src=number() - local, group=group)
    with agreed():
        if local != 0:
            made = make() if packed[0] is None else pickle.loads(packed[0])
    assert made is not None
    return made
