"""The paths of published APIs that the task of a model names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response

from finetune.errors import BadData
from finetune.interfaces import Api
from finetune.kit import resolve, to_json
from finetune_serve.limits import Limits
from finetune_serve.refusals import Refused
from finetune_serve.rows import ROWS, measure, parse, rows_of
from finetune_serve.worker import Worker

if TYPE_CHECKING:
    from finetune.api import FineTuned


def add(app: FastAPI, model: FineTuned, worker: Worker, limits: Limits) -> None:
    """Add the paths.

    Args:
        app: The application.
        model: The model.
        worker: Predicts the rows.
        limits: What a request can be.
    """
    name = Path(model.result.directory).name or "model"
    for path, target in model.plan.task.apis.items():
        _add_path(app, path, resolve(target)(model.plan.preprocessor), name, worker, limits)


def _add_path(app: FastAPI, path: str, api: Api, name: str, worker: Worker, limits: Limits) -> None:
    body = {"required": True, "content": {"application/json": {"schema": dict(api.schema)}}}

    async def answer(request: Request) -> Response:
        content = parse(await request.body(), limits)
        measure(content, limits)  # it may be nested too deeply
        try:
            rows = api.rows(content)
        except BadData as error:
            raise Refused("bad-request", str(error), "Correct the body.") from error
        asked = replace(rows_of({ROWS: list(rows)}, limits), tokens=True)
        records = await worker.answer(asked)
        for number, record in enumerate(records):
            if "error" in record:
                return _refused(record["error"], number)
        tokens = sum(record["tokens_read"] for record in records)
        return _json(api.answer(content, records, model=name, tokens=tokens))

    app.add_api_route(
        path,
        answer,
        methods=["POST"],
        openapi_extra={"requestBody": body},
        response_class=Response,
        summary=(type(api).__doc__ or "").strip().partition("\n")[0],
        tags=["model"],
    )


def _refused(problem: dict[str, Any], number: int) -> Response:
    """Return what is wrong with one of the rows that a request asks about."""
    status = 500 if problem["code"] == "prediction-failed" else 422
    return _json({"error": {**problem, "message": f"question {number}: {problem['message']}"}}, status)


def _json(content: Any, status: int = 200) -> Response:
    return Response(to_json(content), status, media_type="application/json")
