"""The option ``training.average``, and which checkpoints a run with it keeps; see `finetune.training.soup`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from finetune.checkpoint_folders import name_of
from finetune.errors import BadOptions
from finetune.training import early_stopping

OPTION = "average"
CHECKPOINTS = 5
"""How many checkpoints stay on the disk by default, the newest among them."""


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """The option of the ``training`` section that is not upstream's."""

    average: Literal["greedy"] | None = field(
        default=None,
        metadata={
            "help": "greedy: end with the mean of the weights of the best checkpoints, as far as the score of "
            "validation does not get worse. The run then evaluates and saves at the same steps; save_total_limit (5 "
            "by default) says how many checkpoints stay."
        },
    )


def is_on(training: Mapping[str, Any]) -> bool:
    """Return whether training options ask for an average."""
    return training.get(OPTION) is not None


def check(training: Mapping[str, Any]) -> None:
    """Check that a run keeps the checkpoints that are averaged; the types of the options are checked before.

    Raises:
        BadOptions: It does not, or its weights are divided among processes.
    """
    if not is_on(training):
        return
    where = f"training: '{OPTION}: {training[OPTION]}'"
    early_stopping.check_checkpoints(training, where)
    if training.get("fsdp"):
        raise BadOptions(f"{where} cannot be used with weights that are divided (fsdp). Leave out one of the two.")
    limit = training.get("save_total_limit")
    if limit is not None and limit < 3:
        raise BadOptions(
            f"{where} needs two checkpoints besides the newest, so save_total_limit cannot be {limit}. Write 3 or more."
        )


def best_first(log: Sequence[Mapping[str, Any]], *, metric: str, greater_is_better: bool) -> list[tuple[int, float]]:
    """Return the steps that were evaluated, with their scores, the best first; of equal scores, the latest.

    >>> log = [{"step": 1, "eval_f1": 0.5}, {"step": 2, "eval_f1": 0.7}, {"step": 3, "eval_f1": 0.5}, {"step": 3}]
    >>> best_first(log, metric="f1", greater_is_better=True)
    [(2, 0.7), (3, 0.5), (1, 0.5)]
    """
    key = f"eval_{metric.removeprefix('eval_')}"
    scores = {entry["step"]: float(entry[key]) for entry in log if key in entry and entry[key] == entry[key]}
    return sorted(scores.items(), key=lambda item: (-item[1] if greater_is_better else item[1], -item[0]))


def kept_names(args: Any, state: Any, *, always: Collection[str]) -> list[str]:
    """Return the names of the checkpoints that stay because of their scores.

    Args:
        args: The trainer's arguments.
        state: The trainer's state.
        always: Names of those that stay in any case. They count for ``save_total_limit``.
    """
    found = best_first(
        state.log_history, metric=str(args.metric_for_best_model), greater_is_better=bool(args.greater_is_better)
    )
    others = [name_of(step) for step, _ in found if name_of(step) not in always]
    return others[: max(args.save_total_limit - len(always), 0)] if args.save_total_limit else others


def without(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return training options without the one that upstream does not know."""
    return {name: value for name, value in arguments.items() if name != OPTION}
