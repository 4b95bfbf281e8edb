"""Pairs of answers in the data: text or messages, with the prompt in its own column or inside both answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune.interfaces import Row
from finetune_trl.chat.converters import MessageFormat, read_prompt, text_to_turn, to_messages
from finetune_trl.chat.messages import ASSISTANT, SHAREGPT_KEYS, USER, are_messages, plain_tools, turn_places
from finetune_trl.chat.rows import COMPLETION, CONVERSATIONS, PROMPT, TOOLS, PromptCompletion
from finetune_trl.chat.template_checks import Dialogue
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
    tools: Any = None
    """Definitions of the tools that the model may call."""


def read_pair(row: Row, converter: MessageFormat | None, *, conversational: bool = False) -> PreferencePair:
    """Return the pair of a row, sound or not; without a prompt, the common beginning of the answers is the prompt.

    >>> read_pair({"chosen": "The sky is blue.", "rejected": "The sky is green."}, None)
    PreferencePair(prompt='The sky is', chosen=' blue.', rejected=' green.', implicit=True, tools=None)

    If pairs are ``conversational``, text becomes a turn: the prompt of the user, the answers of the assistant.
    """
    prompt = read_prompt(row, converter)
    chosen, rejected = to_messages(row.get(CHOSEN), converter), to_messages(row.get(REJECTED), converter)
    tools = plain_tools(row.get(TOOLS))
    is_comparable = isinstance(chosen, str | list) and type(chosen) is type(rejected)
    if is_comparable and (prompt is None or _is_repeated(prompt, chosen, rejected)):
        cut = common_beginning(chosen, rejected)
        return PreferencePair(
            prompt=chosen[:cut], chosen=chosen[cut:], rejected=rejected[cut:], implicit=True, tools=tools
        )
    if conversational:
        prompt = text_to_turn(prompt, USER)
        chosen, rejected = text_to_turn(chosen, ASSISTANT), text_to_turn(rejected, ASSISTANT)
    return PreferencePair(prompt=prompt, chosen=chosen, rejected=rejected, tools=tools)


def _is_repeated(prompt: Any, chosen: Any, rejected: Any) -> bool:
    """Say whether answers are whole dialogues, in which the prompt is the user's last message, as in UltraFeedback."""
    if not isinstance(prompt, str) or not are_messages(chosen):
        return False
    common = common_beginning(chosen, rejected)
    last = chosen[common - 1] if common else None
    if not isinstance(last, Mapping) or last.get("role") != USER:
        return False
    return str(last.get("content")).strip() == prompt.strip()


def dialogues_of(item: PreferencePair | PromptCompletion, row: Row, converter: MessageFormat | None) -> list[Dialogue]:
    """Return the dialogues of a row, a prompt with each of its answers, with their places; none if it is text.

    Args:
        item: What was read of the row.
        row: The row.
        converter: The option of the preprocessor.
    """
    if not are_messages(item.prompt):
        return []
    if isinstance(item, PreferencePair):
        answers = {CHOSEN: item.chosen, REJECTED: item.rejected}
    else:
        answers = {COMPLETION: item.completion}
    options: Any = {"keys": SHAREGPT_KEYS} if converter == "sharegpt" else {}
    prompt_column = PROMPT if row.get(PROMPT) is not None else CONVERSATIONS
    dialogues = []
    for column, answer in answers.items():
        is_inside = isinstance(item, PreferencePair) and item.implicit
        places = turn_places(
            item.prompt if is_inside else row.get(prompt_column), column if is_inside else prompt_column, **options
        )
        start = len(places) if is_inside else 0
        if isinstance(row.get(column), list | tuple):
            places += turn_places(answer, column, start=start, **options)
        elif answer is not None:
            places += turn_places(str(answer), column)
        messages = [*item.prompt, *(answer or ())]
        where = prompt_column if row.get(prompt_column) is not None else column
        dialogues.append(Dialogue(messages=messages, places=places, column=where, prompt=len(item.prompt)))
    return dialogues


def read_single(row: Row, converter: MessageFormat | None, *, conversational: bool = False) -> PromptCompletion:
    """Return the prompt of a row and its one answer, in the column ``completion``; see `read_pair`."""
    prompt, completion = read_prompt(row, converter), to_messages(row.get(COMPLETION), converter)
    if conversational:
        prompt, completion = text_to_turn(prompt, USER), text_to_turn(completion, ASSISTANT)
    return PromptCompletion(prompt=prompt, completion=completion, tools=plain_tools(row.get(TOOLS)))
