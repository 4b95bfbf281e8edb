"""What Prometheus reads at /metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from finetune_serve.refusals import Refused

_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (64, 256, 1024, 4096, 16_384, 65_536)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a time for each counter, which few read
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter(
            "finetune_requests", "Requests that were answered.", ["path", "method", "status"], **own
        )
        self.seconds = Histogram(
            "finetune_request_seconds", "From the head of a request to the end of its answer.", ["path"],
            buckets=_SECONDS, **own,
        )  # fmt: skip
        self.waiting = Gauge("finetune_requests_waiting", "Requests that wait for the model.", **own)
        self.refused = Counter("finetune_requests_refused", "Requests that were refused, by code.", ["code"], **own)
        self.rows = Counter("finetune_rows", "Rows that were predicted.", **own)
        self.bad_rows = Counter(
            "finetune_rows_bad", "Rows that could not be read, by code of the finding.", ["code"], **own
        )
        self.truncated = Counter("finetune_rows_truncated", "Rows of which the model did not read all.", **own)
        self.tokens = Counter("finetune_tokens", "Tokens that the model read.", **own)
        self.tokens_lost = Counter("finetune_tokens_lost", "Tokens that were cut off.", **own)
        self.generated = Counter("finetune_tokens_generated", "Tokens that the model wrote in chats.", **own)
        self.batch_rows = Histogram("finetune_batch_rows", "Rows of a batch.", buckets=_ROWS, **own)
        self.batch_tokens = Histogram("finetune_batch_tokens", "Tokens of a batch.", buckets=_TOKENS, **own)
        self.model_seconds = Histogram(
            "finetune_model_seconds", "How long the model took for a batch.", buckets=_SECONDS, **own
        )

    def count_refusal(self, refusal: Refused) -> None:
        """Count a request that was refused."""
        self.refused.labels(code=refusal.code).inc()

    def predicted(self, *, seconds: float, rows: int, tokens: int, lost: Sequence[int]) -> None:
        """Count a batch.

        Args:
            seconds: How long the model took.
            rows: How many rows it had.
            tokens: How many tokens they have.
            lost: Tokens of each row that were cut off.
        """
        self.rows.inc(rows)
        self.tokens.inc(tokens)
        self.tokens_lost.inc(sum(lost))
        self.truncated.inc(sum(each > 0 for each in lost))
        self.batch_rows.observe(rows)
        self.batch_tokens.observe(tokens)
        self.model_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return all of them in the text format of Prometheus."""
        return generate_latest(self.registry)
