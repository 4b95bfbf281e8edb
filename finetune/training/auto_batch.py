"""`training.batch: auto`: a batch size that is chosen before the first step, and recorded.

The recipe states how many rows a step takes: `per_device_train_batch_size` times `gradient_accumulation_steps`. The
choice only divides them into batches, so the loss of a step stays the mean over the same number of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from finetune.errors import BadOptions
from finetune.interfaces import Task
from finetune.plugins import resolve
from finetune.recipe.strict_yaml import load
from finetune.result import RECIPE

OPTION = "batch"
SIZE, ACCUMULATED = "per_device_train_batch_size", "gradient_accumulation_steps"
DEFAULT_SIZE = 8
"""Value of `per_device_train_batch_size` in transformers."""


@dataclass(frozen=True, kw_only=True)
class AutoBatch:
    """The option of the ``training`` section that is not upstream's."""

    batch: Literal["auto"] | None = field(
        default=None,
        metadata={
            "help": "auto: before the first step, choose the largest per_device_train_batch_size for which the memory "
            "is enough. gradient_accumulation_steps then keeps the number of rows of a step. The run's recipe.yaml "
            "holds the two numbers, and a run that is resumed takes them."
        },
    )


def is_on(training: Mapping[str, Any]) -> bool:
    """Return whether training options leave the batch size to the run."""
    return training.get(OPTION) is not None


def without(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return training options without the one that upstream does not know."""
    return {name: value for name, value in training.items() if name != OPTION}


def rows_of_a_step(training: Mapping[str, Any]) -> int:
    """Return how many rows a step takes.

    >>> rows_of_a_step({"per_device_train_batch_size": 16, "gradient_accumulation_steps": 4})
    64
    """
    size, accumulated = training.get(SIZE, DEFAULT_SIZE), training.get(ACCUMULATED, 1)
    return int(size) * int(accumulated)


def sizes(rows: int) -> list[int]:
    """Return the batch sizes that divide the rows of a step, the largest first.

    >>> sizes(24)
    [24, 12, 8, 6, 4, 3, 2, 1]
    """
    return [size for size in range(rows, 0, -1) if rows % size == 0]


def divided(training: Mapping[str, Any], *, size: int, rows: int) -> dict[str, Any]:
    """Return training options with a batch size instead of ``batch: auto``.

    Args:
        training: The options.
        size: Rows of a batch.
        rows: Rows of a step.
    """
    return {**without(training), SIZE: size, ACCUMULATED: rows // size}


def recorded(output: Path, *, rows: int) -> int | None:
    """Return the batch size that a run has recorded; None if its steps take another number of rows.

    Args:
        output: The run folder.
        rows: Rows of a step.
    """
    path = output / RECIPE
    content = load(path.read_text(encoding="utf-8"), name=str(path)) if path.is_file() else None
    training = content.get("training") if isinstance(content, Mapping) else None
    if not isinstance(training, Mapping) or not isinstance(training.get(SIZE), int):
        return None
    accumulated = training.get(ACCUMULATED, 1)
    fits = isinstance(accumulated, int) and training[SIZE] * accumulated == rows
    return int(training[SIZE]) if fits else None


def check(training: Mapping[str, Any], task: Task, *, streaming: bool) -> None:
    """Check that a run can choose its batch size; the types of the options are checked before.

    Raises:
        BadOptions: It cannot.
    """
    if not is_on(training):
        return
    where = f"training: '{OPTION}: auto'"
    instead = f"Write {SIZE} and {ACCUMULATED} instead."
    if streaming:
        raise BadOptions(
            f"{where} tries the longest rows, and those of a stream are not known before they are read. {instead}"
        )
    if training.get("fsdp"):
        raise BadOptions(f"{where} cannot try weights that are divided among several processes (fsdp). {instead}")
    if hasattr(resolve(task.arguments), "num_generations"):
        raise BadOptions(
            f"{where}: the model of this task writes its own texts while it trains, so their lengths are not known "
            f"before. {instead}"
        )


def refuse_processes(count: int) -> None:
    """Check that one process trains.

    Raises:
        BadOptions: Several do. A step of one of them waits for the others, also for one whose memory was not enough.
    """
    if count > 1:
        raise BadOptions(
            f"training: '{OPTION}: auto' chooses for one process, and {count} train together. Run `finetune plan` with "
            f"it, and write the {SIZE} and {ACCUMULATED} that it names."
        )
