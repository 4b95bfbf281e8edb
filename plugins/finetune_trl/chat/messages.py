"""Messages: their form, and the checks of prompts and answers, as messages or as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, Literal

from finetune.errors import did_you_mean
from finetune.interfaces import Finding
from finetune.kit import check_text

SYSTEM, USER, ASSISTANT, TOOL = ROLES = ("system", "user", "assistant", "tool")
Message = dict[str, Any]
"""``{"role": "user", "content": "Who keeps the light?"}``"""
Part = Literal["dialogue", "prompt", "completion"]
"""The purpose of a list of messages. A dialogue ends with an answer, and a prompt with the user's turn. A completion
begins and ends with an answer."""
SHAREGPT_KEYS = ("from", "value")
MESSAGE_KEYS = ("role", "content")
WEIGHT_KEYS = ("weight", "train", "training", "loss")
"""Keys that say whether a turn of the assistant is trained: `weight` of OpenAI and Mistral, `train` and `training` of
Axolotl, `loss` of ms-swift. The values are 0 and 1, or false and true."""
_OTHER_NAMES = {
    "human": USER,
    "instruction": USER,
    "prompter": USER,
    **dict.fromkeys(("gpt", "bot", "chatgpt", "model", "ai"), ASSISTANT),
    **dict.fromkeys(("function", "observation", "ipython", "tool_response"), TOOL),
    "developer": SYSTEM,
}
_FILL_IN = "Fill it in, or drop the row."
_SPACE_AFTER, _SPACE_BEFORE = tuple(".,:;!?=…)]}\"'”’»"), tuple("-([{\"'“‘«")
"""Punctuation marks after which an answer begins with a space, and marks with which such an answer begins."""


def are_messages(value: Any) -> bool:
    """Say whether a value is a list of messages, rather than text."""
    return isinstance(value, list | tuple)


def plain_messages(messages: Iterable[Any]) -> list[Any]:
    """Return messages as templates take them: without None, with text as content, with arguments as mappings.

    >>> plain_messages([{"role": "user", "content": [{"type": "text", "text": "Who?"}], "name": None}])
    [{'role': 'user', 'content': 'Who?'}]

    A table fills keys that a row does not have with None, at any depth. Values that are wrong stay as they are.
    """
    plain: list[Any] = []
    for message in messages:
        if isinstance(message, Mapping):
            message = _without_nulls(message)
            if "content" in message:
                message["content"] = join_parts(message["content"])
            if message.get("tool_calls"):
                message["tool_calls"] = _plain_calls(message["tool_calls"])
                message.setdefault("content", "")
        plain.append(message)
    return plain


def plain_tools(value: Any) -> Any:
    """Return definitions of tools as a list, from a list or its JSON text; None for none; a wrong value as it is.

    >>> plain_tools('[{"name": "tide", "parameters": {}}]')
    [{'name': 'tide', 'parameters': {}}]
    """
    if isinstance(value, str) and value.strip():
        return _from_json(value) or None  # a null in it is meant: `"default": null`
    return _without_nulls(value) or None


def join_parts(content: Any) -> Any:
    """Return the text of a content that is a list of text parts; any other content as it is.

    >>> join_parts([{"type": "text", "text": "Who "}, {"type": "text", "text": "keeps it?"}])
    'Who keeps it?'
    """
    if not isinstance(content, list | tuple) or not content:
        return content
    texts: list[str] = []
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else part
        if not isinstance(text, str):
            return content
        texts.append(text)
    return "".join(texts)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(inner) for inner in value]
    return value


def _plain_calls(calls: Any) -> Any:
    """Return calls of tools with their arguments as mappings: OpenAI writes them as JSON text."""
    if not isinstance(calls, list | tuple):
        return calls
    plain: list[Any] = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            plain.append(call)
            continue
        function = {**function, "arguments": _from_json(function.get("arguments", {}))}
        plain.append(
            {**call, "function": function} if "function" in call else {"type": "function", "function": function}
        )
    return plain


def _from_json(value: Any) -> Any:
    """Return the value of JSON text; text that is not JSON, and any other value, as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def is_trained(message: Mapping[str, Any]) -> bool:
    """Say whether a turn of the assistant is trained: without a weight of its own, it is.

    >>> is_trained({"role": "assistant", "content": "Aye.", "weight": 0})
    False
    """
    return all(message.get(key) is None or bool(message[key]) for key in WEIGHT_KEYS)


