"""Rows of well-known data sets → messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.interfaces import Columns, Row
from finetune_trl.chat.messages import ASSISTANT, SYSTEM, USER, Message

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
    """Where a data set keeps what, and how its rows become ours."""

    needs: Columns
    """The columns of theirs that are read."""
    convert: Callable[[Row], dict[str, Any]]
    """A row of theirs → one with ``messages``, or with ``prompt`` and ``completion``, both messages."""


def alpaca(row: Row) -> dict[str, Any]:
    """Return an Alpaca row as a prompt and a completion; what is malformed stays as it is, for the checks to say.

    >>> alpaca({"instruction": "Translate to French.", "input": "the pier", "output": "la jetée"})["prompt"]
    [{'role': 'user', 'content': 'Translate to French.\\n\\nthe pier'}]

    Source: Taori et al. 2023, "Stanford Alpaca", for `instruction`, `input` and `output`; LLaMA-Factory's data format
    for `system` and `history`, pairs of what was asked and answered before.
    """
    parts = [part for part in (row.get("instruction"), row.get("input")) if part]
    odd = [part for part in parts if not isinstance(part, str)]
    asked = odd[0] if odd else "\n\n".join(parts)
    prompt: list[Any] = [message(SYSTEM, row["system"])] if row.get("system") else []
    history = row.get("history") or ()
    for turn in history if isinstance(history, list | tuple) else [history]:
        paired = isinstance(turn, list | tuple) and len(turn) == 2
        prompt += [message(USER, turn[0]), message(ASSISTANT, turn[1])] if paired else [turn]
    answer = row.get("output")
    return {
        "prompt": [*prompt, message(USER, asked)],
        "completion": None if answer is None else [message(ASSISTANT, answer)],
    }


def sharegpt(row: Row) -> dict[str, Any]:
    """Return a ShareGPT row as messages; what is malformed stays as it is, for the checks to say.

    >>> sharegpt({"conversations": [{"from": "human", "value": "Fog?"}, {"from": "gpt", "value": "Aye."}]})["messages"]
    [{'role': 'user', 'content': 'Fog?'}, {'role': 'assistant', 'content': 'Aye.'}]

    Source: FastChat's and LLaMA-Factory's data format; `system` may stand in a column of its own.
    """
    turns = row.get("conversations")
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        return {"messages": turns, "prompt": row.get("prompt")}  # a prompt alone is how one asks
    messages = [turn_of(turn) for turn in turns]
    return {"messages": [message(SYSTEM, row["system"]), *messages] if row.get("system") else messages}


def turn_of(turn: Any) -> Any:
    """Return one ShareGPT turn as a message, as far as it is one."""
    if not isinstance(turn, Mapping) or "from" not in turn:
        return turn
    others = {key: value for key, value in turn.items() if key not in ("from", "value")}
    return {**others, "role": role_of(turn["from"]), "content": turn.get("value")}


def role_of(role: Any) -> Any:
    """Return what ShareGPT's name of a role means; any other name stays, to be found wrong."""
    return SHAREGPT_ROLES.get(role, role) if isinstance(role, str) else role


def message(role: str, content: Any) -> Message:
    """Return one message."""
    return {"role": role, "content": content}


CONVERTERS = {
    "alpaca": Converter(
        needs=Columns(
            required=("instruction",), optional=("input", "system", "history"), answers=("output",), group="instruction"
        ),
        convert=alpaca,
    ),
    "sharegpt": Converter(
        needs=Columns(optional=("system", "prompt"), answers=("conversations",), group="conversations"),
        convert=sharegpt,
    ),
}
