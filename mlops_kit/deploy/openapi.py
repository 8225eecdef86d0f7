"""The published description of the endpoint; a row is described by the very fields that check it."""

from __future__ import annotations

from typing import Any

from mlops_kit.deploy.schema import NAME
from mlops_kit.deploy.service import Service

ID = {"type": "string", "pattern": NAME.pattern}
TEXT: dict[str, Any] = {"type": "string"}
SAID = {
    400: "The body is no JSON.", 401: "A token is needed.", 403: "A page of another site asked.", 413: "Too many rows, or too long a body.", 421: "The host is not this server's.",
    422: "Something is wrong: all of it, by row and field.", 429: "The queue is full; see Retry-After.", 503: "Nothing serves yet, or the answer could not be filed.",
}  # fmt: skip


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
