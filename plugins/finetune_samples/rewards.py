"""Reward functions for RLOO and GRPO: ``finetune_samples.rewards:brevity``, for example.

Each takes the completions of one batch, as strings or as lists of messages, and returns a reward for each, from 0 to 1;
other arguments of TRL (prompts, further columns) are ignored.
Source: trl 1.16, GRPOTrainer, argument `reward_funcs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetune_samples.manners import FAREWELLS, OPENERS

LONGEST = 30
"""`brevity` gives 0 to replies of this many words or more."""

Completion = str | Sequence[Mapping[str, Any]]


def brevity(completions: Sequence[Completion], **_: Any) -> list[float]:
    """Reward few words: 1 for one word, less for each further word, 0 from `LONGEST` words on and for an empty reply.

    >>> brevity(["Gladly.", "", "one two three four"])
    [1.0, 0.0, 0.9]
    """
    counts = [len(_text(completion).split()) for completion in completions]
    return [max(0.0, round(1 - (count - 1) / LONGEST, 6)) if count else 0.0 for count in counts]


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
