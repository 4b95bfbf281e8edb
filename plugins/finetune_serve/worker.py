"""The thread that owns the model: it gathers the rows of all requests into batches."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune.errors import BadData, BadOptions
from finetune.interfaces import Record
from finetune.kit import EncodedRow, Predictor
from finetune_serve.limits import Limits
from finetune_serve.metrics import Metrics
from finetune_serve.refusals import Refused, error_of
from finetune_serve.rows import Asked

logger = logging.getLogger("finetune.serve")

CHARACTERS_PER_TOKEN = 3
"""A low estimate, with which the worker guesses when it has gathered enough rows."""
OURS = frozenset({"tokens_lost", "tokens_read", "highlights", "error"})
"""Keys of an answer that are not those of its record."""
MOST_ROWS = 512
"""Most rows that are gathered at once, so that a late request does not wait for many others."""


@dataclass(eq=False, kw_only=True)
class _Request:
    asked: Asked
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[list[Record]]
    answers: dict[int, Record] = field(default_factory=dict)

    def settle(self, number: int, answer: Record) -> None:
        """Take the answer to a row; the last one finishes the request."""
        self.answers[number] = answer
        if len(self.answers) == len(self.asked.rows):
            _call(self.loop, self.done, [self.answers[each] for each in range(len(self.answers))])


@dataclass(eq=False, kw_only=True)
class _Row:
    request: _Request
    number: int
    encoded: EncodedRow

    def settle(self, answer: Record) -> None:
        self.request.settle(self.number, answer)


def _call(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any) -> None:
    """Give a future its result, in the thread of its loop."""

    def finish() -> None:
        if not future.done():
            future.set_result(result)

    loop.call_soon_threadsafe(finish)


class Worker:
    """Predicts the rows of all requests in one thread.

    While the model predicts, requests wait in a queue. Then the worker takes all that wait, makes their features, sorts
    the rows by length, and predicts as many at once as `Limits.batch_tokens` allows. Sorting changes no answer, because
    a row is padded with tokens that the model does not read.

    Args:
        predictor: The model.
        limits: Sizes of batches, and how many requests can wait.
        metrics: Counts what happens.
    """

    def __init__(self, predictor: Predictor, limits: Limits, metrics: Metrics) -> None:
        self._predictor = predictor
        self._limits = limits
        self._metrics = metrics
        self._queue: queue.SimpleQueue[_Request | Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="finetune-serve", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._predictor.prepare()
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether requests are answered."""
        return self._thread.is_alive() and not self._stopping

    def stop(self) -> None:
        """Predict what waits, then end the thread."""
        self._stopping = True
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def enter(self) -> None:
        """Take a place in the queue; `leave` gives it back.

        Raises:
            Refused: Too many requests wait, or the server stops.
        """
        if self._stopping:
            raise Refused("stopping", "the server is stopping.", "Send it to another server, or later.")
        if self._waiting >= self._limits.requests:
            raise Refused(
                "too-many-requests",
                f"{self._waiting:,} requests wait already.",
                "Send it again later, or start the server with a greater --max-requests.",
            )
        self._waiting += 1
        self._metrics.waiting.set(self._waiting)

    def leave(self) -> None:
        """Give the place in the queue back."""
        self._waiting -= 1
        self._metrics.waiting.set(self._waiting)

    async def answer(self, asked: Asked) -> list[Record]:
        """Return the answer to each row: a record with ``tokens_lost``, or an ``error``.

        Raises:
            Refused: Too many requests wait, or the server stops.
        """
        self.enter()
        try:
            loop = asyncio.get_running_loop()
            request = _Request(asked=asked, loop=loop, done=loop.create_future())
            self._queue.put(request)
            return await request.done
        finally:
            self.leave()

    def call(self, function: Callable[[], None]) -> None:
        """Run a function in the thread of the model, after what waits already."""
        self._queue.put(function)

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            if not isinstance(first, _Request):
                first()
                continue
            requests, after = self._gather(first)
            self._predict(requests)
            if after is None:
                continue
            after()

    def _gather(self, first: _Request) -> tuple[list[_Request], Callable[[], None] | None]:
        """Return the first request and those that wait or soon arrive, and what to do after them."""
        requests = [first]
        until = time.monotonic() + self._limits.wait_seconds
        rows, tokens = len(first.asked.rows), first.asked.characters // CHARACTERS_PER_TOKEN
        while rows < MOST_ROWS and tokens < self._limits.batch_tokens:
            try:
                following = self._queue.get(timeout=max(until - time.monotonic(), 0))
            except queue.Empty:
                break
            if following is None:
                self._queue.put(None)
                break
            if not isinstance(following, _Request):
                return requests, following
            requests.append(following)
            rows += len(following.asked.rows)
            tokens += following.asked.characters // CHARACTERS_PER_TOKEN
        return requests, None

    def _predict(self, requests: Sequence[_Request]) -> None:
        """Answer all rows of some requests."""
        rows = self._encode(requests)
        rows.sort(key=lambda row: row.encoded.tokens)
        for batch in batches(rows, self._limits.batch_tokens):
            started = time.perf_counter()
            try:
                answers = self._answers(batch)
            except Exception:  # noqa: BLE001, a library can raise anything; the others of the batch are answered
                answers = self._one_by_one(batch)
            self._metrics.predicted(
                seconds=time.perf_counter() - started,
                rows=len(batch),
                tokens=sum(row.encoded.tokens for row in batch),
                lost=[row.encoded.tokens_lost for row in batch],
            )
            for row, answer in zip(batch, answers, strict=True):
                row.settle(answer)

    def _encode(self, requests: Sequence[_Request]) -> list[_Row]:
        """Return the good rows of some requests; the others have their answers."""
        every = [(request, number) for request in requests for number in range(len(request.asked.rows))]
        try:
            found = self._predictor.encode([request.asked.rows[number] for request, number in every])
        except Exception:  # noqa: BLE001, see `_predict`
            return [row for request, number in every for row in self._encode_alone(request, number)]
        rows: list[_Row] = []
        for (request, number), each in zip(every, found, strict=True):
            rows += self._good(request, number, each)
        return rows

    def _good(self, request: _Request, number: int, found: EncodedRow | BadData) -> list[_Row]:
        """Return a row if it is good, else answer it with its error."""
        if isinstance(found, EncodedRow):
            return [_Row(request=request, number=number, encoded=found)]
        problem = error_of(found)
        self._metrics.bad_rows.labels(code=problem["code"]).inc()
        request.settle(number, {"error": problem})
        return []

    def _encode_alone(self, request: _Request, number: int) -> list[_Row]:
        """Return a row if it is good; another one has its answer."""
        try:
            (each,) = self._predictor.encode([request.asked.rows[number]])
        except Exception as error:
            logger.exception("a row cannot be encoded")
            request.settle(number, _failed(error))
            return []
        return self._good(request, number, each)

    def _answers(self, batch: Sequence[_Row]) -> list[Record]:
        answers = []
        records = self._predictor.predict([row.encoded for row in batch])
        for row, record in zip(batch, records, strict=True):
            if taken := OURS & record.keys():
                raise BadOptions(f"evaluator: a record has the key {min(taken)!r}, which an answer needs.")
            answer = {**record, "tokens_lost": row.encoded.tokens_lost}
            if row.request.asked.tokens:
                answer["tokens_read"] = row.encoded.tokens
            if row.request.asked.highlights:
                answer["highlights"] = self._predictor.highlights(row.encoded, record)
            answers.append(answer)
        return answers

    def _one_by_one(self, batch: Sequence[_Row]) -> list[Record]:
        """Answer rows that cannot be predicted together; one that cannot be predicted at all gets an error."""
        answers: list[Record] = []
        for row in batch:
            try:
                answers += self._answers([row])
            except Exception as error:
                logger.exception("a row cannot be predicted")
                answers.append(_failed(error))
        return answers


def batches(rows: Sequence[_Row], budget: int) -> list[list[_Row]]:
    """Return rows in batches that have at most so many tokens when all are as long as the longest.

    Args:
        rows: In the order of their lengths.
        budget: Tokens of a batch.
    """
    found: list[list[_Row]] = []
    for row in rows:
        if not found or (len(found[-1]) + 1) * row.encoded.tokens > budget:
            found.append([])
        found[-1].append(row)
    return found


def _failed(error: Exception) -> Record:
    problem = Refused("prediction-failed", f"the model failed on the row: {type(error).__name__}.", "See the log.")
    return problem.content()
