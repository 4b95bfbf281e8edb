"""The names of the options of ``training``: which a recipe may not set, and which transformers dropped."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from finetune import static_classes
from finetune.errors import BadOptions, did_you_mean

OURS: Mapping[str, str] = {
    "output_dir": "it is the recipe's `output`",
    "seed": "it is the recipe's `seed`",
    "resume_from_checkpoint": "use `finetune train --resume`",
    "auto_find_batch_size": "after an error it starts again with another batch size, takes fewer rows a step, and does "
    "not record that; write batch: auto, which chooses before the first step and keeps the rows of a step",
    "ignore_data_skip": "a resumed run would see other rows than a run that was never stopped",
    "save_only_model": "a checkpoint without the optimizer cannot be resumed; set save_strategy: 'no' for none at all",
    "push_to_hub": "a run is never pushed while it trains; use `finetune push`",
    "hub_model_id": "a run is never pushed while it trains; use `finetune push`",
    "generation_config": "its options belong in the recipe's `generation`",
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
    "save_safetensors": "safetensors are always written",
}
"""Training arguments that transformers 5 dropped, and what to write instead."""

OUR_OPTIONS = (
    "finetune.training.early_stopping:EarlyStopping",
    "finetune.training.auto_batch:AutoBatch",
    "finetune.training.averaging:Averaging",
)
"""Classes with the options that are not upstream's."""


def check_name(name: str, *, known: Collection[str], of: str) -> None:
    """Check the name of a training option.

    Args:
        name: What the recipe says.
        known: The options that exist.
        of: The class that takes them, for the message.

    Raises:
        BadOptions: The option does not exist, was removed, or is set elsewhere in the recipe.
    """
    where = f"training: {name!r}"
    if name in OURS:
        raise BadOptions(f"{where} cannot be set here: {OURS[name]}.")
    if name not in known:
        removed = REMOVED.get(name)
        hint = f" {removed[0].upper()}{removed[1:]}." if removed else did_you_mean(name, known)
        raise BadOptions(f"{where} is not an option of {of}.{hint}")


def check_names(training: Mapping[str, Any], *, known: Collection[str], of: str) -> None:
    """Check the names of all training options; see `check_name`. No library is imported for it.

    Args:
        training: The section of the recipe.
        known: The options of the class that takes them.
        of: Its name.

    Raises:
        BadOptions: One does not exist.
    """
    names = list(known)
    for path in OUR_OPTIONS:
        found = static_classes.options_of(path)
        names += found[1] if found is not None else ()
    for name in training:
        check_name(name, known=names, of=of)
