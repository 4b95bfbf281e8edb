"""Predict blocks with Ray Data: on a cluster that is started on this machine, or on one that runs."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from finetune import failures
from finetune.errors import BadOptions, ProcessFailed
from finetune.prediction.blocks import Block, Blocks, Predict
from finetune.prediction.engines import Lines, Load, portable
from finetune.training import upstream
from finetune.user_code import first_line

_PASSED = ("MKL_CBWR", "HF_HUB_OFFLINE", "HF_HOME", "TOKENIZERS_PARALLELISM", "FINETUNE_LOAD_PLUGINS")
"""Variables that change what a process predicts, or what it can load."""

_DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing about its use is sent
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # no notes beside our lines
}
"""Variables that are set for Ray if they are not set."""


def predicted(load: Load, blocks: Blocks, missing: Sequence[int], *, count: int | None, address: str | None) -> Lines:
    """Yield the number and the lines of each missing block; see `finetune.prediction.engines.predicted`.

    This machine must belong to the cluster: it reads the rows. Another machine gets them through Ray, and loads the
    model from the run folder, which it must find under the same path.

    Raises:
        BadOptions: There is no cluster at the address.
        FinetuneError: A block cannot be predicted.
    """
    import ray
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.enable_operator_progress_bars = False
    with ExitStack() as stack:
        stack.enter_context(upstream.at_level("ray.data", logging.ERROR))
        for name, value in _DEFAULTS.items():
            stack.enter_context(upstream.environment(name, os.environ.get(name, value)))
        if not ray.is_initialized():
            _start(address)
            stack.callback(ray.shutdown)
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        numbers = ray.data.from_items([{"block": number} for number in missing], override_num_blocks=len(missing))
        # Reading takes no CPU of those that Ray counts, so that it goes on while all of them predict.
        read = numbers.map(_Read(blocks), num_cpus=0, label_selector=here)
        made = read.map(
            _Model,
            fn_constructor_args=(load, str(Path.cwd())),
            compute=ray.data.ActorPoolStrategy(size=count or gpus or max(1, int(resources.get("CPU", 1)))),
            num_cpus=0 if gpus else 1,
            num_gpus=1 if gpus else 0,
        )
        for row in made.iter_rows():
            answer: str | Exception = pickle.loads(row["answer"])
            if isinstance(answer, Exception):
                raise answer
            yield int(row["block"]), answer


def _start(address: str | None) -> None:
    """Connect to a cluster, or start one on this machine.

    Raises:
        BadOptions: There is no cluster at the address.
    """
    import ray

    variables = {name: os.environ[name] for name in _PASSED if name in os.environ}
    options: dict[str, Any] = {} if address else {"include_dashboard": False}
    handlers = {number: signal.getsignal(number) for number in failures.SIGNALS}
    try:
        ray.init(
            address=address or "local",
            runtime_env={"env_vars": variables},
            log_to_driver=False,
            logging_level=logging.ERROR,
            **options,
        )
    except Exception as error:  # Ray has no class of its own for it
        if address is None:
            raise ProcessFailed(f"Ray does not start on this machine: {first_line(error)}") from error
        raise BadOptions(f"--address: there is no cluster of Ray at {address!r}: {first_line(error)}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)  # Ray has its own, which would end the command without a message


class _Read:
    """Reads a block on the machine that has the rows."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        number = int(row["block"])
        return {"block": number, "rows": pickle.dumps(self._blocks[number])}


class _Model:
    """Holds the model of one actor, and predicts blocks."""

    def __init__(self, load: Load, folder: str) -> None:
        with suppress(OSError):  # another machine may lack it; a relative path of the recipe then fails with its name
            os.chdir(folder)
        self._load = load
        self._predict: Predict | None = None

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        answer: str | Exception
        try:
            self._predict = self._predict or self._load()
            block: Block = pickle.loads(row["rows"])
            answer = block.text(self._predict)
        except Exception as error:  # noqa: BLE001, the process that started Ray shows it
            answer = portable(error)
        return {"block": row["block"], "answer": pickle.dumps(answer)}
