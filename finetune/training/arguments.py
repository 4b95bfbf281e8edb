"""The recipe's ``training`` section → the trainer's arguments."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from finetune.errors import BadOptions, did_you_mean
from finetune.interfaces import Evaluator, Job, Task
from finetune.plugins import resolve
from finetune.recipe import Recipe

OURS: Mapping[str, str] = {
    "output_dir": "it is the recipe's `output`",
    "seed": "it is the recipe's `seed`",
    "resume_from_checkpoint": "use `finetune train --resume`",
    "push_to_hub": "a run is never pushed while it trains",
    "hub_token": "a token in the arguments ends up, readable, in every checkpoint; set HF_TOKEN",
    "hub_model_id": "a run is never pushed while it trains",
    "generation_config": "how text is written stands in the recipe's `generation`",
    "generation_max_length": "it is the recipe's `generation.max_length`",
    "generation_num_beams": "it is the recipe's `generation.num_beams`",
}
"""Training arguments that a recipe may not set, and why."""

REMOVED: Mapping[str, str] = {
    "warmup_ratio": "write warmup_steps; below 1 it is a share of the steps",
    "evaluation_strategy": "it is eval_strategy now",
    "no_cuda": "it is use_cpu now",
    "overwrite_output_dir": "use `finetune train --overwrite`",
    "group_by_length": "it is train_sampling_strategy: group_by_length now",
    "save_safetensors": "nothing else is ever written",
}
"""Training arguments that transformers 5 dropped, and what to write instead."""
LIMITS = frozenset({"max_length", "max_new_tokens"})
"""Generation options of which one takes the other's place."""

_CODE = "transformers runs it as code from the Hub, and no remote code is ever run"
UNSUPPORTED: Mapping[str, str] = {
    "num_beam_groups": _CODE,
    "diversity_penalty": _CODE,
    "force_words_ids": _CODE,
    "constraints": _CODE,
    "dola_layers": _CODE,
    "penalty_alpha": _CODE,
    "stop_strings": "end tokens stop a text; cut what is written where you need it",
    "guidance_scale": "it needs a second, unconditional prompt",
}
"""Options of `transformers.GenerationConfig` that would fail when the first text is written, and why."""


def check_arguments(cls: type, training: Mapping[str, Any]) -> None:
    """Check the recipe's training options against the class that they are for.

    Raises:
        BadOptions: One is unknown, has gone, is the recipe's own business, or has a value of the wrong type.
    """
    known = {f.name: f for f in dataclasses.fields(cls) if f.init}
    hints = typing.get_type_hints(cls)
    for name, value in training.items():
        where = f"training: {name!r}"
        if name in OURS:
            raise BadOptions(f"{where} cannot be set here: {OURS[name]}.")
        if name not in known:
            told = f" {REMOVED[name][0].upper()}{REMOVED[name][1:]}." if name in REMOVED else did_you_mean(name, known)
            raise BadOptions(f"{where} is not an option of {cls.__name__}.{told}")
        try:
            read = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            raise BadOptions(f"{where}: {error.errors()[0]['msg']}, not {value!r}.") from error
        if isinstance(value, str) and isinstance(read, bool | int | float):  # upstream would take 'no' for true
            raise BadOptions(f"{where}: {read!r} was wanted, without quotes, not the text {value!r}.")
    if training.get("save_total_limit") == 1:
        raise BadOptions(
            "training: 'save_total_limit' is 1: a crash while the only checkpoint is replaced would lose the run. "
            "Keep at least 2."
        )


def arguments(recipe: Recipe, task: Task, *, evaluator: Evaluator, validation: bool) -> dict[str, Any]:
    """Return the training options of a recipe with our defaults and the task's, where they differ from upstream's.

    They are written to the run's `recipe.yaml`.

    Raises:
        BadOptions: The best model is to be kept, and there is nothing to choose by, or no direction to choose in.
    """
    epochs = recipe.training.get("num_train_epochs", 3)
    best: dict[str, Any] = {}
    if recipe.training.get("load_best_model_at_end"):
        if not validation:
            raise BadOptions("training: 'load_best_model_at_end' needs a validation split to choose by.")
        asked = str(recipe.training.get("metric_for_best_model", evaluator.primary)).removeprefix("eval_")
        if asked != evaluator.primary and "greater_is_better" not in recipe.training:
            raise BadOptions(
                f"training: 'metric_for_best_model' is {asked!r}, and the evaluator's primary score is "
                f"{evaluator.primary!r}. Set evaluator.primary, or say greater_is_better beside it."
            )
        # The trainer would guess the direction by the name, and takes perplexity for a score to raise.
        best = {"metric_for_best_model": evaluator.primary, "greater_is_better": evaluator.greater_is_better}
    ours: dict[str, Any] = {
        **best,
        "logging_steps": 10,
        "logging_first_step": True,
        # True would log the NaN of a broken run as 0.0
        "logging_nan_inf_filter": False,
        "eval_strategy": "epoch" if validation and (epochs > 1 or best) else "no",
        "save_strategy": "epoch",
        # 1 would leave nothing to resume from while the next one is being written
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return {**ours, **task.training, **recipe.training}


def device_arguments() -> dict[str, Any]:
    """Return the training options that depend on the machine, and therefore are no part of a recipe."""
    import torch

    accelerated = torch.accelerator.is_available()
    return {"use_cpu": not accelerated, "dataloader_pin_memory": accelerated}


def build_arguments(job: Job) -> Any:
    """Build the trainer's arguments.

    Raises:
        BadOptions: They contradict each other, or the machine.
    """
    try:
        return resolve(job.task.arguments)(**job.arguments)
    except (ValueError, TypeError, ImportError) as error:
        raise BadOptions(f"training: {error}") from error


def check_generation(task: Task, recipe: Recipe) -> None:
    """Check the recipe's generation options against `transformers.GenerationConfig`.

    Raises:
        BadOptions: The task writes no text, or an option is unknown or contradicts another.
    """
    if not recipe.generation:
        return
    if not task.generates:
        raise BadOptions(f"generation: the task {recipe.task!r} writes no text. Leave the section out.")
    from transformers import GenerationConfig

    known = set(GenerationConfig().to_dict()) - {"transformers_version", "_from_model_config"}
    for name in recipe.generation:
        if name not in known:
            raise BadOptions(f"generation: {name!r} is not an option of GenerationConfig.{did_you_mean(name, known)}")
        if name in UNSUPPORTED:
            raise BadOptions(f"generation: {name!r} cannot be used here: {UNSUPPORTED[name]}.")
    if len(limits := recipe.generation.keys() & LIMITS) > 1:
        raise BadOptions(f"generation: give one of {', '.join(sorted(limits))}; transformers would ignore the first.")
    try:
        GenerationConfig(**recipe.generation).validate(strict=True)
    except (ValueError, TypeError) as error:
        raise BadOptions(f"generation: {' '.join(str(error).split())}") from error
