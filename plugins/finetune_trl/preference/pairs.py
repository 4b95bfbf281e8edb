"""Pairs of answers in the data: text or messages, with the prompt in its own column or inside both answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetune.interfaces import Row
from finetune_trl.chat.converters import MessageFormat, read_prompt, text_to_turn, to_messages
from finetune_trl.chat.messages import ASSISTANT, USER
from finetune_trl.chat.rows import COMPLETION, PromptCompletion
from finetune_trl.preference.common_beginning import common_beginning

CHOSEN, REJECTED = "chosen", "rejected"
"""Columns of the data."""


@dataclass(frozen=True, kw_only=True)
class PreferencePair:
    """A prompt and its two answers: all text, or all lists of messages; None for a value that the row does not have."""

    prompt: Any
    chosen: Any
    rejected: Any
    implicit: bool = False
    """Whether the prompt was taken from the answers, as their common beginning."""


def read_pair(row: Row, converter: MessageFormat | None, *, conversational: bool = False) -> PreferencePair:
    """Return the pair of a row, sound or not; without a prompt, the common beginning of the answers is the prompt.

    >>> read_pair({"chosen": "The sky is blue.", "rejected": "The sky is green."}, None)
    PreferencePair(prompt='The sky is', chosen=' blue.', rejected=' green.', implicit=True)

    If pairs are ``conversational``, text becomes a turn: the prompt of the user, the answers of the assistant.
    """
    prompt = read_prompt(row, converter)
    chosen, rejected = to_messages(row.get(CHOSEN), converter), to_messages(row.get(REJECTED), converter)
    is_comparable = isinstance(chosen, str | list) and type(chosen) is type(rejected)
    if prompt is None and is_comparable:
        cut = common_beginning(chosen, rejected)
        return PreferencePair(prompt=chosen[:cut], chosen=chosen[cut:], rejected=rejected[cut:], implicit=True)
    if conversational:
        prompt = text_to_turn(prompt, USER)
        chosen, rejected = text_to_turn(chosen, ASSISTANT), text_to_turn(rejected, ASSISTANT)
    return PreferencePair(prompt=prompt, chosen=chosen, rejected=rejected)


def read_single(row: Row, converter: MessageFormat | None, *, conversational: bool = False) -> PromptCompletion:
    """Return the prompt of a row and its one answer, in the column ``completion``; see `read_pair`."""
    prompt, completion = read_prompt(row, converter), to_messages(row.get(COMPLETION), converter)
    if conversational:
        prompt, completion = text_to_turn(prompt, USER), text_to_turn(completion, ASSISTANT)
    return PromptCompletion(prompt=prompt, completion=completion)
