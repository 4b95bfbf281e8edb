"""What only the chat template shows: messages that it refuses, words that it leaves out, keys that it does not read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.interfaces import Finding
from finetune_trl.chat import templates
from finetune_trl.chat.messages import ASSISTANT, USER, WEIGHT_KEYS, Message, TurnPlace
from finetune_trl.chat.templates import TemplateInputs, TemplateRefusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_READ = frozenset({"role", "content", "tool_calls", "tool_call_id"})
"""Keys of a message that are always read; `tool_call_id` only links a result to its call, which the order does too."""
_END_OF_THOUGHT = "</think>"
_NOT_WRITTEN = "template-leaves-out"
_REMEDY = "Move it to another turn, or set another template (preprocessor.chat_template)."


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """The messages of one row, and where the data hold them."""

    messages: Sequence[Message]
    """As templates take them; see `plain_messages`."""
    places: Sequence[TurnPlace]
    """One for each message."""
    column: str
    """The column that a finding about all of them names."""
    prompt: int
    """How many of the messages are the prompt."""


class TemplateChecker:
    """Checks the dialogues of one split with the template of a tokenizer.

    Args:
        tokenizer: Its template is set.
        read_keys: Keys of messages that the task reads itself.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, read_keys: Collection[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._read_keys = _READ | set(read_keys)
        self._unread: Counter[str] = Counter()
        self._first: dict[str, tuple[int, str]] = {}
        self._mentioned: dict[str, bool] = {}
        self._writes_tools: bool | None = None
        self._tools_unwritten: list[int] = []

    def check(self, dialogues: Sequence[Dialogue], *, row: int, inputs: TemplateInputs) -> Iterator[Finding]:
        """Yield what is wrong with the dialogues of one row, which may share their prompt."""
        found: set[str | None] = set()
        counted: set[str] = set()
        for dialogue in dialogues:
            self._count_keys(dialogue, row, counted)
            for finding in self._check(dialogue, row=row, inputs=inputs):
                if finding.column not in found:
                    found.add(finding.column)
                    yield finding

    def _check(self, dialogue: Dialogue, *, row: int, inputs: TemplateInputs) -> Iterator[Finding]:
        messages = dialogue.messages
        try:
            text = templates.render(self._tokenizer, messages, inputs=inputs)
            if dialogue.prompt:
                prompt = messages[: dialogue.prompt]
                templates.render(self._tokenizer, prompt, inputs=inputs, add_generation_prompt=True)
            if templates.has_marks(text):
                templates.encode(self._tokenizer, [text])
        except TemplateRefusal as refusal:
            yield Finding(
                code="template-refuses",
                message=refusal.problem,
                fix=refusal.remedy,
                row=row,
                column=dialogue.column,
            )
            return
        self._count_tools(dialogue, row, inputs, text)
        yield from self._left_out(dialogue, text, row=row, inputs=inputs)

    def findings(self) -> Iterator[Finding]:
        """Yield one warning for all keys that are not read, and one for definitions of tools that are not written."""
        if self._unread:
            names = ", ".join(f"{name!r} ({number:,})" for name, number in self._unread.items())
            row, place = self._first[next(iter(self._unread))]
            yield Finding(
                code="unread-keys",
                message="messages have keys that neither the task nor the chat template reads, with the number of "
                f"messages: {names}.",
                fix=self._remedy(),
                level="warning",
                row=row,
                column=place,
            )
        if self._tools_unwritten:
            yield Finding(
                code="tools-not-written",
                message=f"the chat template leaves out the definitions of the tools, in {len(self._tools_unwritten):,} "
                "rows.",
                fix="Describe the tools in a system message, or set another template (preprocessor.chat_template).",
                level="warning",
                row=self._tools_unwritten[0],
                column="tools",
            )

    def _remedy(self) -> str:
        weights = [name for name in self._unread if name in WEIGHT_KEYS]
        if weights:
            return f"Only the task sft reads {weights[0]!r}: here, the whole answer counts. Split or drop such rows."
        return "Put what the model must read into the content."

    def _count_keys(self, dialogue: Dialogue, row: int, counted: set[str]) -> None:
        """Count the keys that are not read, of each message of a row once."""
        for message, place in zip(dialogue.messages, dialogue.places, strict=True):
            if place.turn in counted:
                continue
            counted.add(place.turn)
            for key in message.keys() - self._read_keys:
                if not self._mentions(key):
                    self._unread[key] += 1
                    self._first.setdefault(key, (row, f"{place.turn}.{key}"))

    def _mentions(self, key: str) -> bool:
        """Say whether the template names a key."""
        if key not in self._mentioned:
            template = str(self._tokenizer.chat_template)
            self._mentioned[key] = bool(re.search(rf"\b{re.escape(key)}\b", template))
        return self._mentioned[key]

    def _count_tools(self, dialogue: Dialogue, row: int, inputs: TemplateInputs, text: str) -> None:
        if not inputs.tools:
            return
        if self._writes_tools is None:  # a template writes them always or never
            without = TemplateInputs(options=inputs.options)
            self._writes_tools = templates.render(self._tokenizer, dialogue.messages, inputs=without) != text
        if not self._writes_tools:
            self._tools_unwritten.append(row)

    def _left_out(self, dialogue: Dialogue, text: str, *, row: int, inputs: TemplateInputs) -> Iterator[Finding]:
        """Yield which texts and calls of tools the template does not write."""
        written = _squeezed(text)
        floor = 0
        for number, message in enumerate(dialogue.messages):
            place = dialogue.places[number]
            content, calls = message["content"], message.get("tool_calls") or ()
            wanted = _squeezed(content)
            found = -1 if calls else written.find(wanted, floor)
            if found >= 0:
                floor = found + len(wanted)
            elif wanted and not self._writes_content(dialogue, number, written, inputs):
                yield _left_out_text(content, calls, row=row, place=place)
            elif calls and wanted and self._writes_later(dialogue, number, inputs):
                yield Finding(
                    code=_NOT_WRITTEN,
                    message="the chat template writes this text after the result of the tool, not before the call.",
                    fix=_REMEDY,
                    row=row,
                    column=place.content,
                    value=content,
                )
            for position, call in enumerate(calls):
                if not self._writes_call(dialogue, number, position, inputs):
                    name = call["function"]["name"]
                    yield _left_out_call(name, content, position, row=row, place=place)

    def _writes_content(self, dialogue: Dialogue, number: int, written: str, inputs: TemplateInputs) -> bool:
        """Say whether a template writes the text of a message, perhaps in another way: as JSON, without thoughts."""
        content = dialogue.messages[number]["content"]
        if not self._writes(dialogue, number, {"content": templates.PROBE}, inputs):
            return False
        thoughts, end, _ = content.rpartition(_END_OF_THOUGHT)
        is_last = not any(message["role"] == USER for message in dialogue.messages[number + 1 :])
        if not end or not is_last or dialogue.messages[number]["role"] != ASSISTANT:
            return True  # thoughts of earlier turns are not read when the model answers, either
        return _squeezed(thoughts.replace("<think>", "")) in written

    def _writes_later(self, dialogue: Dialogue, number: int, inputs: TemplateInputs) -> bool:
        """Say whether a template writes the text of a message after the next message."""
        if number + 1 == len(dialogue.messages):
            return False
        following = dialogue.messages[number + 1]["content"]
        change = {"content": templates.PROBE}
        try:
            changed = templates.render_changed(self._tokenizer, dialogue.messages, number, change, inputs=inputs)
        except TemplateRefusal:
            return False
        place = changed.find(following.strip())
        return 0 <= place < changed.find(templates.PROBE)

    def _writes_call(self, dialogue: Dialogue, number: int, position: int, inputs: TemplateInputs) -> bool:
        calls = list(dialogue.messages[number]["tool_calls"])
        function = {**calls[position]["function"], "name": templates.PROBE}
        calls[position] = {**calls[position], "function": function}
        return self._writes(dialogue, number, {"tool_calls": calls}, inputs)

    def _writes(self, dialogue: Dialogue, number: int, change: Mapping[str, Any], inputs: TemplateInputs) -> bool:
        """Say whether the template writes a change of a message that no data have."""
        try:
            changed = templates.render_changed(self._tokenizer, dialogue.messages, number, change, inputs=inputs)
        except TemplateRefusal:  # the template looks into the value, so it reads it
            return True
        return templates.PROBE in changed


def _squeezed(text: str) -> str:
    """Return a text without white space and marks, which templates add and remove."""
    return "".join(templates.without_marks(text).split())


def _left_out_text(content: str, calls: Sequence[Any], *, row: int, place: TurnPlace) -> Finding:
    if _END_OF_THOUGHT in content:
        what = f"the chat template leaves out the thoughts before {_END_OF_THOUGHT}, so they would not be trained."
        remedy = "Remove them, or set another template (preprocessor.chat_template)."
    elif calls:
        what, remedy = "the chat template leaves out this text, because the message calls a tool.", _REMEDY
    else:
        what, remedy = "the chat template leaves out this text.", _REMEDY
    return Finding(code=_NOT_WRITTEN, message=what, fix=remedy, row=row, column=place.content, value=content)


def _left_out_call(name: str, content: str, position: int, *, row: int, place: TurnPlace) -> Finding:
    if position:
        reason, remedy = "it writes one call for each turn", "Give each call and its result a turn of its own"
    elif content:
        reason, remedy = "the message has text too", "Move the text to another turn"
    else:
        reason, remedy = "it does not write such calls", "Drop the row"
    return Finding(
        code=_NOT_WRITTEN,
        message=f"the chat template leaves out the call of {name!r}: {reason}.",
        fix=f"{remedy}, or set another template (preprocessor.chat_template).",
        row=row,
        column=f"{place.turn}.tool_calls[{position}]",
        value=name,
    )
