"""Commands that make many runs, one after another, in one process."""

from __future__ import annotations

from finetune.errors import BadOptions
from finetune.kit import count_processes


def require_one_process(command: str, instead: str = "") -> None:
    """Check that a command was not started by torchrun or ``accelerate launch``.

    Each process would decide what to train next, and write into the same folder.

    Args:
        command: Name of the command.
        instead: A sentence that says what uses several GPUs.

    Raises:
        BadOptions: It was.
    """
    count = count_processes()
    if count > 1:
        raise BadOptions(
            f"finetune {command} makes its runs one after another, each in one process, and torchrun or accelerate "
            f"has started {count} processes. Call `finetune {command}` without it." + (f" {instead}" if instead else "")
        )