def ends_with_answer(value: Any) -> bool:
    """Say whether a dialogue ends with a turn of the assistant."""
    last = value[-1] if are_messages(value) and value else None
    return isinstance(last, Mapping) and last.get("role") == ASSISTANT


def last_trained(messages: Sequence[Message]) -> int:
    """Return the position of the last turn of the assistant that is trained; of the last turn if none is.

    >>> last_trained([{"role": "assistant", "content": "Aye."}, {"role": "assistant", "content": "No.", "weight": 0}])
    0
    """
    for position in reversed(range(len(messages))):
        message = messages[position]
        if isinstance(message, Mapping) and message.get("role") == ASSISTANT and is_trained(message):
            return position
    return len(messages) - 1


def text_of(value: Any) -> str:
    """Return a text, or the contents of messages and their calls of tools, a line each."""
    if isinstance(value, str):
        return value
    contents = []
    for message in value or ():
        if not isinstance(message, Mapping):
            continue
        content = join_parts(message.get("content"))
        if isinstance(content, str) and (content or not message.get("tool_calls")):
            contents.append(content)
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list | tuple) else ():
            contents.append(json.dumps(call.get("function", call) if isinstance(call, Mapping) else call, default=str))
    return "\n".join(contents)


# --- checks -----------------------------------------------------------------------------------------------------------


def check_text_or_messages(
    value: Any,
    *,
    row: int,
    column: str,
    part: Part,
    name: str,
    places: Sequence[TurnPlace] | None = None,
    weights: bool = False,
) -> Iterator[Finding]:
    """Yield what is wrong with one prompt or answer, as text or as messages.

    Args:
        value: The cell.
        row: Position of its row.
        column: Its column.
        part: The purpose of the messages.
        name: What the codes call a text: ``prompt`` gives ``prompt-missing`` and ``prompt-empty``.
        places: Where the data hold each message; None if the column holds them all.
        weights: Whether the task reads the weights of turns.
    """
    if are_messages(value):
        yield from check_messages(value, row=row, column=column, part=part, places=places, weights=weights)
    elif value is None or isinstance(value, str):
        yield from check_text(value, row=row, column=column, name=name)
    else:
        yield Finding(
            code="neither-text-nor-messages",
            message=f"expected text or a list of messages, found {type(value).__name__}.",
            fix="Write the column as text, or as a list of messages, in all rows.",
            row=row,
            column=column,
            value=str(value),
        )


def check_same_form(parts: Mapping[str, Any], *, row: int) -> Iterator[Finding]:
    """Yield a finding if some parts of a row (column → value) are text and others are messages."""
    if len(set(map(are_messages, parts.values()))) > 1:
        *others, last = parts
        names = f"{', '.join(others)} and {last}"
        yield Finding(
            code="mixed-forms",
            message=f"some of {names} are text, others are messages.",
            fix=f"Write {names} as text, or all of them as messages.",
            row=row,
            column=next(iter(parts)),
        )


@dataclass(frozen=True, kw_only=True)
class TurnPlace:
    """Where the data hold one message: the message itself, its role and its content."""

    turn: str
    role: str
    content: str

    @staticmethod
    def within(column: str, turn: int, *, role: str = "role", content: str = "content") -> TurnPlace:
        """Return the place of a message in a list of messages: ``messages[2]``, with the names of its keys."""
        message = f"{column}[{turn}]"
        return TurnPlace(turn=message, role=f"{message}.{role}", content=f"{message}.{content}")

    @staticmethod
    def cell(column: str) -> TurnPlace:
        """Return the place of a message that is the text of a cell, such as ``instruction``."""
        return TurnPlace(turn=column, role=column, content=column)


def turn_places(value: Any, column: str, *, start: int = 0, keys: tuple[str, str] = MESSAGE_KEYS) -> list[TurnPlace]:
    """Return where a cell holds its messages; text is one message.

    Args:
        value: The cell, or a part of it.
        column: Its column.
        start: Position of the first message in the cell.
        keys: The keys of role and content in the data.
    """
    if not are_messages(value):
        return [] if value is None else [TurnPlace.cell(column)]
    role, content = keys
    return [TurnPlace.within(column, start + turn, role=role, content=content) for turn in range(len(value))]


