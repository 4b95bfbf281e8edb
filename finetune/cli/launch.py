"""``--processes N``: the same call again in N processes, under torchrun's own launcher."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack

import click


def again(arguments: list[str], *, count: int, go_on: Callable[[], str]) -> int:
    """Call ``finetune`` in several processes, and wait for their end.

    Args:
        arguments: The call, without ``finetune``.
        count: How many processes.
        go_on: Returns the sentence that says how to continue after a process was killed.

    Returns:
        The exit code of the process that failed first; 0 if none did.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from finetune import processes
    from finetune.training import upstream

    processes.require_gpus(count)
    variables = {
        "OMP_NUM_THREADS": str(processes.threads_each(count)),
        "TORCH_CPP_LOG_LEVEL": "ERROR",  # DDP warns of the time that a safe default takes
        # A signal stops the processes after a step and a checkpoint. By default, they are killed after 30 seconds.
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "3600",
    }
    try:
        with ExitStack() as quiet:
            for name, value in variables.items():
                if name not in os.environ:
                    quiet.enter_context(upstream.environment(name, value))
            for module in ("agent.server.api", "multiprocessing.api", "multiprocessing.errors"):
                # these repeat our messages, as tables
                quiet.enter_context(upstream.suppress_logger(f"torch.distributed.elastic.{module}"))
            launch = LaunchConfig(
                min_nodes=1, max_nodes=1, nproc_per_node=count, rdzv_backend="c10d", rdzv_endpoint="localhost:0",
                run_id=f"finetune-{os.getpid()}", max_restarts=0, monitor_interval=0.1,
            )  # fmt: skip
            elastic_launch(launch, sys.executable)("-P", "-m", "finetune", *arguments)
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        code = int(failure.exitcode)
        if code < 0:
            click.secho("error: ", fg="red", bold=True, nl=False, err=True)
            click.echo(f"process {number} of {count} was killed by {failure.signal_name()}. {go_on()}", err=True)
            return 128 - code
        return code
    except SignalException as stop:
        return 128 + int(stop.sigval)
    return 0


def without_option(arguments: list[str], name: str) -> list[str]:
    """Return the arguments of a call without an option and its value.

    >>> without_option(["train", "r.yaml", "--processes", "2", "-q", "--processes=3"], "--processes")
    ['train', 'r.yaml', '-q']
    """
    kept, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == name:
            skip = True
        elif not argument.startswith(f"{name}="):
            kept.append(argument)
    return kept
