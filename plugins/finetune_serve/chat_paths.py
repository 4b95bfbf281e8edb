"""The paths of OpenAI's API for a model that answers in chats."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from finetune.kit import to_json
from finetune_serve.chat import ROLES, Chat, Form, chat_of
from finetune_serve.limits import Limits
from finetune_serve.refusals import Refused
from finetune_serve.rows import parse
from finetune_serve.worker import Worker
from finetune_serve.writing import Writer, Written

if TYPE_CHECKING:
    from finetune.api import FineTuned

logger = logging.getLogger("finetune.serve")

_CHECKED = 0.2
"""How often, in seconds, the server looks whether a client still waits."""
_BODY = {
    "type": "object",
    "required": ["messages"],
    "properties": {
        "messages": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["role", "content"],
                "properties": {"role": {"enum": list(ROLES)}, "content": {"type": "string"}},
            },
        },
        "max_tokens": {"type": "integer", "minimum": 1},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "top_p": {"type": "number", "minimum": 0, "maximum": 1},
        "stop": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": 4}]},
        "seed": {"type": "integer"},
        "stream": {"type": "boolean"},
    },
}


class Running:
    """An answer that is being written in the thread of the model; its parts arrive in the loop of the client.

    Args:
        writer: Writes it.
        chat: What it answers.
        ended: Called in the loop of the client when nothing more is written.
    """

    def __init__(self, writer: Writer, chat: Chat, ended: Callable[[], None]) -> None:
        self._writer, self._chat, self._ended = writer, chat, ended
        self._loop = asyncio.get_running_loop()
        self.parts: asyncio.Queue[str | Written | Exception] = asyncio.Queue()
        self.cancelled = threading.Event()

    def __call__(self) -> None:
        """Write the answer."""
        try:
            if not self.cancelled.is_set():
                self._put(self._writer.write(self._chat, self._put, self.cancelled))
        except Exception as error:  # noqa: BLE001, it is raised where the client waits
            self._put(error)
        finally:
            self._loop.call_soon_threadsafe(self._ended)

    def _put(self, part: str | Written | Exception) -> None:
        self._loop.call_soon_threadsafe(self.parts.put_nowait, part)

    async def next(self) -> str | Written:
        """Return the next piece, or the whole answer at its end.

        Raises:
            Refused: The model cannot answer.
        """
        part = await self.parts.get()
        if isinstance(part, Refused):
            raise part
        if isinstance(part, Exception):
            logger.error("a chat cannot be answered", exc_info=part)
            raise Refused("prediction-failed", f"the model failed: {type(part).__name__}.", "See the log.")
        return part


def add(app: FastAPI, model: FineTuned, worker: Worker, limits: Limits) -> None:
    """Add the paths of OpenAI's API.

    Args:
        app: The application.
        model: A decoder with a chat template.
        worker: Has the thread of the model.
        limits: What a request can be.
    """
    writer, name = Writer(model), Path(model.result.directory).name or "model"
    metrics = app.state.metrics
    body = {"required": True, "content": {"application/json": {"schema": _BODY}}}

    @app.get("/v1/models", response_class=Response, tags=["chat"])
    async def models() -> Response:
        """Name the model, as OpenAI's API does."""
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "finetune"}]
        return _json({"object": "list", "data": listed})

    @app.post("/v1/chat/completions", openapi_extra={"requestBody": body}, response_class=Response, tags=["chat"])
    async def complete(request: Request) -> Response:
        """Answer a chat, as OpenAI's API does.

        Without `temperature` and `top_p`, the options of the run hold; `temperature: 0` always gives the same answer.
        With `stream: true`, the answer comes in pieces while it is written.
        """
        chat = chat_of(parse(await request.body(), limits), limits)
        worker.enter()
        running, form = Running(writer, chat, worker.leave), Form.new(name)
        worker.call(running)
        part = await _next(running, request)
        if chat.stream and part is not None:
            return StreamingResponse(stream(running, part, form, chat), media_type="text/event-stream")
        while not isinstance(part, Written | None):
            part = await _next(running, request)
        if part is None:
            return Response(status_code=499)  # the client is gone
        metrics.generated.inc(part.completion_tokens)
        return _json(form.whole(part.text, reason=part.reason, usage=part.usage))

    async def stream(running: Running, first: str | Written, form: Form, chat: Chat) -> AsyncIterator[str]:
        part: str | Written = first
        try:
            yield _event(form.piece({"role": "assistant", "content": ""}))
            while not isinstance(part, Written):
                yield _event(form.piece({"content": part}))
                part = await running.next()
            yield _event(form.piece({}, reason=part.reason))
            if chat.usage:
                yield _event(form.total(part.usage))
            metrics.generated.inc(part.completion_tokens)
            yield "data: [DONE]\n\n"
        except Refused as refusal:
            yield _event(refusal.content())
        finally:
            running.cancelled.set()


async def _next(running: Running, request: Request) -> str | Written | None:
    """Return the next part of an answer; None if the client is gone, which ends the answer."""
    waiting = asyncio.ensure_future(running.next())
    while not waiting.done():
        await asyncio.wait([waiting], timeout=_CHECKED)
        if not waiting.done() and await request.is_disconnected():
            running.cancelled.set()
            waiting.cancel()
            return None
    return await waiting


def _event(content: Any) -> str:
    return f"data: {to_json(content)}\n\n"


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type="application/json")