def check_messages(
    value: Any,
    *,
    row: int,
    column: str,
    part: Part = "dialogue",
    places: Sequence[TurnPlace] | None = None,
    roles: Sequence[str] = ROLES,
    weights: bool = False,
) -> Iterator[Finding]:
    """Yield what is wrong with the messages of one row, with the turn in the column: ``messages[2].content``.

    The order of the turns is checked only if every single message is sound.

    Args:
        value: The cell, or the messages that a converter made of a row.
        row: Position of the row.
        column: The column.
        part: The purpose of the messages.
        places: Where the data hold each message; None if the column holds them all.
        roles: The names of the roles in the data.
        weights: Whether the task reads the weights of turns.
    """
    if not are_messages(value):
        given = "nothing" if value is None else type(value).__name__
        yield Finding(
            code="messages-not-a-list",
            message=f"expected a list of messages, found {given}.",
            fix='Write [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}].',
            row=row,
            column=column,
            value=None if value is None else str(value),
        )
        return
    if not value:
        yield Finding(
            code="messages-empty", message="the list of messages is empty.", fix=_FILL_IN, row=row, column=column
        )
        return
    if places is None:
        places = [TurnPlace.within(column, turn) for turn in range(len(value))]
    sound = True
    for message, place in zip(value, places, strict=True):
        turn = _Turn(row, place, roles)
        found = list(_check_message(message, turn))
        if weights and isinstance(message, Mapping):
            found += _check_weight({key: each for key, each in message.items() if each is not None}, turn)
        for finding in found:
            sound = sound and finding.level == "warning"
            yield finding
    if sound:
        turns: list[_Turn] = []
        for message, place in zip(value, places, strict=True):
            calls = bool(message.get("tool_calls"))
            trained = not weights or is_trained(message)
            turns.append(_Turn(row, place, roles, message["role"], trained, calls))
        yield from _check_order(turns, part)


@dataclass(frozen=True)
class _Turn:
    row: int
    place: TurnPlace
    roles: Sequence[str]
    """The names of the roles in the data."""
    role: str = ""
    """Its own role, if it is sound."""
    is_trained: bool = True
    """Whether its weight says so, if it is sound."""
    calls: bool = False
    """Whether it calls a tool."""

    def finding(
        self,
        code: str,
        message: str,
        fix: str,
        value: Any = None,
        *,
        at: Literal["turn", "role", "content"] = "turn",
        key: str | None = None,
        level: Literal["row", "warning"] = "row",
    ) -> Finding:
        """Return a finding at this message, at its role, at its content or at another key of it."""
        column: str = getattr(self.place, at)
        if key is not None:
            column = f"{column}.{key}"
        shown = None if value is None else str(value)
        return Finding(code=code, message=message, fix=fix, level=level, row=self.row, column=column, value=shown)


def _check_message(message: Any, turn: _Turn) -> Iterator[Finding]:
    if not isinstance(message, Mapping):
        wrong = f"expected a message, found {type(message).__name__}."
        yield turn.finding("message-not-an-object", wrong, 'Write {"role": …, "content": …}.', message)
        return
    given = {key: value for key, value in message.items() if value is not None}
    role, calls = given.get("role"), given.get("tool_calls")
    if "role" not in given:
        yield _missing(given, "role", turn)
    elif role not in ROLES:
        yield _unknown_role(role, turn)
    if calls:
        yield from _check_calls(calls, role, turn)
    if "content" in given and not (calls and given["content"] == ""):
        yield from _check_content(given["content"], role, turn)
    elif not calls:
        yield _missing(given, "content", turn)


