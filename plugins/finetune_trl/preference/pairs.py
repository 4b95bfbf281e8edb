"""Pairs of answers as people write them: text or messages, with their prompt or with it inside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from finetune.interfaces import Row
from finetune_trl.chat import messages as chat
from finetune_trl.chat.converters import role_of
from finetune_trl.chat.messages import ASSISTANT, USER

PROMPT, CONVERSATIONS, CHOSEN, REJECTED = "prompt", "conversations", "chosen", "rejected"
COMPLETION = "completion"
"""Columns; ``conversations`` is what ShareGPT calls the prompt."""
Converter = Literal["sharegpt"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A prompt and its two answers: all text, or all lists of messages; None for what is not there."""

    prompt: Any
    chosen: Any
    rejected: Any
    implicit: bool = False
    """Whether the prompt was taken from the answers, where it stood as their common beginning."""


def pair_of(row: Row, converter: Converter | None, *, conversational: bool = False) -> Pair:
    """Return the pair of a row, sound or not; what both answers begin with is the prompt where the row has none.

    >>> pair_of({"chosen": "The sky is blue.", "rejected": "The sky is green."}, None)
    Pair(prompt='The sky is', chosen=' blue.', rejected=' green.', implicit=True)

    Where pairs are ``conversational``, text becomes a turn: the prompt the user's, the answers the assistant's.
    """
    prompt, chosen, rejected = (turns(row.get(name), converter) for name in (PROMPT, CHOSEN, REJECTED))
    if prompt is None:
        prompt = turns(row.get(CONVERSATIONS), converter)
    alike = isinstance(chosen, str | list) and type(chosen) is type(rejected)
    if prompt is not None or not alike:
        answers = (as_turn(answer, ASSISTANT) if conversational else answer for answer in (chosen, rejected))
        prompt = as_turn(prompt, USER) if conversational else prompt
        return Pair(prompt=prompt, **dict(zip((CHOSEN, REJECTED), answers, strict=True)))
    cut = common_beginning(chosen, rejected)
    return Pair(prompt=chosen[:cut], chosen=chosen[cut:], rejected=rejected[cut:], implicit=True)


def turns(value: Any, converter: Converter | None) -> Any:
    """Return text as it is, and messages (or a single one) as a list of ``{"role": …, "content": …}``.

    >>> turns({"from": "gpt", "value": "Old Tomás."}, "sharegpt")
    [{'role': 'assistant', 'content': 'Old Tomás.'}]

    What is neither comes back as it is, for `chat.check` to name.
    """
    if isinstance(value, Mapping):
        value = [value]
    if not chat.are_messages(value):
        return value
    given = [message if isinstance(message, Mapping) else {"content": message} for message in value]
    messages = chat.messages_of(given)
    return [_from_sharegpt(message) for message in messages] if converter == "sharegpt" else messages


def as_turn(value: Any, role: str) -> Any:
    """Return text as a list of one message; what is no text comes back as it is."""
    return [{"role": role, "content": value}] if isinstance(value, str) else value


def _from_sharegpt(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message of ShareGPT under our names; a role that is not ShareGPT's stays, to be found wrong."""
    renamed = {{"from": "role", "value": "content"}.get(key, key): value for key, value in message.items()}
    return {**renamed, "role": role_of(renamed["role"])} if "role" in renamed else renamed


def common_beginning(chosen: Any, rejected: Any) -> int:
    """Return how many characters, or messages, two answers begin with alike; a space before the cut follows it.

    Source: `trl.extract_prompt`, which takes one character or message less where one answer begins the other.
    """
    pairs = zip(chosen, rejected, strict=False)
    cut = next((position for position, (one, other) in enumerate(pairs) if one != other), None)
    if cut is None:
        return max(min(len(chosen), len(rejected)) - 1, 0)
    return cut - 1 if cut and isinstance(chosen, str) and chosen[cut - 1] == " " else cut
