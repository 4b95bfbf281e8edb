"""uvicorn, with one process, one model, and an end that answers what it has taken."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from finetune.errors import BadOptions

SECONDS_TO_STOP = 30
"""How long running requests have when the server stops."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, before a model is loaded.

    Raises:
        BadOptions: The address is in use, or is not one of this machine.
    """
    try:
        ((family, kind, protocol, _, address), *_) = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise BadOptions(f"--host {host}: {error.strerror}. Use 127.0.0.1, or 0.0.0.0 for all networks.") from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise BadOptions(f"--port {port} on {host}: {error.strerror}. Choose another with --port.") from error
    return listener


def address_of(listener: socket.socket, host: str) -> str:
    """Return the URL of a socket."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


def protocol(seconds: float) -> type[H11Protocol]:
    """Return uvicorn's protocol with a limit for the head of a request, which uvicorn 0.54 does not have.

    Args:
        seconds: How long a head can take to arrive.
    """

    class PatientProtocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._unwatch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unwatch()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._unwatch()
            elif self._deadline is None:
                self._deadline = self.loop.call_later(seconds, self.transport.close)

        def _unwatch(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return PatientProtocol


@contextmanager
def _quiet_signals() -> Iterator[None]:
    """Let a process end well after SIGTERM and Ctrl-C: uvicorn raises the signal again when it has stopped."""
    before = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def serve(app: Any, listener: socket.socket, *, seconds: float) -> None:
    """Serve an application until a signal comes; then take no more requests, and answer those that run.

    Args:
        app: The application.
        listener: The socket.
        seconds: How long the head of a request can take to arrive.
    """
    config = uvicorn.Config(
        app,
        http=protocol(seconds),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SECONDS_TO_STOP,
    )
    with closing(listener), _quiet_signals():
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
