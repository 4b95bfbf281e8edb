"""Messages: what they are, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, Literal

from finetune.errors import did_you_mean
from finetune.interfaces import Finding

SYSTEM, USER, ASSISTANT = ROLES = ("system", "user", "assistant")
Message = dict[str, str]
"""``{"role": "user", "content": "Who keeps the light?"}``"""
Part = Literal["dialogue", "prompt", "completion"]
"""What a list of messages is: a dialogue ends with an answer, a prompt before one; a completion is answers alone, or
begins and ends with one."""
SHAREGPT = ("from", "value")
_OTHER_NAMES = {"human": USER, "instruction": USER, "prompter": USER} | dict.fromkeys(
    ("gpt", "bot", "chatgpt", "model", "ai"), ASSISTANT
)


def are_messages(value: Any) -> bool:
    """Say whether a value is a list of messages, rather than text."""
    return isinstance(value, list | tuple)


def messages_of(value: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Return messages as plain dictionaries, without the keys that a table fills with None.

    >>> messages_of([{"role": "user", "content": "Who?", "name": None}])
    [{'role': 'user', 'content': 'Who?'}]
    """
    return [{key: part for key, part in message.items() if part is not None} for message in value]


def answered(value: Any) -> bool:
    """Say whether a dialogue ends with a turn of the assistant."""
    last = value[-1] if are_messages(value) and value else None
    return isinstance(last, Mapping) and last.get("role") == ASSISTANT


def text_of(value: Any) -> str:
    """Return everything that is said, for counting its characters; whatever is no text counts as none."""
    if isinstance(value, str):
        return value
    said = (message.get("content") for message in value or () if isinstance(message, Mapping))
    return "\n".join(content for content in said if isinstance(content, str))


def check(value: Any, *, row: int, column: str, part: Part = "dialogue") -> Iterator[Finding]:
    """Yield what is wrong with the messages of one row, with the turn in the column: ``messages[2].content``.

    Order is judged only where every message is sound.
    """
    at = _Place(row, column)
    if not are_messages(value):
        given = "nothing" if value is None else type(value).__name__
        fix = 'Write [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}].'
        yield at.found("messages-not-a-list", f"a list of messages was wanted, not {given}.", fix, value)
        return
    if not value:
        yield at.found("messages-empty", "there is no message.", "Fill it in, or drop the row.")
        return
    sound = True
    for turn, message in enumerate(value):
        for finding in _check_message(message, _Place(row, f"{column}[{turn}]")):
            sound = False
            yield finding
    if sound:
        yield from _check_order([message["role"] for message in value], at, part)


@dataclass(frozen=True)
class _Place:
    row: int
    column: str

    def found(self, code: str, message: str, fix: str, value: Any = None, *, below: str = "") -> Finding:
        """Return a finding at this place, or below it."""
        shown = None if value is None else str(value)
        return Finding(code=code, message=message, fix=fix, row=self.row, column=f"{self.column}{below}", value=shown)


def _check_message(message: Any, at: _Place) -> Iterator[Finding]:
    if not isinstance(message, Mapping):
        wanted = f"a message was wanted, not {type(message).__name__}."
        yield at.found("message-not-an-object", wanted, 'Write {"role": …, "content": …}.', message)
        return
    given = {key: value for key, value in message.items() if value is not None}
    role = given.get("role")
    if given.get("tool_calls") or role == "tool":
        cannot = "calls of tools, and what they return, cannot be trained on yet."
        yield at.found("tool-message", cannot, "Drop the row, or write what was said as content.")
        return
    if "role" not in given:
        yield _missing(given, "role", at)
    elif role not in ROLES:
        yield _unknown_role(role, at)
    if "content" not in given:
        yield _missing(given, "content", at)
    elif not isinstance(content := given["content"], str):
        what = "a list of parts" if isinstance(content, list) else type(content).__name__
        wanted = f"the content is {what}, and text was wanted."
        yield at.found("content-not-text", wanted, "Write it as one text.", content, below=".content")
    elif not content.strip() and role != SYSTEM:
        silent = f"the {role} says nothing."
        yield at.found("content-empty", silent, "Fill it in, or drop the row.", below=".content")


def _missing(given: Mapping[str, Any], key: str, at: _Place) -> Finding:
    close = get_close_matches(key, [other for other in given if other not in ("role", "content")], n=1)
    if close:
        fix = f"Call it {key!r}: {close[0]!r} is read by nobody."
    elif set(SHAREGPT) <= set(given):
        fix = "These are ShareGPT's keys: call the column conversations, and set preprocessor.converter: sharegpt."
    else:
        fix = "Fill it in, or drop the row."
    has = ", ".join(map(repr, given)) or "nothing"
    return at.found(f"{key}-missing", f"the message has no {key!r}; it has: {has}.", fix, below=f".{key}")


def _unknown_role(role: Any, at: _Place) -> Finding:
    plain = str(role).strip().lower()
    known = _OTHER_NAMES.get(plain)
    hint = f" Did you mean {known!r}?" if known else did_you_mean(plain, ROLES)
    message = f"the role is {role!r}; there are {', '.join(ROLES)}.{hint}"
    return at.found("unknown-role", message, "Write roles in small letters, by these names.", role, below=".role")


def _check_order(roles: Sequence[str], at: _Place, part: Part) -> Iterator[Finding]:
    def found(code: str, message: str, turn: int, fix: str) -> Finding:
        return at.found(code, message, fix, roles[turn], below=f"[{turn}].role")

    for turn, role in enumerate(roles):
        if role == SYSTEM and turn:
            yield found("system-not-first", "a system message stands after others.", turn, "Move it to the front.")
    spoken = [(turn, role) for turn, role in enumerate(roles) if role != SYSTEM]
    if not spoken:
        yield found("nobody-speaks", "there is a system message, and no other.", 0, "Drop the row.")
        return
    (begin, first), (end, last) = spoken[0], spoken[-1]
    if part != "completion" and first == ASSISTANT:
        yield found("assistant-first", "the assistant speaks before the user.", begin, "Begin with a user message.")
    if part == "completion" and first != ASSISTANT:
        yield found(
            "completion-not-assistant", "a completion begins with the assistant.", begin, "Move it to the prompt."
        )
    for (_, before), (turn, role) in pairwise(spoken):
        if before == role:
            yield found("role-twice", f"the {role} speaks twice in a row.", turn, "Join the two messages.")
    if part != "prompt" and last != ASSISTANT:
        nothing = "the last turn is not the assistant's, so there is nothing to learn from it."
        yield found("last-not-assistant", nothing, end, "Drop what follows the last answer.")
    if part == "prompt" and last != USER:
        yield found("last-not-user", "a prompt ends with the user's turn.", end, "Move it to the completion.")
