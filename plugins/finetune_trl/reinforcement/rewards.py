"""Rewards of completions: Python functions, or the folder of a trained reward model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import finetune
from finetune.errors import BadOptions
from finetune_trl.chat.messages import text_of
from finetune_trl.chat.rows import COMPLETION, PROMPT, rows_of
from finetune_trl.reinforcement.functions import RewardFunction, python_reward

BREVITY_LIMIT = 30
"""From this many words on, a completion gets no reward from `brevity`."""


def brevity(completions: Sequence[Any], **_: Any) -> list[float]:
    """Reward few words: 1 for one word, less with each further word, 0 from `BREVITY_LIMIT` on, and 0 for no word.

    >>> brevity(["Gladly.", "", "one two three four"])
    [1.0, 0.0, 0.9]

    It is a first reward to try a recipe with, and an example of the signature.
    """
    rewards = []
    for completion in completions:
        words = len(text_of(completion).split())
        reward = max(0.0, round(1 - (words - 1) / BREVITY_LIMIT, 6)) if words else 0.0
        rewards.append(reward)
    return rewards


def load_reward(name: str) -> RewardFunction:
    """Return the reward of a name: ``my_rewards:brevity``, or a folder that a run of the task `reward` wrote.

    Raises:
        BadOptions: It is neither.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return ModelReward(folder)
    if ":" not in name:
        raise BadOptions(
            f"preprocessor: reward {name!r} is neither a folder nor a Python function. Name the output folder of a "
            "finished run of the task 'reward', or a function as module:function."
        )
    return python_reward(name)


class ModelReward:
    """Scores completions with a reward model, as `finetune predict` would: with its template, max_length and adapter.

    The folder must hold a run whose model gives one number, and whose preprocessor reads ``prompt`` and
    ``completion``: a run of the task `reward`, or of a task of your own with this form.
    """

    def __init__(self, folder: Path) -> None:
        run = finetune.load(folder)
        preprocessor = run.plan.preprocessor
        reads_completions = {PROMPT, COMPLETION} <= set(preprocessor.needs().inputs)
        gives_one_number = getattr(run.model.config, "num_labels", None) == 1
        if not reads_completions or not gives_one_number:
            raise BadOptions(
                f"preprocessor: reward {str(folder)!r} holds a run of the task {run.plan.recipe.task!r}, and a run of "
                "the task 'reward' is needed: a model that gives one number for a prompt and a completion."
            )
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
        self.__name__ = folder.name  # what TRL calls it in its log: rewards/<name>/mean
        self.tokenizer = run.tokenizer
        self.preprocessor = preprocessor
        self.model = run.model.eval().requires_grad_(False).to(device)
        self.collate = preprocessor.collator(run.tokenizer, self.model)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float]:
        """Return the score of every completion."""
        features = self.preprocessor.features({PROMPT: prompts, COMPLETION: completions}, self.tokenizer)
        batch = self.collate(rows_of(features))
        ids, mask = batch["input_ids"].to(self.model.device), batch["attention_mask"].to(self.model.device)
        scores: list[float] = self.model(input_ids=ids, attention_mask=mask).logits.squeeze(-1).float().tolist()
        return scores
