"""Read the body of a request: not too large, not too slow, and before the application sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finetune.kit import to_json
from finetune_serve.limits import Limits
from finetune_serve.refusals import Refused

_DRAINED = 64 << 20
"""Most bytes that are thrown away, so that a client that sends before it reads gets the answer."""


class ReadBody:
    """Reads bodies for an application.

    A body that is announced as too large is refused at once. One that comes in pieces is refused when it is too large,
    and never kept as a whole.

    Args:
        app: The application.
        limits: What a body can be.
        refused: Called with each refusal.
    """

    def __init__(self, app: ASGIApp, limits: Limits, refused: Callable[[Refused], None]) -> None:
        self._app = app
        self._refused = refused
        self._limits = limits
        self._reading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body of a request, and pass it on."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self._app(scope, receive, send)
            return
        ended = False

        async def watched() -> Message:
            nonlocal ended
            message = await receive()
            ended = not message.get("more_body", False)
            return message

        self._reading += 1
        try:
            body = await self._read(scope, watched)
        except Refused as refusal:
            self._refused(refusal)
            await _refuse(refusal, None if ended else receive, send, seconds=self._limits.read_seconds)
            return
        finally:
            self._reading -= 1
        if body is None:
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the body; None if the client is gone.

        Raises:
            Refused: It is too large or too slow.
        """
        if self._reading > self._limits.requests:
            raise Refused("too-many-requests", "too many requests arrive at once.", "Send it again later.")
        self._check_announced(scope)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.read_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > self._limits.body_bytes:
                        raise self._too_large("is larger")
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError:
            raise Refused(
                "slow-body", f"the body did not arrive within {self._limits.read_seconds:g} seconds.", "Send it faster."
            ) from None

    def _check_announced(self, scope: Scope) -> None:
        for name, value in scope["headers"]:
            if name.lower() == b"content-length":
                if not value.isdigit():
                    raise Refused("bad-length", "the header Content-Length is not a number.", "Correct the header.")
                if int(value) > self._limits.body_bytes:
                    raise self._too_large(f"has {int(value):,} bytes")

    def _too_large(self, how: str) -> Refused:
        most = self._limits.body_bytes
        return Refused(
            "body-too-large",
            f"the body {how}, and at most {most:,} bytes are taken.",
            "Send fewer rows at once, or start the server with a greater --max-body-mb.",
        )


async def _refuse(refusal: Refused, receive: Receive | None, send: Send, *, seconds: float) -> None:
    """Answer a request, then throw the rest of its body away and close the connection.

    Args:
        refusal: The answer.
        receive: Receives the rest of the body; None if there is none.
        send: Sends the answer.
        seconds: How long the rest can take.
    """
    content = to_json(refusal.content()).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(content)),
        "connection": "close",
        **refusal.headers,
    }
    start: dict[str, Any] = {"type": "http.response.start", "status": refusal.status}
    await send({**start, "headers": [(name.encode(), value.encode()) for name, value in headers.items()]})
    await send({"type": "http.response.body", "body": content, "more_body": True})
    if receive is not None and refusal.code == "body-too-large":
        await _drain(receive, seconds=seconds)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drain(receive: Receive, *, seconds: float) -> None:
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while size < _DRAINED:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                size += len(message.get("body", b""))
    except TimeoutError:
        return
