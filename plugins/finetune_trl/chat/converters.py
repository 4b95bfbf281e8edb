"""Rows of well-known data sets → messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from finetune.interfaces import Columns, Row
from finetune_trl.chat.messages import ASSISTANT, SYSTEM, USER, Message, are_messages, drop_nulls
from finetune_trl.chat.rows import CONVERSATIONS, PROMPT

MessageFormat = Literal["sharegpt"]
"""How a data set writes messages, if it writes them in another way than ``{"role": …, "content": …}``."""

SHAREGPT_ROLES = {
    "human": USER,
    "user": USER,
    "gpt": ASSISTANT,
    "chatgpt": ASSISTANT,
    "assistant": ASSISTANT,
    "model": ASSISTANT,
    "system": SYSTEM,
}


@dataclass(frozen=True, kw_only=True)
class Converter:
    """How the rows of a data set become rows with the columns of this plugin."""

    needs: Columns
    """The columns of the data set that are read."""
    convert: Callable[[Row], dict[str, Any]]
    """A row of the data set → one with ``messages``, or with ``prompt`` and ``completion``, both messages."""


def alpaca(row: Row) -> dict[str, Any]:
    """Return an Alpaca row as a prompt and a completion; malformed values stay as they are, for the checks to report.

    >>> alpaca({"instruction": "Translate to French.", "input": "the pier", "output": "la jetée"})["prompt"]
    [{'role': 'user', 'content': 'Translate to French.\\n\\nthe pier'}]

    Source: Taori et al. 2023, "Stanford Alpaca", for `instruction`, `input` and `output`; LLaMA-Factory's data format
    for `system` and `history`, pairs of earlier questions and answers.
    """
    prompt: list[Any] = []
    if row.get("system"):
        prompt.append(message(SYSTEM, row["system"]))
    prompt += _history(row.get("history") or ())
    prompt.append(message(USER, _instruction(row)))
    answer = row.get("output")
    return {"prompt": prompt, "completion": None if answer is None else [message(ASSISTANT, answer)]}


def _instruction(row: Row) -> Any:
    """Return instruction and input as one text, or the first of the two that is no text."""
    texts: list[str] = []
    for name in ("instruction", "input"):
        value = row.get(name)
        if not value:
            continue
        if not isinstance(value, str):
            return value
        texts.append(value)
    return "\n\n".join(texts)


def _history(history: Any) -> list[Any]:
    """Return earlier turns as messages; a turn that is not a pair stays as it is."""
    messages: list[Any] = []
    for turn in history if isinstance(history, list | tuple) else [history]:
        if isinstance(turn, list | tuple) and len(turn) == 2:
            question, answer = turn
            messages += [message(USER, question), message(ASSISTANT, answer)]
        else:
            messages.append(turn)
    return messages


def sharegpt(row: Row) -> dict[str, Any]:
    """Return a ShareGPT row as messages; malformed values stay as they are, for the checks to report.

    >>> sharegpt({"conversations": [{"from": "human", "value": "Fog?"}, {"from": "gpt", "value": "Aye."}]})["messages"]
    [{'role': 'user', 'content': 'Fog?'}, {'role': 'assistant', 'content': 'Aye.'}]

    Source: FastChat's and LLaMA-Factory's data format; `system` may stand in its own column.
    """
    turns = row.get(CONVERSATIONS)
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        return {"messages": turns, "prompt": row.get("prompt")}  # for prediction, a prompt alone is enough
    messages: list[Any] = []
    if row.get("system"):
        messages.append(message(SYSTEM, row["system"]))
    messages += map(sharegpt_message, turns)
    return {"messages": messages}


def sharegpt_message(turn: Any) -> Any:
    """Return one ShareGPT turn as a message; a value that is not one stays as it is.

    A role that ShareGPT does not have stays too, so that the checks can name it.
    """
    if not isinstance(turn, Mapping) or "from" not in turn:
        return turn
    converted = {key: value for key, value in turn.items() if key not in ("from", "value")}
    role = turn["from"]
    converted["role"] = SHAREGPT_ROLES.get(role, role) if isinstance(role, str) else role
    converted["content"] = turn.get("value")
    return converted


def to_messages(value: Any, converter: MessageFormat | None) -> Any:
    """Return text as it is, and messages (or a single one) as a list of ``{"role": …, "content": …}``.

    >>> to_messages({"from": "gpt", "value": "Old Tomás."}, "sharegpt")
    [{'role': 'assistant', 'content': 'Old Tomás.'}]

    A value that is neither comes back as it is, for `check_messages` to report.
    """
    if isinstance(value, Mapping):
        value = [value]
    if not are_messages(value):
        return value
    messages = drop_nulls(value)
    return list(map(sharegpt_message, messages)) if converter == "sharegpt" else messages


def read_prompt(row: Row, converter: MessageFormat | None) -> Any:
    """Return the prompt of a row, text or messages, from the column ``prompt`` or else ``conversations``."""
    prompt = to_messages(row.get(PROMPT), converter)
    return to_messages(row.get(CONVERSATIONS), converter) if prompt is None else prompt


def text_to_turn(value: Any, role: str) -> Any:
    """Return text as a list of one message; any other value comes back as it is."""
    return [message(role, value)] if isinstance(value, str) else value


def message(role: str, content: Any) -> Message:
    """Return one message."""
    return {"role": role, "content": content}


CONVERTERS = {
    "alpaca": Converter(
        needs=Columns(
            required=("instruction",),
            optional=("input", "system", "history"),
            answers=("output",),
            group="instruction",
        ),
        convert=alpaca,
    ),
    "sharegpt": Converter(
        needs=Columns(optional=("system", PROMPT), answers=(CONVERSATIONS,), group=CONVERSATIONS),
        convert=sharegpt,
    ),
}
