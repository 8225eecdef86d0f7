"""The endpoint: predictions and labels by REST, what serves, whether it is well, and its documentation.

The two routes that take rows are lean: JSON is read by orjson and checked by a validator compiled once
a version; the schema that is published comes from the same fields. Nothing blocks the event loop: the
scorer, the filing of labels and all loading have threads of their own.

To add a route: a function in ``routes``; one that takes a body also stands in ``openapi.paths``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Scope

from mlops_kit.config import Project
from mlops_kit.deploy import access, openapi
from mlops_kit.deploy.meters import TYPE
from mlops_kit.deploy.scorer import Refusal
from mlops_kit.deploy.service import Service

BYTES = 32 * 2**20  # of a body
BRIEF = 2**16  # a body up to here is read at once; a longer one would hold up the others
Handler = Callable[[Request], Awaitable[Response]]


def build(project: Project) -> FastAPI:
    """The application of a project; it begins to follow the champion when it is started.

    Raises
    ------
    KitError
        If it would be open to others without a token.
    """
    expected = access.secret(project.config.serve)
    service = Service(project)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await run_in_threadpool(service.close)

    app = FastAPIOffline(redoc_url=None, title=project.config.name, version="1", lifespan=life, swagger_ui_parameters={"validatorUrl": None})
    app.state.service = service
    routes(app, service)
    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, plain)
    app.add_middleware(access.Access, expected=expected, host=project.config.serve.host)
    app.add_middleware(Counted, service=service)
    generated = app.openapi
    app.openapi = lambda: openapi.published(service, generated(), expected is not None)  # type: ignore[method-assign]
    return app


def routes(app: FastAPI, service: Service) -> None:
    """Lay the routes."""
    app.add_route("/predict", predict(service), methods=["POST"])
    app.add_route("/feedback", feedback(service), methods=["POST"])

    @app.get("/model", summary="The version that serves: who approved it and why, what it was promised, what a row holds")
    async def model() -> Response:
        return answer(service.model())

    @app.get("/health/live", summary="Whether the process is alive")
    async def live() -> Response:
        return answer({"live": True})

    @app.get("/health/ready", summary="Whether it answers, and what does not go well")
    async def ready() -> Response:
        found = service.ready()
        return answer(found, 200 if found["ready"] else 503)

    @app.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.metrics(), media_type=TYPE)


def predict(service: Service) -> Handler:
    """Rows in, predictions out."""

    async def handle(request: Request) -> Response:
        body = await whole(request)
        key = request.headers.get("idempotency-key")
        job = service.job(body, key) if len(body) <= BRIEF else await run_in_threadpool(service.job, body, key)
        return answer(await asyncio.wrap_future(service.scorer.ask(job)))

    return handle


def feedback(service: Service) -> Handler:
    """Labels in, what was made of each out."""

    async def handle(request: Request) -> Response:
        body = await whole(request)
        return answer(await asyncio.wrap_future(service.file(body)))

    return handle


async def whole(request: Request) -> bytes:
    """A request's body, if it is not too long."""
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > BYTES:
            raise Refusal(413, f"the body is longer than {BYTES:,} bytes; ask in parts")
    return bytes(found)


def answer(found: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(found), status, headers, "application/json")


async def refused(request: Request, error: Any) -> Response:
    """A refusal, with when to come back if the queue was full."""
    return answer(error.body, error.status, {"retry-after": "1"} if error.status == 429 else None)


async def plain(request: Request, error: Any) -> Response:
    """What the router refuses, in the same form."""
    return JSONResponse({"error": f"{request.method} {request.url.path}: {error.detail}"}, error.status_code, error.headers)


class Counted:
    """ASGI in front of all: counts requests by route and status, and times them."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
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
            self.service.meters.answered(scope["path"], status[0], time.perf_counter() - begin)
