"""Rows of well-known data sets → messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from finetune.interfaces import Columns, Row
from finetune_trl.chat.messages import (
    ASSISTANT,
    ROLES,
    SHAREGPT_KEYS,
    SYSTEM,
    TOOL,
    USER,
    Message,
    TurnPlace,
    are_messages,
    plain_messages,
)
from finetune_trl.chat.rows import CONVERSATIONS, PROMPT, TOOLS

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
    "function_call": ASSISTANT,
    **dict.fromkeys(("observation", "tool", "function_response"), TOOL),
}
_SHAREGPT_NAMES = ("human", "gpt", "system", "function_call", "observation")


@dataclass(frozen=True, kw_only=True)
class Converter:
    """How the rows of a data set become rows with the columns of this plugin."""

    needs: Columns
    """The columns of the data set that are read."""
    convert: Callable[[Row], dict[str, Any]]
    """A row of the data set → one with ``messages``, or with ``prompt`` and ``completion``, both messages."""
    places: Callable[[Row], dict[str, list[TurnPlace]]]
    """A row of the data set → column of the converted row → where the data hold each of its messages."""
    names: Mapping[str, str]
    """Column of the converted row → the column of the data set that holds it."""
    roles: tuple[str, ...] = ROLES
    """The names of the roles in the data set."""


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
    prompt.append(message(USER, _instruction(row)[1]))
    answer = row.get("output")
    return {"prompt": prompt, "completion": None if answer is None else [message(ASSISTANT, answer)]}


def alpaca_places(row: Row) -> dict[str, list[TurnPlace]]:
    """Return where an Alpaca row holds the messages that `alpaca` makes of it.

    >>> row = {"instruction": "Why?", "output": "Fog.", "history": [["Who?", "Inès."]]}
    >>> [place.turn for place in alpaca_places(row)["prompt"]]
    ['history[0][0]', 'history[0][1]', 'instruction']
    """
    prompt = [TurnPlace.cell(SYSTEM)] if row.get("system") else []
    history = row.get("history") or ()
    is_list = isinstance(history, list | tuple)
    for number, turn in enumerate(history if is_list else [history]):
        cell = f"history[{number}]" if is_list else "history"
        if _is_pair(turn):
            prompt += [TurnPlace.cell(f"{cell}[0]"), TurnPlace.cell(f"{cell}[1]")]
        else:
            prompt.append(TurnPlace.cell(cell))
    name, _ = _instruction(row)
    return {"prompt": [*prompt, TurnPlace.cell(name)], "completion": [TurnPlace.cell("output")]}


def _instruction(row: Row) -> tuple[str, Any]:
    """Return instruction and input as one text, or the first of the two that is no text; and the column to blame."""
    texts: list[str] = []
    for name in ("instruction", "input"):
        value = row.get(name)
        if not value:
            continue
        if not isinstance(value, str):
            return name, value
        texts.append(value)
    return "instruction", "\n\n".join(texts)


def _is_pair(turn: Any) -> bool:
    return isinstance(turn, list | tuple) and len(turn) == 2


def _history(history: Any) -> list[Any]:
    """Return earlier turns as messages; a turn that is not a pair stays as it is."""
    messages: list[Any] = []
    for turn in history if isinstance(history, list | tuple) else [history]:
        if _is_pair(turn):
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
        return {
            "messages": turns,
            "prompt": row.get("prompt"),
            TOOLS: row.get(TOOLS),
        }  # for prediction, a prompt alone is enough
    messages: list[Any] = []
    if row.get("system"):
        messages.append(message(SYSTEM, row["system"]))
    messages += map(sharegpt_message, turns)
    return {"messages": messages, TOOLS: row.get(TOOLS)}


def sharegpt_places(row: Row) -> dict[str, list[TurnPlace]]:
    """Return where a ShareGPT row holds the messages that `sharegpt` makes of it.

    >>> row = {"system": "Be brief.", "conversations": [{"from": "human", "value": "Fog?"}]}
    >>> [place.content for place in sharegpt_places(row)["messages"]]
    ['system', 'conversations[0].value']
    """
    turns = row.get(CONVERSATIONS)
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        return {}
    places = [TurnPlace.cell(SYSTEM)] if row.get("system") else []
    for number, turn in enumerate(turns):
        is_message = isinstance(turn, Mapping) and turn.get("from") is None and turn.get("role") is not None
        role, content = ("role", "content") if is_message else SHAREGPT_KEYS
        places.append(TurnPlace.within(CONVERSATIONS, number, role=role, content=content))
    return {"messages": places}


def sharegpt_message(turn: Any) -> Any:
    """Return one ShareGPT turn as a message; a value that is not one stays as it is.

    A role that ShareGPT does not have stays too, so that the checks can name it.
    """
    if not isinstance(turn, Mapping) or turn.get("from") is None:
        return turn
    converted = {key: value for key, value in turn.items() if key not in ("from", "value")}
    role = turn["from"]
    converted["role"] = SHAREGPT_ROLES.get(role, role) if isinstance(role, str) else role
    if role == "function_call":
        converted["content"], converted["tool_calls"] = "", _calls(turn.get("value"))
    else:
        converted["content"] = turn.get("value")
    return converted


def _calls(value: Any) -> Any:
    """Return the calls of tools that a ShareGPT turn holds as JSON; a value that is none as text.

    >>> _calls('{"name": "tide", "arguments": {"port": "Elm"}}')
    [{'type': 'function', 'function': {'name': 'tide', 'arguments': {'port': 'Elm'}}}]
    """
    try:
        calls = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return str(value)
    calls = calls if isinstance(calls, list) else [calls]
    for call in calls:
        if not isinstance(call, Mapping) or "name" not in call:
            return str(value)
    return [{"type": "function", "function": dict(call)} for call in calls]


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
    return plain_messages(map(sharegpt_message, value) if converter == "sharegpt" else value)


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
        places=alpaca_places,
        names={"prompt": "instruction", "completion": "output"},
    ),
    "sharegpt": Converter(
        needs=Columns(optional=("system", PROMPT, CONVERSATIONS, TOOLS), answers=(CONVERSATIONS,), group=CONVERSATIONS),
        convert=sharegpt,
        places=sharegpt_places,
        names={"messages": CONVERSATIONS},
        roles=_SHAREGPT_NAMES,
    ),
}