def _check_calls(calls: Any, role: Any, turn: _Turn) -> Iterator[Finding]:
    """Yield what is wrong with the calls of tools in a message."""
    wanted = 'Write [{"type": "function", "function": {"name": …, "arguments": {…}}}].'
    if isinstance(calls, str):  # a turn of ShareGPT
        wrong = "the call of a tool is not JSON with a name and arguments."
        yield turn.finding("bad-tool-call", wrong, 'Write {"name": …, "arguments": {…}}.', calls, at="content")
        return
    if role != ASSISTANT:
        wrong = f"a turn of the {role} calls a tool."
        yield turn.finding("bad-tool-call", wrong, "Only the assistant can.", key="tool_calls")
        return
    if not isinstance(calls, list | tuple):
        wrong = f"expected a list of calls, found {type(calls).__name__}."
        yield turn.finding("bad-tool-call", wrong, wanted, calls, key="tool_calls")
        return
    for number, call in enumerate(_plain_calls(calls)):
        function: Any = call.get("function") if isinstance(call, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        place = f"tool_calls[{number}]"
        if not isinstance(name, str) or not name:
            yield turn.finding("bad-tool-call", "the call names no tool.", wanted, call, key=place)
        elif not isinstance(function["arguments"], Mapping):
            wrong = "the arguments of the call are not an object, nor its JSON text."
            yield turn.finding("bad-tool-call", wrong, wanted, function["arguments"], key=place)


def check_tools(value: Any, *, row: int) -> Iterator[Finding]:
    """Yield what is wrong with the definitions of tools in one row."""
    tools = plain_tools(value)
    is_list = isinstance(tools, list) and all(isinstance(tool, Mapping) for tool in tools)
    if tools is not None and not is_list:
        yield Finding(
            code="bad-tools",
            message="the tools are not a list of definitions, nor its JSON text.",
            fix='Write [{"type": "function", "function": {"name": …, "description": …, "parameters": {…}}}].',
            row=row,
            column="tools",
            value=str(value),
        )


def _check_weight(given: Mapping[str, Any], turn: _Turn) -> Iterator[Finding]:
    """Yield what is wrong with the weight of a message."""
    weights: dict[str, bool] = {}
    for key in WEIGHT_KEYS:
        if key not in given:
            continue
        value = given[key]
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            wrong = f"the weight of a turn must be 0 or 1, but is {value!r}."
            yield turn.finding(
                "bad-turn-weight", wrong, "Write 0 or false for a turn that is not trained.", value, key=key
            )
            return
        weights[key] = bool(value)
    if len(set(weights.values())) > 1:
        wrong = f"{' and '.join(map(repr, weights))} contradict each other."
        yield turn.finding("bad-turn-weight", wrong, "Keep one of them.", key=next(iter(weights)))
    elif any(weights.values()) and given.get("role") not in (None, ASSISTANT):
        wrong = f"the turn has a weight of 1, and turns of the {given['role']} are not trained."
        yield turn.finding(
            "weight-unused",
            wrong,
            "Set preprocessor.loss_on: all to train every turn.",
            key=next(iter(weights)),
            level="warning",
        )


def _check_content(content: Any, role: Any, turn: _Turn) -> Iterator[Finding]:
    content = join_parts(content)
    if not isinstance(content, str):
        kind = "a list with parts other than text" if isinstance(content, list) else type(content).__name__
        wrong = f"expected text as content, found {kind}."
        yield turn.finding("content-not-text", wrong, "Write it as one text.", content, at="content")
        return
    for finding in check_text(content, row=turn.row, column=turn.place.content, name="content"):
        if not (finding.code == "content-empty" and role == SYSTEM):  # an empty system message is a common default
            yield finding


def _missing(given: Mapping[str, Any], key: Literal["role", "content"], turn: _Turn) -> Finding:
    names = {"role": turn.place.role, "content": turn.place.content}
    for known, place in names.items():
        names[known] = place.removeprefix(f"{turn.place.turn}.")
    name = names[key]
    other_keys = [other for other in given if other not in names]
    close = get_close_matches(name, other_keys, n=1)
    if close:
        fix = f"Rename {close[0]!r} to {name!r}."
    elif key == "content" and "function_call" in given:
        fix = 'Write it as "tool_calls": [{"type": "function", "function": {"name": …, "arguments": {…}}}].'
    elif set(SHAREGPT_KEYS) <= set(given):
        fix = "These are ShareGPT's keys: call the column conversations, and set preprocessor.converter: sharegpt."
    else:
        fix = _FILL_IN
    keys = ", ".join(repr(names.get(known, known)) for known in given) or "nothing"
    return turn.finding(f"{key}-missing", f"the message has no {name!r}; it has: {keys}.", fix, at=key)


def _unknown_role(role: Any, turn: _Turn) -> Finding:
    plain = str(role).strip().lower()
    known = _OTHER_NAMES.get(plain)
    hint = f" Did you mean {known!r}?" if known in turn.roles else did_you_mean(plain, turn.roles)
    message = f"unknown role {role!r}; the roles are {', '.join(turn.roles)}.{hint}"
    return turn.finding("unknown-role", message, "Use these names, in lower case.", role, at="role")


def _check_order(messages: Sequence[_Turn], part: Part) -> Iterator[Finding]:
    turns: list[_Turn] = []
    for number, message in enumerate(messages):
        if message.role != SYSTEM:
            turns.append(message)
        elif number > 0:
            wrong = "a system message follows other messages."
            yield message.finding("system-not-first", wrong, "Move it to the front.", SYSTEM, at="role")
    if not turns:
        wrong = "there is a system message and no other."
        yield messages[0].finding("system-only", wrong, "Drop the row.", SYSTEM, at="role")
        return
    first, last = turns[0], turns[-1]
    if part != "completion" and first.role == ASSISTANT:
        wrong = "the assistant comes before the user."
        yield first.finding("assistant-first", wrong, "Begin with a user message.", first.role, at="role")
    if part == "completion" and first.role != ASSISTANT:
        wrong = "a completion must begin with the assistant."
        yield first.finding("completion-not-assistant", wrong, "Move the message to the prompt.", first.role, at="role")
    for before, message in pairwise(turns):
        if message.role == TOOL and before.role != TOOL and not before.calls:
            wrong = "the result of a tool follows a turn that calls none."
            fix = "Give the assistant's turn its tool_calls, unless its text holds the call."
            yield message.finding("tool-without-call", wrong, fix, at="role", level="warning")
        if before.role == message.role != TOOL:
            wrong = f"the {message.role} has two turns in a row."
            yield message.finding("role-twice", wrong, "Join the two messages.", message.role, at="role")
    weights = [turn.is_trained for turn in turns if turn.role == ASSISTANT]
    if part != "prompt" and weights and not any(weights):
        wrong = "every turn of the assistant has a weight of 0, so nothing is trained."
        yield last.finding("no-trained-turn", wrong, "Drop the row, or give a turn a weight of 1.")
    if part != "prompt" and last.role != ASSISTANT:
        wrong = "the last turn is not the assistant's, so there is no answer to learn from."
        yield last.finding("last-not-assistant", wrong, "Drop the turns after the last answer.", last.role, at="role")
    if part == "prompt" and last.role not in (USER, TOOL):
        wrong = "a prompt must end with the user's turn."
        yield last.finding("last-not-user", wrong, "Move the message to the completion.", last.role, at="role")


class MissingSpaceCounter:
    """Counts rows in which a text follows its prompt without a space: ``Who?`` and ``Tomás.`` make ``Who?Tomás.``

    >>> counter = MissingSpaceCounter()
    >>> counter.add(0, "Who?", " Tomás.")
    >>> counter.add(1, "Who?", "Tomás.")
    >>> counter.add(2, "Sum:", "-3")
    >>> [(finding.row, finding.message) for finding in counter.findings(column="prompt", fix="Begin with a space.")]
    [(1, 'in 2 rows an answer follows its prompt without a space.')]
    """

    def __init__(self) -> None:
        self._rows: list[int] = []

    def add(self, row: int, prompt: Any, *answers: Any) -> None:
        """Count one row with its answers; values that are no text are ignored.

        A space is expected after a letter, a digit or one of `_SPACE_AFTER`, before a letter, a digit or one of
        `_SPACE_BEFORE`.
        """
        if not isinstance(prompt, str) or not (prompt[-1:].isalnum() or prompt.endswith(_SPACE_AFTER)):
            return
        for answer in answers:
            if isinstance(answer, str) and (answer[:1].isalnum() or answer.startswith(_SPACE_BEFORE)):
                self._rows.append(row)
                return

    def findings(self, *, column: str, fix: str) -> Iterator[Finding]:
        """Yield one warning for all rows, if there are any."""
        if self._rows:
            yield Finding(
                code="no-space-between",
                message=f"in {len(self._rows):,} rows an answer follows its prompt without a space.",
                fix=fix,
                level="warning",
                row=self._rows[0],
                column=column,
            )
