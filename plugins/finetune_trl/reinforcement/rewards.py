"""What a completion is worth: a Python function, or the folder of a trained reward model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import finetune
from finetune.errors import BadOptions, did_you_mean
from finetune_trl.preference.reward import RewardPreprocessor

RewardFunction = Callable[..., Sequence[float | None]]
"""TRL's signature: ``f(prompts, completions, **columns)`` gives a number for each completion, None for no opinion."""


def reward_of(name: str) -> RewardFunction:
    """Return the reward of a name: ``my_rewards:brevity``, or a folder that a run of the task `reward` wrote.

    Raises:
        BadOptions: It is neither.
    """
    if Path(name).expanduser().is_dir():
        return ModelReward(Path(name).expanduser())
    if ":" not in name:
        raise BadOptions(
            f"preprocessor: reward {name!r} is neither a folder nor a Python function. Name the output folder of a "
            "finished run of the task 'reward', or a function as module:function."
        )
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # the module is there, and lacks another one
        raise BadOptions(
            f"preprocessor: reward {name!r}: there is no module {error.name!r}. It must be importable from here: "
            "installed, or in the folder that `python -m finetune` is called in."
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        functions = [known for known, value in vars(module).items() if callable(value)]
        raise BadOptions(
            f"preprocessor: reward {name!r}: {attribute!r} is no function of {module_name!r}."
            f"{did_you_mean(attribute, functions)}"
        )
    found: RewardFunction = function
    return found


class ModelReward:
    """Scores completions with a reward model, as `finetune predict` would: its template, its cut, its adapter."""

    def __init__(self, folder: Path) -> None:
        run = finetune.load(folder)
        if not isinstance(run.plan.preprocessor, RewardPreprocessor):
            raise BadOptions(
                f"preprocessor: reward {str(folder)!r} holds a run of the task {run.plan.recipe.task!r}, "
                "and one of the task 'reward' was wanted."
            )
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
        self.__name__ = folder.name  # what TRL calls it in its log: rewards/<name>/mean
        self.preprocessor, self.tokenizer = run.plan.preprocessor, run.tokenizer
        self.model = run.model.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float]:
        """Return the score of every completion."""
        made = self.preprocessor.features({"prompt": prompts, "completion": completions}, self.tokenizer)
        rows = [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]
        batch = self.preprocessor.collator(self.tokenizer)(rows)
        inputs = {name: batch[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
        scores: list[float] = self.model(**inputs).logits.squeeze(-1).float().tolist()
        return scores
