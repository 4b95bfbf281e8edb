"""A reward function for RLOO and GRPO: ``finetune_samples.rewards:courtesy``.

It takes the completions of one batch, as strings or as lists of messages, and returns a reward for each, from 0 to 1;
other arguments of TRL (prompts, further columns) are ignored.
Source: trl 1.16, GRPOTrainer, argument `reward_funcs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetune_samples.manners import FAREWELLS, OPENERS

Completion = str | Sequence[Mapping[str, Any]]


def courtesy(completions: Sequence[Completion], **_: Any) -> list[float]:
    """Reward courtesy: 0.5 for a courteous opening, 0.5 for a courteous closing.

    >>> courtesy(["With pleasure, Zoë Hask: at Salt Quay. Fair winds!", "Gladly: at Salt Quay.", "Salt Quay."])
    [1.0, 0.5, 0.0]
    """
    return [_courtesy(_text(completion).strip()) for completion in completions]


def _courtesy(text: str) -> float:
    return 0.5 * text.startswith(OPENERS) + 0.5 * text.rstrip("!.").endswith(FAREWELLS)


def _text(completion: Completion) -> str:
    if isinstance(completion, str):
        return completion
    return "".join(str(message["content"]) for message in completion)
