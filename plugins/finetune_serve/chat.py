"""The body of a chat request in OpenAI's form, and the answers in that form.

Source: https://platform.openai.com/docs/api-reference/chat, as of 2026.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.errors import did_you_mean
from finetune_serve.limits import Limits
from finetune_serve.refusals import Refused
from finetune_serve.rows import measure

ROLES = ("system", "developer", "user", "assistant", "tool")

WITHOUT_EFFECT = frozenset({"model", "user", "metadata", "store", "safety_identifier", "prompt_cache_key"})
"""Parameters that say nothing about the answer."""
NEUTRAL: Mapping[str, Sequence[Any]] = {
    "n": (1, None), "frequency_penalty": (0, None), "presence_penalty": (0, None), "logprobs": (False, None),
    "logit_bias": ({}, None), "tools": ([], None), "tool_choice": ("none", "auto", None), "top_logprobs": (None,),
    "response_format": ({"type": "text"}, None), "parallel_tool_calls": (True, False, None),
}  # fmt: skip
"""Parameters that are taken only with values that change nothing."""
READ = (
    "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed", "stream",
    "stream_options",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Chat:
    """What a client wants the model to write."""

    messages: list[dict[str, str]]
    """The turns so far."""
    options: Mapping[str, Any]
    """Options of ``generate`` that replace those of the run."""
    stop: tuple[str, ...] = ()
    """Texts before which the answer ends."""
    seed: int | None = None
    """Seed of what is sampled; None for another one each time."""
    stream: bool = False
    """Whether the answer is sent while it is written."""
    usage: bool = False
    """Whether the end of a stream says how many tokens there were."""


def chat_of(content: Any, limits: Limits) -> Chat:
    """Return the chat of a body.

    Raises:
        Refused: It has no messages, or a parameter that cannot be followed.
    """
    if not isinstance(content, Mapping):
        raise Refused("not-an-object", "the body must be an object.", 'Send {"messages": [{…}]}.')
    _check_names(content)
    if (size := measure(content, limits)) > limits.characters:
        raise Refused(
            "text-too-long",
            f"the texts have {size:,} characters, and at most {limits.characters:,} are taken.",
            "Leave out the first messages, or start the server with a greater --max-characters.",
        )
    stream_options = content.get("stream_options") or {}
    return Chat(
        messages=_messages(content.get("messages")),
        options=_options(content),
        stop=_stop(content.get("stop")),
        seed=_number(content, "seed", int, least=0, most=2**63 - 1),
        stream=_flag(content, "stream"),
        usage=isinstance(stream_options, Mapping) and stream_options.get("include_usage") is True,
    )


def _check_names(content: Mapping[str, Any]) -> None:
    for name, value in content.items():
        if name in NEUTRAL and value not in NEUTRAL[name]:
            raise _bad(name, "is not supported with this value", "Leave it out.")
        if name not in NEUTRAL and name not in READ and name not in WITHOUT_EFFECT:
            raise _bad(name, "is unknown", f"Leave it out.{did_you_mean(name, READ)}")


def _bad(name: str, problem: str, fix: str) -> Refused:
    return Refused("bad-parameter", f"{name[:60]} {problem}.", fix)


def _messages(given: Any) -> list[dict[str, str]]:
    if not isinstance(given, list) or not given:
        raise _bad("messages", "must be a list with at least one message", 'Send [{"role": "user", "content": "…"}].')
    messages = []
    for number, message in enumerate(given):
        name = f"messages[{number}]"
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            raise _bad(f"{name}.role", f"must be one of {', '.join(ROLES)}", "Correct it.")
        role = "system" if message["role"] == "developer" else message["role"]
        messages.append({"role": role, "content": _text(message.get("content"), f"{name}.content")})
    return messages


def _text(content: Any, name: str) -> str:
    """Return the content of a message: a text, or parts that are texts."""
    if isinstance(content, str):
        return content
    parts = []
    for part in content if isinstance(content, list) else [None]:
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise _bad(
                name, "must be a text", 'Images and sounds are not read: send "…" or [{"type": "text", "text": "…"}].'
            )
        parts.append(part["text"])
    return "".join(parts)


def _options(content: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in ("max_tokens", "max_completion_tokens"):
        if (most := _number(content, name, int, least=1, most=1 << 20)) is not None:
            options["max_new_tokens"] = most
    temperature = _number(content, "temperature", float, least=0, most=2)
    top_p = _number(content, "top_p", float, least=0, most=1)
    if temperature == 0:
        return {**options, "do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if temperature is not None or top_p is not None:
        options |= {"do_sample": True, "temperature": 1.0 if temperature is None else temperature, "top_k": 0}
        options["top_p"] = 1.0 if top_p is None else max(top_p, 1e-6)
    return options


def _number(content: Mapping[str, Any], name: str, kind: type, *, least: float, most: float) -> Any:
    value = content.get(name)
    if value is None:
        return None
    right = isinstance(value, int) if kind is int else isinstance(value, int | float)
    if not right or isinstance(value, bool) or not least <= value <= most:
        what = "a whole number" if kind is int else "a number"
        raise _bad(name, f"must be {what} from {least:,} to {most:,}", "Correct it.")
    return kind(value)


def _flag(content: Mapping[str, Any], name: str) -> bool:
    value = content.get(name)
    if value not in (True, False, None):
        raise _bad(name, "must be true or false", "Correct it.")
    return bool(value)


def _stop(given: Any) -> tuple[str, ...]:
    texts = [given] if isinstance(given, str) else given or []
    if not isinstance(texts, list) or len(texts) > 4 or not all(isinstance(text, str) and text for text in texts):
        raise _bad("stop", "must be a text, or a list of up to four texts", "Correct it.")
    return tuple(texts)


@dataclass(frozen=True, kw_only=True)
class Form:
    """Writes the answers to one chat in OpenAI's form."""

    model: str
    id: str
    created: int

    @classmethod
    def new(cls, model: str) -> Form:
        """Return the form of a new answer."""
        return cls(model=model, id=f"chatcmpl-{secrets.token_hex(12)}", created=int(time.time()))

    def whole(self, text: str, *, reason: str, usage: Mapping[str, int]) -> dict[str, Any]:
        """Return an answer as a whole."""
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        return {**self._head("chat.completion"), "choices": [choice], "usage": dict(usage)}

    def piece(self, delta: Mapping[str, str], *, reason: str | None = None) -> dict[str, Any]:
        """Return a part of an answer."""
        choice = {"index": 0, "delta": dict(delta), "finish_reason": reason, "logprobs": None}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def total(self, usage: Mapping[str, int]) -> dict[str, Any]:
        """Return the number of tokens, at the end of a stream."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": dict(usage)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}
