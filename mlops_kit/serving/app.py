"""The REST application: predictions, feedback, model, health, metrics and their documentation.

The two routes that take rows or labels are lean: orjson parses the body and a validator checks it
that is compiled once per version; the published schema comes from the same fields. Nothing blocks
the event loop: scoring, feedback and loading have threads of their own.

To add a route: 1. a function in ``_add_routes``, 2. if it takes a body, its entry in
``openapi.yaml``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from mlops_kit.core.extras import import_from_extra
from mlops_kit.project.loader import Project
from mlops_kit.serving import auth, openapi
from mlops_kit.serving.requests import JsonObject, RequestRefusedError
from mlops_kit.serving.service import PredictionService
from mlops_kit.serving.telemetry import METRICS_CONTENT_TYPE, ServerMetrics

with import_from_extra("serve"):
    from fastapi import FastAPI, Request, Response
    from fastapi.concurrency import run_in_threadpool
    from fastapi.responses import JSONResponse, PlainTextResponse
    from fastapi_offline import FastAPIOffline
    from starlette.exceptions import HTTPException
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 32 * 2**20
MAX_BODY_SECONDS = 30  # in which a client has to send a body
_JSON_MEDIA_TYPE = "application/json"
_MAX_QUOTED_CHARACTERS = 100  # of a header in an error message
MAX_INLINE_BODY_BYTES = 2**16  # a longer body is parsed in a thread, so that others do not wait


def build_app(project: Project) -> FastAPI:
    """Build the application of a project; it follows the champion once it is started.

    Raises
    ------
    KitError
        If the address is reachable from other machines and no token is set.
    """
    serve = project.config.serve
    token_digest = auth.load_token_digest(serve)
    service = PredictionService(project)

    @asynccontextmanager
    async def manage_service(_app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await run_in_threadpool(service.close)

    app = FastAPIOffline(
        redoc_url=None,
        title=project.config.name,
        version="1",
        lifespan=manage_service,
        swagger_ui_parameters={"validatorUrl": None},
        exception_handlers={
            RequestRefusedError: _handle_refusal,
            HTTPException: _handle_http_error,
        },
    )
    app.state.service = service
    _add_routes(app, service, token_digest)
    app.add_middleware(auth.AuthMiddleware, token_digest=token_digest, host=serve.host)
    app.add_middleware(_TelemetryMiddleware, telemetry=service.telemetry)
    app.add_middleware(_RootPathMiddleware, root_path=serve.root_path)
    build_generated_document = app.openapi

    def build_document() -> JsonObject:
        has_token = token_digest is not None
        return openapi.build_openapi(service, build_generated_document(), has_token)

    app.openapi = build_document  # type: ignore[method-assign]
    return app


def _add_routes(app: FastAPI, service: PredictionService, token_digest: bytes | None) -> None:
    """Add the routes of the service to the application."""

    async def predict(request: Request) -> Response:
        body = await _read_body(request)
        idempotency_key = request.headers.get("idempotency-key")
        if len(body) <= MAX_INLINE_BODY_BYTES:
            prediction_request = service.parse_prediction_request(body, idempotency_key)
        else:
            prediction_request = await run_in_threadpool(
                service.parse_prediction_request, body, idempotency_key
            )
        future = service.batcher.submit_request(prediction_request)
        return _json_response(await asyncio.wrap_future(future))

    async def feedback(request: Request) -> Response:
        future = service.submit_feedback(await _read_body(request))
        return _json_response(await asyncio.wrap_future(future))

    app.add_route("/predict", predict, methods=["POST"])
    app.add_route("/feedback", feedback, methods=["POST"])

    @app.get(
        "/model",
        summary="The version in service: approval, reference performance, schema of a row",
    )
    async def model() -> Response:
        return _json_response(service.describe_model())

    @app.get("/health/live", summary="Whether the process is running")
    async def live() -> Response:
        return _json_response({"live": True})

    @app.get("/health/ready", summary="Whether requests are answered, and current problems")
    async def ready(request: Request) -> Response:
        authorization = request.headers.get("authorization", "").encode("latin-1")
        has_access = token_digest is None or auth.has_valid_token(authorization, token_digest)
        readiness = service.check_readiness(with_details=has_access)
        return _json_response(readiness, 200 if readiness["ready"] else 503)

    @app.get(
        "/metrics",
        summary="Metrics in Prometheus' text format",
        response_class=PlainTextResponse,
    )
    async def metrics() -> Response:
        return Response(service.render_metrics(), media_type=METRICS_CONTENT_TYPE)


async def _read_body(request: Request) -> bytes:
    """Read the body of a request.

    Raises
    ------
    RequestRefusedError
        If it is not declared as JSON (415), too long (413), or takes too long to arrive (408).
    """
    content_type = request.headers.get("content-type", _JSON_MEDIA_TYPE)
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != _JSON_MEDIA_TYPE:
        raise RequestRefusedError(
            415,
            f"the content type {media_type[:_MAX_QUOTED_CHARACTERS]!r} is not accepted; expected "
            f"{_JSON_MEDIA_TYPE}",
        )
    body = bytearray()
    try:
        async with asyncio.timeout(MAX_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise RequestRefusedError(
                        413,
                        f"the body is longer than {MAX_BODY_BYTES:,} bytes; send several requests",
                    )
    except TimeoutError as error:
        raise RequestRefusedError(
            408, f"the body was not received within {MAX_BODY_SECONDS} seconds"
        ) from error
    return bytes(body)


def _json_response(
    content: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Return a response in JSON."""
    return Response(orjson.dumps(content), status, headers, _JSON_MEDIA_TYPE)


async def _handle_refusal(_request: Request, error: Any) -> Response:
    """Answer a refused request, with the time to retry after if the queue was full."""
    headers = {"retry-after": "1"} if error.status == 429 else None
    return _json_response(error.body, error.status, headers)


async def _handle_http_error(request: Request, error: Any) -> Response:
    """Answer what the router refuses in the same form."""
    message = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse({"error": message}, error.status_code, error.headers)


class _RootPathMiddleware:
    """ASGI middleware that says under which path a proxy offers the application.

    ASGI's ``path`` contains ``root_path``. A proxy may keep the path or remove it; in that case it
    is put back, without which mounted files are not found.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app = app
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.root_path:
            scope = {**scope, "root_path": self.root_path}
            scope["path"] = f"{self.root_path}{auth.get_route_path(scope)}"
        await self.app(scope, receive, send)


class _TelemetryMiddleware:
    """ASGI middleware that counts and times requests by route and status."""

    def __init__(self, app: ASGIApp, telemetry: ServerMetrics) -> None:
        self.app = app
        self.telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 500  # if the application raises before it sends a response

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_note_status)
        finally:
            seconds = time.perf_counter() - start
            self.telemetry.record_request(auth.get_route_path(scope), status, seconds)
