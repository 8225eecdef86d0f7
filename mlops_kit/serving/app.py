"""The endpoint: predictions and labels by REST, what serves, whether it is well, and its documentation.

The two routes that take rows are lean: JSON is read by orjson and checked by a validator compiled once
a version; the schema that is published comes from the same fields. Nothing blocks the event loop: the
scorer, the filing of labels and all loading have threads of their own.

To add a route: a function in ``routes``; one that takes a body also stands in ``openapi.yaml``.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import yaml
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi_offline import FastAPIOffline
from jinja2 import Template
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Scope

from mlops_kit.project.loader import Project
from mlops_kit.serving import auth
from mlops_kit.serving.request_schema import ID_PATTERN
from mlops_kit.serving.requests import RequestRefusedError
from mlops_kit.serving.service import PredictionService
from mlops_kit.serving.telemetry import METRICS_CONTENT_TYPE

MAX_BODY_BYTES = 32 * 2**20  # of a body
MAX_INLINE_BODY_BYTES = (
    2**16
)  # a body up to here is read at once; a longer one would hold up the others


def build_app(project: Project) -> FastAPI:
    """The application of a project; it begins to follow the champion when it is started.

    Raises
    ------
    KitError
        If it would be open to others without a token.
    """
    expected = auth.load_token_digest(project.config.serve)
    service = PredictionService(project)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await run_in_threadpool(service.close)

    handlers = {RequestRefusedError: _handle_refusal, HTTPException: _handle_http_error}
    app = FastAPIOffline(
        redoc_url=None,
        title=project.config.name,
        version="1",
        lifespan=life,
        swagger_ui_parameters={"validatorUrl": None},
        exception_handlers=handlers,
    )
    app.state.service = service
    _add_routes(app, service)
    app.add_middleware(auth.AuthMiddleware, expected=expected, host=project.config.serve.host)
    app.add_middleware(_TelemetryMiddleware, service=service)
    generated = app.openapi
    app.openapi = lambda: _build_openapi(service, generated(), expected is not None)  # type: ignore[method-assign]
    return app


def _add_routes(app: FastAPI, service: PredictionService) -> None:
    """Lay the routes."""

    async def predict(request: Request) -> Response:
        body, key = await _read_body(request), request.headers.get("idempotency-key")
        job = (
            service.parse_prediction_request(body, key)
            if len(body) <= MAX_INLINE_BODY_BYTES
            else await run_in_threadpool(service.parse_prediction_request, body, key)
        )
        return _json_response(await asyncio.wrap_future(service.batcher.submit_request(job)))

    async def feedback(request: Request) -> Response:
        return _json_response(
            await asyncio.wrap_future(service.submit_feedback(await _read_body(request)))
        )

    app.add_route("/predict", predict, methods=["POST"])
    app.add_route("/feedback", feedback, methods=["POST"])

    @app.get(
        "/model",
        summary="The version that serves: who approved it and why, what it was promised, what a row holds",
    )
    async def model() -> Response:
        return _json_response(service.describe_model())

    @app.get("/health/live", summary="Whether the process is alive")
    async def live() -> Response:
        return _json_response({"live": True})

    @app.get("/health/ready", summary="Whether it answers, and what does not go well")
    async def ready() -> Response:
        found = service.check_readiness()
        return _json_response(found, 200 if found["ready"] else 503)

    @app.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.render_metrics(), media_type=METRICS_CONTENT_TYPE)


async def _read_body(request: Request) -> bytes:
    """A request's body, if it is not too long."""
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > MAX_BODY_BYTES:
            raise RequestRefusedError(
                413, f"the body is longer than {MAX_BODY_BYTES:,} bytes; ask in parts"
            )
    return bytes(found)


def _json_response(
    found: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(found), status, headers, "application/json")


async def _handle_refusal(request: Request, error: Any) -> Response:
    """A refusal, with when to come back if the queue was full."""
    return _json_response(
        error.body, error.status, {"retry-after": "1"} if error.status == 429 else None
    )


async def _handle_http_error(request: Request, error: Any) -> Response:
    """What the router refuses, in the same form."""
    return JSONResponse(
        {"error": f"{request.method} {request.url.path}: {error.detail}"},
        error.status_code,
        error.headers,
    )


class _TelemetryMiddleware:
    """ASGI in front of all: counts requests by route and status, and times them."""

    def __init__(self, app: ASGIApp, service: PredictionService) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begin, status = time.perf_counter(), [500]

        async def noted(message: Any) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            self.service.telemetry.record_request(
                scope["path"], status[0], time.perf_counter() - begin
            )


def _build_openapi(
    service: PredictionService, generated: dict[str, Any], token: bool
) -> dict[str, Any]:
    """The whole description: what FastAPI knows of, the routes that take a body (``openapi.yaml``), how to ask."""
    served, config = service.follower.served, service.project.config
    example = (
        {n: f.example for n, f in served.schema.fields.items() if n not in config.id}
        if served
        else {}
    )
    told: dict[str, Any] = {
        "row": served.schema.json_schema if served else {"type": "object"},
        "example": example,
        "label": service.build_label_schema(),
        "most": f"{config.serve.max_rows:,}",
        "binary": config.task == "binary",
        "id": ID_PATTERN.pattern,
    }
    told["flow"] = lambda value: yaml.safe_dump([value], default_flow_style=True, width=math.inf)[
        1:-2
    ]  # as YAML writes it within a line
    ours = yaml.safe_load(
        Template(
            Path(__file__).with_name("openapi.yaml").read_text(encoding="utf-8"), trim_blocks=True
        ).render(told)
    )
    for item in generated["paths"].values():
        item["get"]["responses"] |= {
            k: v for k, v in ours["refusals"].items() if k in ("401", "421", "503")
        }
    made = {**generated, "paths": {**ours["paths"], **generated["paths"]}}
    return (
        {
            **made,
            "components": {**generated.get("components", {}), **ours["components"]},
            "security": ours["security"],
        }
        if token
        else made
    )
