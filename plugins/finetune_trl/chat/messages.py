"""Messages: their form, and the checks of prompts and answers, as messages or as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, Literal

from finetune.errors import did_you_mean
from finetune.interfaces import Finding
from finetune.kit import check_text

SYSTEM, USER, ASSISTANT = ROLES = ("system", "user", "assistant")
Message = dict[str, str]
"""``{"role": "user", "content": "Who keeps the light?"}``"""
Part = Literal["dialogue", "prompt", "completion"]
"""The purpose of a list of messages. A dialogue ends with an answer, and a prompt with the user's turn. A completion
begins and ends with an answer."""
SHAREGPT_KEYS = ("from", "value")
_OTHER_NAMES = {
    "human": USER,
    "instruction": USER,
    "prompter": USER,
    **dict.fromkeys(("gpt", "bot", "chatgpt", "model", "ai"), ASSISTANT),
}
_FILL_IN = "Fill it in, or drop the row."
_SPACE_AFTER, _SPACE_BEFORE = tuple(".,:;!?=…)]}\"'”’»"), tuple("-([{\"'“‘«")
"""Punctuation marks after which an answer begins with a space, and marks with which such an answer begins."""


def are_messages(value: Any) -> bool:
    """Say whether a value is a list of messages, rather than text."""
    return isinstance(value, list | tuple)


def drop_nulls(messages: Sequence[Any]) -> list[Any]:
    """Return messages as plain dictionaries, without the keys that a table fills with None.

    >>> drop_nulls([{"role": "user", "content": "Who?", "name": None}])
    [{'role': 'user', 'content': 'Who?'}]

    An item that is no mapping stays as it is.
    """
    plain: list[Any] = []
    for message in messages:
        if isinstance(message, Mapping):
            message = {key: value for key, value in message.items() if value is not None}
        plain.append(message)
    return plain


def ends_with_answer(value: Any) -> bool:
    """Say whether a dialogue ends with a turn of the assistant."""
    last = value[-1] if are_messages(value) and value else None
    return isinstance(last, Mapping) and last.get("role") == ASSISTANT


def text_of(value: Any) -> str:
    """Return a text, or the contents of messages, a line each; a content that is no text is left out."""
    if isinstance(value, str):
        return value
    contents = []
    for message in value or ():
        content = message.get("content") if isinstance(message, Mapping) else None
        if isinstance(content, str):
            contents.append(content)
    return "\n".join(contents)


# --- checks -----------------------------------------------------------------------------------------------------------


def check_text_or_messages(value: Any, *, row: int, column: str, part: Part, name: str) -> Iterator[Finding]:
    """Yield what is wrong with one prompt or answer, as text or as messages.

    Args:
        value: The cell.
        row: Position of its row.
        column: Its column.
        part: The purpose of the messages.
        name: What the codes call a text: ``prompt`` gives ``prompt-missing`` and ``prompt-empty``.
    """
    if are_messages(value):
        yield from check_messages(value, row=row, column=column, part=part)
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


def check_messages(value: Any, *, row: int, column: str, part: Part = "dialogue") -> Iterator[Finding]:
    """Yield what is wrong with the messages of one row, with the turn in the column: ``messages[2].content``.

    The order of the turns is checked only if every single message is sound.
    """
    at = _Place(row, column)
    if not are_messages(value):
        given = "nothing" if value is None else type(value).__name__
        fix = 'Write [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}].'
        yield at.finding("messages-not-a-list", f"expected a list of messages, found {given}.", fix, value)
        return
    if not value:
        yield at.finding("messages-empty", "the list of messages is empty.", _FILL_IN)
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

    def finding(self, code: str, message: str, fix: str, value: Any = None, *, below: str = "") -> Finding:
        """Return a finding at this place, or below it."""
        shown = None if value is None else str(value)
        return Finding(code=code, message=message, fix=fix, row=self.row, column=f"{self.column}{below}", value=shown)


def _check_message(message: Any, at: _Place) -> Iterator[Finding]:
    if not isinstance(message, Mapping):
        wrong = f"expected a message, found {type(message).__name__}."
        yield at.finding("message-not-an-object", wrong, 'Write {"role": …, "content": …}.', message)
        return
    (given,) = drop_nulls([message])
    role = given.get("role")
    if given.get("tool_calls") or role == "tool":
        wrong = "training on tool calls and their results is not supported."
        yield at.finding("tool-message", wrong, "Drop the row, or write the text of the turn as content.")
        return
    if "role" not in given:
        yield _missing(given, "role", at)
    elif role not in ROLES:
        yield _unknown_role(role, at)
    if "content" not in given:
        yield _missing(given, "content", at)
    else:
        yield from _check_content(given["content"], role, at)


def _check_content(content: Any, role: Any, at: _Place) -> Iterator[Finding]:
    if not isinstance(content, str):
        kind = "a list of parts" if isinstance(content, list) else type(content).__name__
        wrong = f"expected text as content, found {kind}."
        yield at.finding("content-not-text", wrong, "Write it as one text.", content, below=".content")
        return
    for finding in check_text(content, row=at.row, column=f"{at.column}.content", name="content"):
        if not (finding.code == "content-empty" and role == SYSTEM):  # an empty system message is a common default
            yield finding


def _missing(given: Mapping[str, Any], key: str, at: _Place) -> Finding:
    other_keys = [other for other in given if other not in ("role", "content")]
    close = get_close_matches(key, other_keys, n=1)
    if close:
        fix = f"Rename {close[0]!r} to {key!r}."
    elif set(SHAREGPT_KEYS) <= set(given):
        fix = "These are ShareGPT's keys: call the column conversations, and set preprocessor.converter: sharegpt."
    else:
        fix = _FILL_IN
    keys = ", ".join(map(repr, given)) or "nothing"
    return at.finding(f"{key}-missing", f"the message has no {key!r}; it has: {keys}.", fix, below=f".{key}")


def _unknown_role(role: Any, at: _Place) -> Finding:
    plain = str(role).strip().lower()
    known = _OTHER_NAMES.get(plain)
    hint = f" Did you mean {known!r}?" if known else did_you_mean(plain, ROLES)
    message = f"unknown role {role!r}; the roles are {', '.join(ROLES)}.{hint}"
    return at.finding("unknown-role", message, "Use these names, in lower case.", role, below=".role")


def _check_order(roles: Sequence[str], at: _Place, part: Part) -> Iterator[Finding]:
    def finding(code: str, message: str, turn: int, fix: str) -> Finding:
        return at.finding(code, message, fix, roles[turn], below=f"[{turn}].role")

    turns: list[tuple[int, str]] = []
    for turn, role in enumerate(roles):
        if role != SYSTEM:
            turns.append((turn, role))
        elif turn > 0:
            wrong = "a system message follows other messages."
            yield finding("system-not-first", wrong, turn, "Move it to the front.")
    if not turns:
        yield finding("system-only", "there is a system message and no other.", 0, "Drop the row.")
        return
    (begin, first), (end, last) = turns[0], turns[-1]
    if part != "completion" and first == ASSISTANT:
        wrong = "the assistant comes before the user."
        yield finding("assistant-first", wrong, begin, "Begin with a user message.")
    if part == "completion" and first != ASSISTANT:
        wrong = "a completion must begin with the assistant."
        yield finding("completion-not-assistant", wrong, begin, "Move the message to the prompt.")
    for (_, before), (turn, role) in pairwise(turns):
        if before == role:
            yield finding("role-twice", f"the {role} has two turns in a row.", turn, "Join the two messages.")
    if part != "prompt" and last != ASSISTANT:
        wrong = "the last turn is not the assistant's, so there is no answer to learn from."
        yield finding("last-not-assistant", wrong, end, "Drop the turns after the last answer.")
    if part == "prompt" and last != USER:
        wrong = "a prompt must end with the user's turn."
        yield finding("last-not-user", wrong, end, "Move the message to the completion.")


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
