"""The endpoint: predictions and labels by REST, what serves, whether it is well, and its documentation.

The two routes that take rows are lean: JSON is read by orjson and checked by a validator compiled once
a version; the schema that is published comes from the same fields. Nothing blocks the event loop: the
scorer, the filing of labels and all loading have threads of their own.

To add a route: a function in ``routes``; one that takes a body also stands in ``paths``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
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
from mlops_kit.deploy import access
from mlops_kit.deploy.meters import TYPE
from mlops_kit.deploy.schema import NAME
from mlops_kit.deploy.scorer import Refusal
from mlops_kit.deploy.service import Service

BYTES = 32 * 2**20  # of a body
BRIEF = 2**16  # a body up to here is read at once; a longer one would hold up the others

ID = {"type": "string", "pattern": NAME.pattern}
TEXT: dict[str, Any] = {"type": "string"}
SAID = {
    400: "The body is no JSON.", 401: "A token is needed.", 403: "A page of another site asked.", 413: "Too many rows, or too long a body.", 421: "The host is not this server's.",
    422: "Something is wrong: all of it, by row and field.", 429: "The queue is full; see Retry-After.", 503: "Nothing serves yet, or the answer could not be filed.",
}  # fmt: skip


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

    handlers = {Refusal: refused, HTTPException: plain}
    app = FastAPIOffline(redoc_url=None, title=project.config.name, version="1", lifespan=life, swagger_ui_parameters={"validatorUrl": None}, exception_handlers=handlers)
    app.state.service = service
    routes(app, service)
    app.add_middleware(access.Access, expected=expected, host=project.config.serve.host)
    app.add_middleware(Counted, service=service)
    generated = app.openapi
    app.openapi = lambda: published(service, generated(), expected is not None)  # type: ignore[method-assign]
    return app


def routes(app: FastAPI, service: Service) -> None:
    """Lay the routes."""

    async def predict(request: Request) -> Response:
        body, key = await whole(request), request.headers.get("idempotency-key")
        job = service.job(body, key) if len(body) <= BRIEF else await run_in_threadpool(service.job, body, key)
        return answer(await asyncio.wrap_future(service.scorer.ask(job)))

    async def feedback(request: Request) -> Response:
        return answer(await asyncio.wrap_future(service.file(await whole(request))))

    app.add_route("/predict", predict, methods=["POST"])
    app.add_route("/feedback", feedback, methods=["POST"])

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


def thing(**fields: Any) -> dict[str, Any]:
    """The JSON schema of an object that has all of these fields."""
    return {"type": "object", "properties": fields, "required": list(fields)}


def things(items: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The JSON schema of a list."""
    return {"type": "array", "items": items, **more}


PROBLEM = thing(row={"type": ["integer", "null"]}, field=TEXT, code=TEXT, got={}, expected=TEXT)
ERROR = {"type": "object", "properties": {"error": TEXT, "request_id": TEXT, "problems": things(PROBLEM), "more": {"type": "integer"}}, "required": ["error"]}


def body(described: dict[str, Any], status: int = 200, said: str = "Well.") -> dict[str, Any]:
    """An answer's description."""
    return {str(status): {"description": said, "content": {"application/json": {"schema": described}}}}


def errors(more: dict[int, str] | None = None) -> dict[str, Any]:
    """The descriptions of all refusals."""
    return {k: v for status, said in sorted({**SAID, **(more or {})}.items()) for k, v in body(ERROR, status, said).items()}


def asked(service: Service) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``POST /predict`` and ``POST /feedback`` take."""
    served, most = service.follower.served, service.project.config.serve.rows
    rows = things(served.schema.json if served else {"type": "object"}, minItems=1, description=f"At most {most:,} rows")
    request = {**ID, "type": ["string", "null"], "description": "Asked again under this id, the answer is the first one's."}
    labels = thing(labels=things(service.label().json, minItems=1, description=f"At most {most:,} labels"))
    return {"type": "object", "properties": {"rows": rows, "request_id": request}, "required": ["rows"], "additionalProperties": False}, {**labels, "additionalProperties": False}


def given(service: Service) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``POST /predict`` and ``POST /feedback`` give."""
    score, predicted = "The predicted value", dict[str, Any](type="null")
    if service.project.config.task == "binary":
        score = "The probability of the second class"
        predicted = {"enum": [*(service.label().fields["value"].allowed or ()), None], "description": "The target's value that is predicted"}
    flagged = {"type": ["boolean", "null"], "description": "Whether the row is flagged"}
    one = thing(prediction_id=TEXT, score={"type": "number", "description": score}, decision=flagged, **{"class": predicted})
    word = thing(prediction_id=TEXT, word={"enum": ["joined", "corrected", "repeated", "outdated", "unknown"]})
    counts = {"type": "object", "additionalProperties": {"type": "integer"}}
    return thing(request_id=TEXT, model=TEXT, version=TEXT, predictions=things(one)), thing(labels=things(word), counts=counts)


def paths(service: Service) -> dict[str, Any]:
    """The routes that take a body."""
    key = {"name": "Idempotency-Key", "in": "header", "required": False, "schema": ID, "description": "As request_id, where the body has none"}
    more = {409: "The id was used for other rows.", 500: "The version cannot score these rows."}

    def post(name: str, taken: dict[str, Any], example: dict[str, Any], made: dict[str, Any], refusals: dict[str, Any], **rest: Any) -> dict[str, Any]:
        content = {"application/json": {"schema": taken, "example": example}}
        return {"post": {"summary": name, "operationId": name.split()[0].lower(), "requestBody": {"required": True, "content": content}, "responses": {**body(made), **refusals}, **rest}}

    served = service.follower.served
    row = {n: f.example for n, f in served.schema.fields.items() if n not in service.project.config.id} if served else {}
    label = {"prediction_id": "an-id-that-predict-gave", "value": service.label().fields["value"].example}
    (rows, labels), (predictions, words) = asked(service), given(service)
    return {
        "/predict": post("Predict rows; each answer is in the log before it leaves", rows, {"rows": [row]}, predictions, errors(more), parameters=[key]),
        "/feedback": post("Feedback: what came true of predictions", labels, {"labels": [label]}, words, errors()),
    }


def published(service: Service, generated: dict[str, Any], token: bool) -> dict[str, Any]:
    """The whole description: what FastAPI knows of, the routes that take a body, how to ask."""
    for item in generated["paths"].values():
        item["get"]["responses"] |= {k: v for k, v in errors().items() if k in ("401", "421", "503")}
    made = {**generated, "paths": {**paths(service), **generated["paths"]}}
    if token:
        made |= {"components": {**generated.get("components", {}), "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}, "security": [{"token": []}]}
    return made
