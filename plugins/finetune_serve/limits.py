"""How much the server takes; everything here is checked before a text is tokenized."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, and all requests together, may take."""

    body_bytes: int = 4 << 20
    """Most bytes of a body."""
    characters: int = 100_000
    """Most characters of all texts of a row."""
    rows: int = 1_000
    """Most rows of a request."""
    depth: int = 32
    """How deep lists and objects of a body can be nested."""
    requests: int = 256
    """Most requests that wait for the model; that many more can be on their way to it."""
    read_seconds: float = 10.0
    """How long the head of a request, and its body, can take to arrive."""
    batch_tokens: int = 16_384
    """Most tokens, padding included, that the model gets at once; a single row can have more."""
    wait_seconds: float = 0.002
    """How long, in seconds, the first row of a batch waits for others while the model has nothing to do."""
