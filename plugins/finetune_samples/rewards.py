"""What a reply is worth, computed: reward functions for RLOO and GRPO, ``finetune_samples.rewards:brevity``.

Each takes the completions of one batch, as strings or as lists of messages, and returns a reward for each, from 0 to 1;
what else TRL passes (prompts, further columns) is not looked at.
Source: trl 1.16, GRPOTrainer, argument `reward_funcs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetune_samples.manners import FAREWELLS, OPENERS

LONGEST = 30
"""From this many words on, a reply is worth nothing to `brevity`."""

Completion = str | Sequence[Mapping[str, Any]]


def brevity(completions: Sequence[Completion], **_: Any) -> list[float]:
    """Reward few words: 1 for one word, less with each further, 0 from `LONGEST` on, and 0 for saying nothing.

    >>> brevity(["Gladly.", "", "one two three four"])
    [1.0, 0.0, 0.9]
    """
    counts = [len(_text(completion).split()) for completion in completions]
    return [max(0.0, round(1 - (count - 1) / LONGEST, 6)) if count else 0.0 for count in counts]


def courtesy(completions: Sequence[Completion], **_: Any) -> list[float]:
    """Reward the town's manners: a half for opening with courtesy, a half for closing with it.

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
