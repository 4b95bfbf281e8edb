"""What predicts the blocks: this process, several processes of this machine, or Ray."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from finetune import failures, processes
from finetune.data import storage
from finetune.errors import FinetuneError, MissingLibrary, ProcessFailed
from finetune.plugins import describe_missing, not_installed
from finetune.prediction.blocks import Blocks, Predict
from finetune.training import upstream
from finetune.user_code import failed

Load = Callable[[], Predict]
"""Loads the model; it can be pickled."""

Lines = Generator[tuple[int, str], None, None]
"""The number and the lines of each block."""

ENGINES = ("local", "ray")
"""`local` is this machine; `ray` is a cluster of machines, or one that is started here."""

_LONGEST_FOLDER = 70
"""Bytes of the path of a temporary folder in which the path of a socket has room."""
_TRIES = 40
"""How often a process tries to delete the folder of the one that started it and was killed."""

GO_ON = "The files that are written stay; the same call makes the others."


def predicted(
    load: Load, blocks: Blocks, missing: Sequence[int], *, engine: str, count: int | None, address: str | None
) -> Lines:
    """Yield the number and the lines of each missing block, in any order.

    Args:
        load: Loads the model, once in each process.
        blocks: All blocks.
        missing: Numbers of those to predict.
        engine: One of `ENGINES`.
        count: How many processes predict; None for one here, and for as many as the cluster has GPUs or CPUs in Ray.
        address: Where the cluster is; None to start one on this machine.

    Raises:
        MissingLibrary: Ray is not installed.
        ProcessFailed: A process was killed.
        FinetuneError: A block cannot be predicted.
    """
    if engine == "ray":
        if lacking := not_installed({"ray": "finetune-kit[ray]"}):
            raise MissingLibrary(f"the engine 'ray' {describe_missing(lacking)}")
        from finetune.prediction import cluster

        return cluster.predicted(load, blocks, missing, count=count, address=address)
    if count is None or count == 1:
        return _here(load, blocks, missing)
    return _in_processes(load, blocks, missing, min(count, len(missing)))


def _here(load: Load, blocks: Blocks, missing: Sequence[int]) -> Lines:
    predict = load()
    for number in missing:
        yield number, blocks[number].text(predict)


@dataclass(frozen=True, eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection


def _in_processes(load: Load, blocks: Blocks, missing: Sequence[int], count: int) -> Lines:
    """Give each process the next missing block when it has predicted one."""
    gpus = processes.require_gpus(count)
    context: Any = multiprocessing.get_context(_start_method())
    context.set_forkserver_preload(["finetune.api"])
    workers: dict[Connection, _Worker] = {}
    todo = iter(missing)
    try:
        for number in range(count):
            ours, theirs = context.Pipe()
            gpu = gpus[number] if gpus else None
            process = context.Process(
                target=_work, args=(load, blocks, theirs, count, gpu, storage.root()), daemon=True
            )
            with upstream.environment("PYTHONSAFEPATH", "1"):  # else Python looks into the current folder for modules
                process.start()
            theirs.close()
            workers[ours] = _Worker(process, ours)
            _ask(workers[ours], next(todo))
        while workers:
            for ready in wait(list(workers)):
                worker = workers[ready]  # type: ignore[index]
                yield _answer(worker, count)
                following = next(todo, None)
                _ask(worker, following)
                if following is None:
                    del workers[worker.connection]
                    worker.process.join()
    finally:
        for worker in workers.values():
            worker.process.kill()
            worker.process.join()


def _start_method() -> Literal["forkserver", "spawn"]:
    """Return how processes are started; a fork of this one could not use its GPUs.

    A server that forks has a socket in the temporary folder, and the path of a socket has at most 107 bytes.
    """
    return "forkserver" if len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_FOLDER else "spawn"


def _ask(worker: _Worker, number: int | None) -> None:
    """Give a process the number of its next block; None for the end."""
    with suppress(BrokenPipeError):  # it was killed, and `_answer` says so
        worker.connection.send(number)


def _answer(worker: _Worker, count: int) -> tuple[int, str]:
    """Return the number and the lines of the block that a process has predicted.

    Raises:
        ProcessFailed: It was killed.
    """
    try:
        answer: tuple[int, str] | BaseException = pickle.loads(worker.connection.recv_bytes())
    except (EOFError, OSError):
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        raise ProcessFailed(f"one of {count} processes {how}. {GO_ON}") from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _work(load: Load, blocks: Blocks, connection: Connection, count: int, gpu: str | None, root: str) -> None:
    """Predict the blocks whose numbers come, until None comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first one ends them
    storage.use(root)  # a process that is killed cannot delete a folder of its own
    threading.Thread(target=_end_with_parent, args=(root,), daemon=True).start()
    if "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(processes.threads_each(count))
    predict: Predict | None = None
    with ExitStack() as own, suppress(EOFError, ConnectionError):  # the first process is gone
        if gpu is not None:
            own.enter_context(upstream.environment("CUDA_VISIBLE_DEVICES", gpu))
        while (number := connection.recv()) is not None:
            try:
                predict = predict or load()
                answer: object = (number, blocks[number].text(predict))
            except Exception as error:  # noqa: BLE001, the first process shows it
                answer = portable(error)
            connection.send_bytes(pickle.dumps(answer))
        return
    _end_with_parent(root)  # here too: at the end of the main thread, the other one would stop before it has deleted


def _end_with_parent(root: str) -> None:
    """End this process when the one that started it is gone, also if it was killed, and delete its folder."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    for _ in range(_TRIES):  # another process may still write into it
        storage.remove_abandoned()
        if not os.path.exists(root):
            break
        time.sleep(0.05)
    for _ in range(_TRIES):  # what was written after the lock was deleted, also by the main thread of this process
        shutil.rmtree(root, ignore_errors=True)
        if not os.path.exists(root):
            break
        time.sleep(0.05)
    os._exit(1)


def portable(error: Exception) -> Exception:
    """Return what an error means, as an error that can be raised in another process.

    Where it was raised does not survive the way, so what depends on that is said here.
    """
    meaning: Exception | None = failures.explain(error)
    if meaning is None and not isinstance(error, FinetuneError):
        meaning = failed(error)
    meaning = meaning or error
    if not isinstance(meaning, FinetuneError):
        meaning.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(meaning))
    except Exception:  # noqa: BLE001, an error of a library can be of any form
        return RuntimeError("".join(traceback.format_exception(error)))
    meaning.__traceback__ = None
    return meaning


__all__ = ["ENGINES", "GO_ON", "Lines", "Load", "portable", "predicted"]
