"""The keys of `transformers.TrainingArguments`, which LLaMA-Factory, TRL and the example scripts share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any

from finetune.errors import MissingLibrary
from finetune.kit import Conversion, Key, discover, handled, mapped, missing, resolve, unneeded

_PUSH = "A run is never pushed while it trains. Use `finetune push` afterwards."
STOPS_EARLY = "by the task's score where the file names none, which is the loss there"
_RESUME = "Use `finetune train recipe.yaml --resume`."

ARGUMENTS: Mapping[str, Key] = {
    "output_dir": mapped("output"),
    "seed": mapped("seed"),
    "learning_rate": handled("training.learning_rate"),
    "num_train_epochs": handled("training.num_train_epochs"),
    "per_device_train_batch_size": handled("training.per_device_train_batch_size"),
    "lr_scheduler_type": handled("training.lr_scheduler_type"),
    "warmup_ratio": handled("training.warmup_steps", "below 1, it is a share of the steps"),
    "save_steps": handled("training.save_steps", "with `save_strategy: steps`; a recipe saves at each epoch otherwise"),
    "gradient_checkpointing": handled("training.activation_checkpointing"),
    "gradient_checkpointing_kwargs": mapped("training.activation_checkpointing_kwargs"),
    "evaluation_strategy": mapped("training.eval_strategy"),
    "group_by_length": handled("training.train_sampling_strategy", "`group_by_length`"),
    "generation_num_beams": mapped("generation.num_beams"),
    "generation_max_length": mapped("generation.max_length"),
    "do_train": unneeded("`finetune train` trains, and scores every split."),
    "do_eval": unneeded("Each run is scored, before and after training."),
    "do_predict": unneeded("Use `finetune predict`."),
    "predict_with_generate": unneeded("Scores always come from generated texts where the task generates."),
    "overwrite_output_dir": unneeded("Use `finetune train recipe.yaml --overwrite`."),
    "remove_unused_columns": unneeded("The model gets the columns that the task reads, and no others."),
    "dataset_num_proc": unneeded("`--cache DIR` keeps the features instead."),
    "logging_dir": unneeded("Each run has one folder."),
    "save_safetensors": unneeded("safetensors are always written."),
    "no_cuda": unneeded("The device is found. To hide GPUs, set CUDA_VISIBLE_DEVICES."),
    "use_cpu": unneeded("The device is found. To hide GPUs, set CUDA_VISIBLE_DEVICES."),
    "resume_from_checkpoint": unneeded(_RESUME),
    "save_only_model": missing(
        "A checkpoint without the optimizer cannot be resumed. `finetune clean` removes checkpoints."
    ),
    "auto_find_batch_size": missing(
        "`training.batch: auto` chooses before the first step, and keeps the rows of a step."
    ),
    "push_to_hub": missing(_PUSH),
    "hub_model_id": missing(_PUSH),
    "hub_strategy": missing(_PUSH),
    "hub_private_repo": missing(_PUSH),
    "hub_token": missing("Log in with `hf auth login`, or set HF_TOKEN. A recipe holds no credential."),
}
"""Keys that are not options of `training` under their own name."""


def follow_arguments(
    conversion: Conversion, task: str, *, keys: Mapping[str, Key], defaults: Mapping[str, Any]
) -> None:
    """Convert the training arguments of a file; those that the recipe has under the same name stay as they are.

    Args:
        conversion: The conversion.
        task: Name of the task, whose class of arguments says which names there are.
        keys: The table of the tool. What it says of a key goes first.
        defaults: Values that the tool has if the file says nothing, and that a recipe may have otherwise.
    """
    content = conversion.content
    for name, value in defaults.items():
        if conversion.get(name) is None:
            conversion.put(f"training.{name}", value, note=f"the default of {conversion.tool}")
    for name in ("gradient_checkpointing", "activation_checkpointing"):
        if conversion.get(name) is not None:
            conversion.put("training.activation_checkpointing", bool(content[name]), source=name)
    if conversion.get("warmup_ratio") is not None:
        if conversion.get("warmup_steps"):
            conversion.tell("warmup_ratio", "unneeded", "warmup_steps is set, and counts.")
        else:
            note = "a share of the steps, as it is below 1"
            conversion.put("training.warmup_steps", content["warmup_ratio"], source="warmup_ratio", note=note)
    if conversion.get("group_by_length") is not None:
        if content["group_by_length"]:
            conversion.put("training.train_sampling_strategy", "group_by_length", source="group_by_length")
        else:
            conversion.tell("group_by_length", "unneeded", "It is off.")
    if conversion.get("save_steps") is not None and conversion.get("save_strategy") is None:
        conversion.put("training.save_strategy", "steps", note=f"the default of {conversion.tool}")
    is_scored = conversion.get("eval_strategy") or conversion.get("evaluation_strategy")
    if conversion.get("eval_steps") is not None and is_scored is None:
        note = f"It has no effect in {conversion.tool}, as eval_strategy is not set. Here, each epoch is scored."
        conversion.tell("eval_steps", "unneeded", note)
    put_direction(conversion)
    known = names_of_arguments(task)
    for name, value in content.items():
        rule = keys.get(name)
        is_argument = rule is None or (rule.is_handled and name in ARGUMENTS)
        if name in conversion.outcomes or value is None or not is_argument:
            continue
        if name in known:
            conversion.put(f"training.{name}", value, source=name)


def put_direction(conversion: Conversion) -> None:
    """Write which values of the named score are better, as transformers guesses it from the name."""
    metric = conversion.get("metric_for_best_model")
    if metric is not None and conversion.get("greater_is_better") is None:
        note = "as transformers guesses from the name of the score"
        conversion.put("training.greater_is_better", not str(metric).endswith("loss"), note=note)


@cache
def names_of_arguments(task: str) -> frozenset[str]:
    """Return the names of the training arguments of a task; of transformers' own if its library is not installed."""
    try:
        cls: Any = resolve(discover().find("tasks", task).arguments)
    except MissingLibrary:
        cls = resolve("transformers:TrainingArguments")
    return frozenset(option.name for option in fields(cls) if option.init)
