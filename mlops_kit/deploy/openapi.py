"""The published description of the endpoint; a row is described by the very fields that check it."""

from __future__ import annotations

from typing import Any

from mlops_kit.deploy import schema
from mlops_kit.deploy.service import NAME, Service

ID = {"type": "string", "pattern": NAME.pattern}
TEXT: dict[str, Any] = {"type": "string"}
PROBLEM = {"type": "object", "properties": {"row": {"type": ["integer", "null"]}, "field": TEXT, "code": TEXT, "got": {}, "expected": TEXT}, "required": ["row", "field", "code", "got", "expected"]}
ERROR = {"type": "object", "properties": {"error": TEXT, "request_id": TEXT, "problems": {"type": "array", "items": PROBLEM}, "more": {"type": "integer"}}, "required": ["error"]}
SAID = {
    400: "The body is no JSON.", 401: "A token is needed.", 403: "A page of another site asked.", 413: "Too many rows, or too long a body.", 421: "The host is not this server's.",
    422: "Something is wrong: all of it, by row and field.", 429: "The queue is full; see Retry-After.", 503: "Nothing serves yet, or the answer could not be filed.",
}  # fmt: skip


def body(described: dict[str, Any], status: int = 200, said: str = "Well.") -> dict[str, Any]:
    """An answer's description."""
    return {str(status): {"description": said, "content": {"application/json": {"schema": described}}}}


def errors(more: dict[int, str] | None = None) -> dict[str, Any]:
    """The descriptions of all refusals."""
    return {k: v for status, said in sorted({**SAID, **(more or {})}.items()) for k, v in body(ERROR, status, said).items()}


def rows(service: Service) -> dict[str, Any]:
    """What ``POST /predict`` takes."""
    served, most = service.follower.served, service.project.config.serve.rows
    fields = {
        "rows": {"type": "array", "items": served.schema.json if served else {"type": "object"}, "minItems": 1, "description": f"At most {most:,} rows"},
        "request_id": {**ID, "type": ["string", "null"], "description": "Asked again under this id, the answer is the first one's."},
    }
    return {"type": "object", "properties": fields, "required": ["rows"], "additionalProperties": False}


def predictions(service: Service) -> dict[str, Any]:
    """What ``POST /predict`` gives."""
    binary = service.project.config.task == "binary"
    one = {
        "prediction_id": TEXT,
        "score": {"type": "number", "description": "The probability of the second class" if binary else "The predicted value"},
        "decision": {"type": ["boolean", "null"], "description": "Whether the row is flagged"},
        "class": {"enum": [*(service.target().allowed or ()), None], "description": "The target's value that is predicted"} if binary else {"type": "null"},
    }
    given = {"type": "array", "items": {"type": "object", "properties": one, "required": list(one)}}
    return {"type": "object", "properties": {"request_id": TEXT, "model": TEXT, "version": TEXT, "predictions": given}, "required": ["request_id", "model", "version", "predictions"]}


def labels(service: Service) -> dict[str, Any]:
    """What ``POST /feedback`` takes."""
    fields = {"prediction_id": ID, "value": service.target().schema(), "known_at": schema.Field("known_at", "moment", zone=service.project.config.timezone).schema()}
    one = {"type": "object", "properties": fields, "required": ["prediction_id", "value"], "additionalProperties": False}
    return {"type": "object", "properties": {"labels": {"type": "array", "items": one, "minItems": 1, "description": f"At most {service.project.config.serve.rows:,} labels"}}, "required": ["labels"], "additionalProperties": False}


def words() -> dict[str, Any]:
    """What ``POST /feedback`` gives."""
    one = {"type": "object", "properties": {"prediction_id": TEXT, "word": {"enum": ["joined", "corrected", "repeated", "outdated", "unknown"]}}, "required": ["prediction_id", "word"]}
    return {"type": "object", "properties": {"labels": {"type": "array", "items": one}, "counts": {"type": "object", "additionalProperties": {"type": "integer"}}}, "required": ["labels", "counts"]}


def paths(service: Service) -> dict[str, Any]:
    """The routes that take a body."""
    key = {"name": "Idempotency-Key", "in": "header", "required": False, "schema": ID, "description": "As request_id, where the body has none"}
    more = {409: "The id was used for other rows.", 500: "The version cannot score these rows."}

    def post(name: str, asked: dict[str, Any], example: dict[str, Any], given: dict[str, Any], refusals: dict[str, Any], **rest: Any) -> dict[str, Any]:
        content = {"application/json": {"schema": asked, "example": example}}
        return {"post": {"summary": name, "operationId": name.split()[0].lower(), "requestBody": {"required": True, "content": content}, "responses": {**body(given), **refusals}, **rest}}

    served = service.follower.served
    row = {n: f.example for n, f in served.schema.fields.items() if n not in service.project.config.id} if served else {}
    label = {"prediction_id": "an-id-that-predict-gave", "value": service.target().example}

    return {
        "/predict": post("Predict rows; each answer is in the log before it leaves", rows(service), {"rows": [row]}, predictions(service), errors(more), parameters=[key]),
        "/feedback": post("Feedback: what came true of predictions", labels(service), {"labels": [label]}, words(), errors()),
    }


def published(service: Service, generated: dict[str, Any], token: bool) -> dict[str, Any]:
    """The whole description: what FastAPI knows of, the routes that take a body, how to ask."""
    for item in generated["paths"].values():
        item["get"]["responses"] |= {k: v for k, v in errors().items() if k in ("401", "421", "503")}
    made = {**generated, "paths": {**paths(service), **generated["paths"]}}
    if token:
        made |= {"components": {**generated.get("components", {}), "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}, "security": [{"token": []}]}
    return made
