"""What stands behind the routes: reads requests, says in words what is wrong with them, knows how it is.

Everything here is called from the event loop and comes back at once, or is given a thread.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson

from mlops_kit.data import labels, target
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.loader import Project
from mlops_kit.serving import request_schema
from mlops_kit.serving.batcher import Batcher
from mlops_kit.serving.champion_follower import ChampionFollower, ServedVersion
from mlops_kit.serving.request_schema import RequestProblem, create_problem
from mlops_kit.serving.requests import PredictionRequest, RequestRefusedError
from mlops_kit.serving.telemetry import ServerMetrics

_logger = logging.getLogger(__name__)

_MAX_LISTED_PROBLEMS = 1000  # problems that are listed
_CLOCK_TOLERANCE = timedelta(minutes=1)  # that clocks may differ


class PredictionService:
    """The parts of a server of one project."""

    def __init__(self, project: Project) -> None:
        self.project, self.is_closing = project, False
        self.follower = ChampionFollower(project)
        self.telemetry = ServerMetrics(
            lambda: len(self.batcher.queue), lambda: self.follower.failed_loads
        )
        self.batcher = Batcher(project, self.follower.get_served, self.telemetry.record_batch)
        self.feedback_executor = ThreadPoolExecutor(1, "filer")
        self.feedback_slots = threading.BoundedSemaphore(project.config.serve.max_waiting_requests)

    def start(self) -> None:
        """Begin to follow and to score."""
        self.follower.start()
        self.batcher.thread.start()

    def close(self) -> None:
        """Answer what waits, then end."""
        self.is_closing = True
        self.follower.close()
        self.batcher.close()
        self.feedback_executor.shutdown()

    def parse_prediction_request(self, body: bytes, key: str | None) -> PredictionRequest:
        """A request for predictions, checked.

        Raises
        ------
        Refusal
            With all that is wrong with it.
        """
        served, said = (
            self.get_served_version(),
            _parse_payload(body, "rows", {"request_id"}, self.project.config.serve.max_rows),
        )
        request = _resolve_request_id(said.get("request_id"), key)
        _refuse_problems(served.schema.find_problems(said["rows"]), "row")
        return PredictionRequest(
            self.project, said["rows"], request or uuid.uuid4().hex, bool(request)
        )

    def get_served_version(self) -> ServedVersion:
        """The version that serves.

        Raises
        ------
        Refusal
            If none does.
        """
        if self.follower.served is None:
            raise RequestRefusedError(503, f"no version serves yet: {self.follower.explain_wait()}")
        return self.follower.served

    def submit_feedback(self, body: bytes) -> Future[dict[str, Any]]:
        """A request that brings labels, checked, and given to the thread that files them."""
        if not self.feedback_slots.acquire(blocking=False):
            raise RequestRefusedError(
                429, "too many labels wait already; send them again in a second"
            )
        made = self.feedback_executor.submit(self.store_feedback, body)
        made.add_done_callback(lambda _: self.feedback_slots.release())
        return made

    def store_feedback(self, body: bytes) -> dict[str, Any]:
        """File labels in one transaction, if nothing is wrong with any."""
        said, at = (
            _parse_payload(body, "labels", set(), self.project.config.serve.max_rows)["labels"],
            datetime.now(UTC),
        )
        _refuse_problems(self.build_label_schema().find_problems(said), "label")
        known = request_schema.parse_request_timestamps(
            [label.get("known_at") for label in said], self.project.config.timezone
        )
        _refuse_problems(
            [
                create_problem(
                    int(i), "known_at", "range", said[i]["known_at"], "a moment that has come"
                )
                for i in known.index[known > at + _CLOCK_TOLERANCE]
            ],
            "label",
        )
        messages = [
            labels.LabelMessage(label["prediction_id"], label["value"], format_timestamp(k))
            for label, k in zip(said, known.fillna(at), strict=True)
        ]
        try:
            words = labels.record_feedback(self.project, messages, format_timestamp(at))
        except Exception as error:  # whatever the database says, nothing of this request is stored
            _logger.exception("%d labels were not stored", len(messages))
            raise RequestRefusedError(
                503, f"the labels were not stored ({type(error).__name__}); send them again"
            ) from error
        for word in words:
            self.telemetry.labels.labels(word).inc()
        return {
            "labels": [
                {"prediction_id": m.target_id, "word": w}
                for m, w in zip(messages, words, strict=True)
            ],
            "counts": dict(Counter(words)),
        }

    def build_label_schema(self) -> request_schema.RequestSchema:
        """What a label may hold."""
        coder, zone = target.TargetEncoder(self.project), self.project.config.timezone
        value = (
            request_schema.RequestField("value", "number", True)
            if coder.task == "regression"
            else request_schema.RequestField(
                "value", coder.kind, True, allowed=tuple(coder.classes)
            )
        )
        return request_schema.RequestSchema(
            [
                request_schema.RequestField("prediction_id", "name", True),
                value,
                request_schema.RequestField("known_at", "moment", timezone=zone),
            ],
            None,
            zone,
        )

    def describe_model(self) -> dict[str, Any]:
        """The version that serves, as it is told; refused if none does."""
        served = self.get_served_version()
        by, facts = served.promotion, served.facts
        return {
            "model": by.model,
            "version": by.version,
            "hash": by.model_hash,
            "approved_by": by.actor,
            "approved_at": by.promoted_at,
            "why": by.reason,
            "before": by.previous_version,
            "run": facts.run,
            "trained_until": facts.as_of,
            "author": facts.author,
            "promised": served.reference_performance,
            "features": facts.features,
            "threshold": facts.threshold,
            "since": served.serving_since,
            "history_until": self.get_history_end(),
            "schema": served.schema.json_schema,
        }

    def get_history_end(self) -> str | None:
        """The newest moment of the history."""
        history, time = self.follower.history, self.project.config.time
        return None if history is None or time is None else format_timestamp(history[time].max())

    def check_readiness(self) -> dict[str, Any]:
        """Whether it answers, by which version, and what does not go well."""
        served = self.follower.served
        state: dict[str, Any] = {
            "ready": served is not None and not self.is_closing,
            "model": self.project.config.name,
            "version": served.version if served else None,
            "history_until": self.get_history_end(),
        }
        if self.is_closing:
            return {**state, "why": "the server is being stopped"}
        return {
            **state,
            **({} if served else {"why": self.follower.explain_wait()}),
            **self.follower.problems,
        }

    def render_metrics(self) -> bytes:
        """The figures of this server."""
        served = self.follower.served
        return self.telemetry.render_text(
            self.project.config.name,
            served.version if served else "",
            served.promotion.model_hash if served else "",
        )


def _parse_payload(body: bytes, part: str, more: set[str], most: int) -> dict[str, Any]:
    """A request's JSON: an object with a list of things.

    Raises
    ------
    Refusal
        If it is none.
    """
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestRefusedError(400, f"the body is no JSON: {error}") from error
    if not isinstance(said, dict):
        _refuse_problems(
            [create_problem(None, "", "type", said, f'an object {{"{part}": [...]}}')], "body"
        )
    _refuse_problems(
        [
            create_problem(None, k, "unknown_field", v, f"one of {', '.join([part, *more])}")
            for k, v in said.items()
            if k not in {part, *more}
        ],
        "body",
    )
    found = said.get(part)
    if not isinstance(found, list) or not found:
        _refuse_problems(
            [
                create_problem(
                    None,
                    part,
                    "missing" if part not in said else "type",
                    found,
                    "a list with at least one of them",
                )
            ],
            "body",
        )
    if len(found) > most:
        raise RequestRefusedError(
            413, f"{len(found):,} {part} in one request; expected at most {most:,}"
        )
    return cast(dict[str, Any], said)


def _refuse_problems(found: list[RequestProblem], what: str) -> None:
    """Refuse a request in which something is wrong."""
    if found:
        rows = len({p["row"] for p in found})
        said = f"{len(found)} {'things are' if len(found) > 1 else 'thing is'} wrong" + (
            f" in {rows} {what}{'s' if rows > 1 else ''}" if what != "body" else " with the body"
        )
        raise RequestRefusedError(
            422,
            said,
            problems=found[:_MAX_LISTED_PROBLEMS],
            **(
                {"more": len(found) - _MAX_LISTED_PROBLEMS}
                if len(found) > _MAX_LISTED_PROBLEMS
                else {}
            ),
        )


def _resolve_request_id(given: Any, key: str | None) -> str:
    """The id of a request, by its body, else by the header Idempotency-Key; empty if it has none."""
    for value, field in (
        (given, request_schema.RequestField("request_id", "name", True)),
        (key, request_schema.RequestField("Idempotency-Key", "name", True)),
    ):
        if value is not None and (code := field.find_fault(value)):
            _refuse_problems(
                [create_problem(None, field.name, code, value, field.expected)], "body"
            )
    return given or key or ""
