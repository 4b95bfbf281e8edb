"""Early stopping: options of the ``training`` section that are not upstream's, and what they set up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune.errors import BadOptions
from finetune.training import upstream

upstream.import_bitsandbytes()  # the next import would import it too, with a warning

from transformers import EarlyStoppingCallback  # noqa: E402

PATIENCE, THRESHOLD = "early_stopping_patience", "early_stopping_threshold"


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """Options of early stopping, with the names that `transformers.EarlyStoppingCallback` gives them."""

    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "Stop if the score of validation has not improved in this many evaluations in a row. The run then "
            "evaluates and saves at the same steps, and ends with the weights of the best evaluation."
        },
    )
    early_stopping_threshold: float = field(
        default=0.0,
        metadata={"help": "With early_stopping_patience: an improvement counts if it is greater than this."},
    )


def is_on(training: Mapping[str, Any]) -> bool:
    """Return whether training options ask for early stopping."""
    return training.get(PATIENCE) is not None


def check(training: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Check that early stopping fits the other training options of a recipe; their types are checked before.

    Args:
        training: The options of the recipe.
        defaults: Those of the task, where they are not upstream's.

    Raises:
        BadOptions: The run could not be evaluated, could not keep its best weights, or would end before it can stop.
    """
    if not is_on(training):
        if training.get(THRESHOLD):
            raise BadOptions(f"training: {THRESHOLD!r} has an effect with {PATIENCE!r} only. Set that too.")
        return
    where = f"training: {PATIENCE!r}"
    check_checkpoints(training, where)
    evaluations = _evaluations({**defaults, **training})
    patience = training[PATIENCE]
    if evaluations is not None and evaluations < patience + 2:
        raise BadOptions(
            f"{where}: {patience} cannot stop this run before its end, because it is evaluated {evaluations} times. "
            f"Set num_train_epochs or max_steps to the most that you allow, such as {patience + 7} epochs; or evaluate "
            "more often, with eval_strategy: steps and eval_steps."
        )


def check_checkpoints(training: Mapping[str, Any], where: str) -> None:
    """Check that a run has a checkpoint of each evaluation, from which it takes its last weights.

    Args:
        training: The options of the recipe.
        where: The option that needs it, for the message.

    Raises:
        BadOptions: It has not.
    """
    if training.get("load_best_model_at_end") is False:
        raise BadOptions(f"{where} ends with the best weights, so 'load_best_model_at_end' cannot be false. Remove it.")
    for name, what in (("eval_strategy", "evaluations"), ("save_strategy", "checkpoints")):
        if training.get(name) == "no":
            raise BadOptions(f"{where} needs {what}, so {name!r} cannot be 'no'. Remove it, or write epoch or steps.")
    _check_moments(training, where)


def _check_moments(training: Mapping[str, Any], where: str) -> None:
    """Check that a run saves a checkpoint whenever it is evaluated, so that the best one exists."""
    evaluated, saved = training.get("eval_strategy"), training.get("save_strategy")
    if saved == "best":
        return
    if evaluated is not None and saved is not None and evaluated != saved:
        raise BadOptions(
            f"{where} needs a checkpoint of each evaluation, but eval_strategy is {evaluated!r} and save_strategy is "
            f"{saved!r}. Write the same for both, or leave one out."
        )
    steps, every = training.get("eval_steps"), training.get("save_steps")
    if "epoch" not in (evaluated, saved) and steps is not None and every is not None and steps != every:
        raise BadOptions(
            f"{where} needs a checkpoint of each evaluation, but eval_steps is {steps} and save_steps is {every}. "
            "Write the same for both, or leave one out."
        )


def _evaluations(training: Mapping[str, Any]) -> int | None:
    """Return how often a run is evaluated; None if that depends on the data."""
    max_steps = training.get("max_steps", -1)
    by_steps = "steps" in (training.get("eval_strategy"), training.get("save_strategy"))
    if by_steps:
        every = training.get("eval_steps") or training.get("save_steps") or training.get("logging_steps") or 10
        if every < 1:
            return math.floor(1 / every + 1e-9)
        return None if max_steps < 1 else math.floor(max_steps / every)
    return math.ceil(training.get("num_train_epochs", 3)) if max_steps < 1 else None


def aligned(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that let a run save whenever it is evaluated, where the recipe does not say when.

    Args:
        values: The options of the run, with defaults.
        given: Those of the recipe.
    """
    changed: dict[str, Any] = {}
    if "save_strategy" not in given:
        changed["save_strategy"] = values["eval_strategy"]
    elif "eval_strategy" not in given and given["save_strategy"] in ("steps", "epoch"):
        changed["eval_strategy"] = given["save_strategy"]
    both = {**values, **changed}
    if both["eval_strategy"] == both["save_strategy"] == "steps":
        if "save_steps" not in given:
            changed["save_steps"] = both.get("eval_steps") or both["logging_steps"]
        elif "eval_steps" not in given:
            changed["eval_steps"] = both["save_steps"]
    return changed


def callbacks(arguments: Mapping[str, Any]) -> list[EarlyStoppingCallback]:
    """Return the callback that stops a run, if its options ask for one."""
    if not is_on(arguments):
        return []
    return [EarlyStoppingCallback(arguments[PATIENCE], arguments.get(THRESHOLD, 0.0))]


def without(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return training options without those of early stopping, which upstream does not know."""
    return {name: value for name, value in arguments.items() if name not in (PATIENCE, THRESHOLD)}


def describe(trainer: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what early stopping did, as `Result.early_stopping` holds it; empty if the run had none.

    Args:
        trainer: After training.
        arguments: The options of the run.
    """
    if not is_on(arguments):
        return {}
    state, patience = trainer.state, arguments[PATIENCE]
    counters = [
        callback.early_stopping_patience_counter
        for callback in trainer.callback_handler.callbacks
        if isinstance(callback, EarlyStoppingCallback)
    ]
    return {
        "patience": patience,
        "threshold": arguments.get(THRESHOLD, 0.0),
        "score": str(trainer.args.metric_for_best_model).removeprefix("eval_"),
        "stopped": state.global_step < state.max_steps and max(counters, default=0) >= patience,
        "step": state.global_step,
        "max_steps": state.max_steps,
        "best_step": state.best_global_step if state.best_model_checkpoint is not None else None,
        "best": state.best_metric,
    }
