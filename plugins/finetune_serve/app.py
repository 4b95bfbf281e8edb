"""The application: its paths, and what each answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import finetune
from finetune.kit import to_json
from finetune_serve import api_paths, chat_paths, info
from finetune_serve.body import ReadBody
from finetune_serve.limits import Limits
from finetune_serve.metrics import Metrics
from finetune_serve.refusals import Refused
from finetune_serve.rows import parse, rows_of
from finetune_serve.worker import Worker
from finetune_serve.writing import can_chat

if TYPE_CHECKING:
    from finetune.api import FineTuned

PATHS = (
    "/",
    "/predict",
    "/health",
    "/info",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/v1/models",
    "/v1/chat/completions",
)
"""What metrics count by its own name, besides the paths of the task."""

_SAFE = {
    "content-security-policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""Headers of pages: they load nothing from anywhere."""


def build(model: FineTuned, limits: Limits) -> FastAPI:
    """Return the application of a model.

    Args:
        model: The model.
        limits: What it takes.
    """
    metrics = Metrics()
    worker = Worker(model.predictor(), limits, metrics)

    @asynccontextmanager
    async def working(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        worker.stop()

    app = FastAPI(
        title=f"finetune: {model.plan.recipe.task}",
        version=finetune.__version__,
        description=model.plan.task.summary,
        docs_url=None,  # FastAPI's own pages load scripts from another host
        redoc_url=None,
        lifespan=working,
    )
    app.state.worker, app.state.metrics = worker, metrics
    app.add_exception_handler(Refused, _refuse)
    _add_predict(app, model, worker, limits)
    chats = can_chat(model)
    if chats:
        chat_paths.add(app, model, worker, limits)
    api_paths.add(app, model, worker, limits)
    _add_facts(app, worker, info.info(model, limits, chats=chats))
    _add_pages(app)
    app.add_middleware(ReadBody, limits=limits, refused=metrics.count_refusal)
    app.add_middleware(Counted, metrics=metrics, paths=(*PATHS, *model.plan.task.apis))
    return app


def application(
    model: str | Path, *, limits: Mapping[str, Any] = {}, answering: Mapping[str, Any] = {}, **opening: Any
) -> FastAPI:
    """Load a model and return its application, for any server of ASGI applications.

    Args:
        model: The run folder, or a model as `finetune.load` takes it.
        limits: Fields of `Limits`.
        answering: Arguments of `FineTuned.with_answering`.
        **opening: Further arguments of `finetune.load`.
    """
    loaded = finetune.load(model, **opening)
    return build(loaded.with_answering(**answering) if answering else loaded, Limits(**limits))


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(content, default=str), status, headers, media_type="application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    request.app.state.metrics.count_refusal(error)
    return _json(error.content(), error.status, error.headers)


class Counted:
    """Counts requests, and measures how long they take.

    Args:
        app: The application.
        metrics: The counters.
        paths: What is counted by its own name.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Collection[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it at its end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            # each path of a client would be a new counter
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.requests.labels(path=path, method=_method(scope), status=str(status)).inc()
            self._metrics.seconds.labels(path=path).observe(time.perf_counter() - started)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"


def _add_predict(app: FastAPI, model: FineTuned, worker: Worker, limits: Limits) -> None:
    row = info.row_schema(model)
    many = {
        "type": "object",
        "properties": {
            "rows": {"type": "array", "items": row, "minItems": 1, "maxItems": limits.rows},
            "highlights": {"type": "boolean", "description": "whether to say which parts of the texts to highlight"},
        },
        "required": ["rows"],
    }
    body = {"required": True, "content": {"application/json": {"schema": {"anyOf": [many, row]}}}}

    @app.post("/predict", openapi_extra={"requestBody": body}, response_class=Response, tags=["model"])
    async def predict(request: Request) -> Response:
        """Predict one row, or several.

        The body is a row, `{"column": value}`, or `{"rows": [{…}, {…}]}`; the answer has the same form:
        `{"prediction": …, "tokens_lost": 0}`, or `{"rows": [{…}, {…}]}`. A row that cannot be read has an `error` with
        a code; the others are predicted. If no row can be read, the status is 422. `tokens_lost` is the number of
        tokens of the row that the model did not read.
        """
        asked = rows_of(parse(await request.body(), limits), limits)
        answers = await worker.answer(asked)
        problems = [answer["error"]["code"] for answer in answers if "error" in answer]
        status = 200
        if len(problems) == len(answers):
            status = 500 if "prediction-failed" in problems else 422
        return _json(answers[0] if asked.is_single else {"rows": answers}, status)


def _add_facts(app: FastAPI, worker: Worker, facts: dict[str, Any]) -> None:
    @app.get("/health", response_class=Response, tags=["server"])
    async def health() -> Response:
        """Say whether requests are answered: status 200, or 503 while the server stops."""
        if worker.is_alive:
            return _json({"status": "ok"})
        return _json({"status": "stopping"}, 503)

    @app.get("/info", response_class=Response, tags=["server"])
    async def about() -> Response:
        """Say what is served: task, columns, labels, fingerprint, limits and versions."""
        return _json(facts)

    @app.get("/metrics", response_class=Response, tags=["server"])
    async def metrics(request: Request) -> Response:
        """Return counters in the text format of Prometheus."""
        return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_pages(app: FastAPI) -> None:
    for path, name in {"/": "index.html", "/docs": "docs.html"}.items():
        text = files("finetune_serve").joinpath(name).read_text(encoding="utf-8")

        def page(text: str = text) -> Response:
            return Response(text, headers=_SAFE, media_type="text/html; charset=utf-8")

        app.add_api_route(path, page, include_in_schema=False, response_class=Response)
