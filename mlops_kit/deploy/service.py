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

from mlops_kit.config import Project
from mlops_kit.database import stamp
from mlops_kit.deploy import labels, schema
from mlops_kit.deploy.follow import Follower, Served
from mlops_kit.deploy.meters import Meters
from mlops_kit.deploy.schema import Problem, problem
from mlops_kit.deploy.scorer import Job, Refusal, Scorer

log = logging.getLogger(__name__)

TOLD = 1000  # problems that are listed
AHEAD = timedelta(minutes=1)  # that clocks may differ


class Service:
    """The parts of a server of one project."""

    def __init__(self, project: Project) -> None:
        self.project, self.closing = project, False
        self.follower = Follower(project)
        self.meters = Meters(lambda: len(self.scorer.waiting), lambda: self.follower.failed)
        self.scorer = Scorer(project, self.follower.present, self.meters.scored)
        self.filer = ThreadPoolExecutor(1, "filer")
        self.room = threading.BoundedSemaphore(project.config.serve.waiting)

    def start(self) -> None:
        """Begin to follow and to score."""
        self.follower.start()
        self.scorer.thread.start()

    def close(self) -> None:
        """Answer what waits, then end."""
        self.closing = True
        self.follower.close()
        self.scorer.close()
        self.filer.shutdown()

    def job(self, body: bytes, key: str | None) -> Job:
        """A request for predictions, checked.

        Raises
        ------
        Refusal
            With all that is wrong with it.
        """
        served, said = (
            self.served(),
            read(body, "rows", {"request_id"}, self.project.config.serve.rows),
        )
        request = named(said.get("request_id"), key)
        wrong(served.schema.problems(said["rows"]), "row")
        return Job(self.project, said["rows"], request or uuid.uuid4().hex, bool(request))

    def served(self) -> Served:
        """The version that serves.

        Raises
        ------
        Refusal
            If none does.
        """
        if self.follower.served is None:
            raise Refusal(503, f"no version serves yet: {self.follower.waits()}")
        return self.follower.served

    def file(self, body: bytes) -> Future[dict[str, Any]]:
        """A request that brings labels, checked, and given to the thread that files them."""
        if not self.room.acquire(blocking=False):
            raise Refusal(429, "too many labels wait already; send them again in a second")
        made = self.filer.submit(self.filed, body)
        made.add_done_callback(lambda _: self.room.release())
        return made

    def filed(self, body: bytes) -> dict[str, Any]:
        """File labels in one transaction, if nothing is wrong with any."""
        said, at = (
            read(body, "labels", set(), self.project.config.serve.rows)["labels"],
            datetime.now(UTC),
        )
        wrong(self.label().problems(said), "label")
        known = schema.moments(
            [label.get("known_at") for label in said], self.project.config.timezone
        )
        wrong(
            [
                problem(int(i), "known_at", "range", said[i]["known_at"], "a moment that has come")
                for i in known.index[known > at + AHEAD]
            ],
            "label",
        )
        messages = [
            labels.Said(label["prediction_id"], label["value"], stamp(k))
            for label, k in zip(said, known.fillna(at), strict=True)
        ]
        try:
            words = labels.feedback(self.project, messages, stamp(at))
        except Exception as error:  # whatever the database says, nothing of this request is stored
            log.exception("%d labels were not stored", len(messages))
            raise Refusal(
                503, f"the labels were not stored ({type(error).__name__}); send them again"
            ) from error
        for word in words:
            self.meters.labels.labels(word).inc()
        return {
            "labels": [
                {"prediction_id": m.name, "word": w} for m, w in zip(messages, words, strict=True)
            ],
            "counts": dict(Counter(words)),
        }

    def label(self) -> schema.Schema:
        """What a label may hold."""
        coder, zone = labels.Coder(self.project), self.project.config.timezone
        value = (
            schema.Field("value", "number", True)
            if coder.task == "regression"
            else schema.Field("value", coder.kind, True, allowed=tuple(coder.classes))
        )
        return schema.Schema(
            [
                schema.Field("prediction_id", "name", True),
                value,
                schema.Field("known_at", "moment", zone=zone),
            ],
            None,
            zone,
        )

    def model(self) -> dict[str, Any]:
        """The version that serves, as it is told; refused if none does."""
        served = self.served()
        by, facts = served.promotion, served.facts
        return {
            "model": by.model,
            "version": by.version,
            "hash": by.model_hash,
            "approved_by": by.by,
            "approved_at": by.at,
            "why": by.why,
            "before": by.before,
            "run": facts["run"],
            "trained_until": facts["as_of"],
            "author": facts["author"],
            "promised": served.promised,
            "features": facts["features"],
            "threshold": facts["threshold"],
            "since": served.since,
            "history_until": self.newest(),
            "schema": served.schema.json,
        }

    def newest(self) -> str | None:
        """The newest moment of the history."""
        history, time = self.follower.history, self.project.config.time
        return None if history is None or time is None else stamp(history[time].max())

    def ready(self) -> dict[str, Any]:
        """Whether it answers, by which version, and what does not go well."""
        served = self.follower.served
        state: dict[str, Any] = {
            "ready": served is not None and not self.closing,
            "model": self.project.config.name,
            "version": served.version if served else None,
            "history_until": self.newest(),
        }
        if self.closing:
            return {**state, "why": "the server is being stopped"}
        return {
            **state,
            **({} if served else {"why": self.follower.waits()}),
            **self.follower.troubles,
        }

    def metrics(self) -> bytes:
        """The figures of this server."""
        served = self.follower.served
        return self.meters.text(
            self.project.config.name,
            served.version if served else "",
            served.promotion.model_hash if served else "",
        )


def read(body: bytes, part: str, more: set[str], most: int) -> dict[str, Any]:
    """A request's JSON: an object with a list of things.

    Raises
    ------
    Refusal
        If it is none.
    """
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is no JSON: {error}") from error
    if not isinstance(said, dict):
        wrong([problem(None, "", "type", said, f'an object {{"{part}": [...]}}')], "body")
    wrong(
        [
            problem(None, k, "unknown_field", v, f"one of {', '.join([part, *more])}")
            for k, v in said.items()
            if k not in {part, *more}
        ],
        "body",
    )
    found = said.get(part)
    if not isinstance(found, list) or not found:
        wrong(
            [
                problem(
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
        raise Refusal(413, f"{len(found):,} {part} in one request; expected at most {most:,}")
    return cast(dict[str, Any], said)


def wrong(found: list[Problem], what: str) -> None:
    """Refuse a request in which something is wrong."""
    if found:
        rows = len({p["row"] for p in found})
        said = f"{len(found)} {'things are' if len(found) > 1 else 'thing is'} wrong" + (
            f" in {rows} {what}{'s' if rows > 1 else ''}" if what != "body" else " with the body"
        )
        raise Refusal(
            422,
            said,
            problems=found[:TOLD],
            **({"more": len(found) - TOLD} if len(found) > TOLD else {}),
        )


def named(given: Any, key: str | None) -> str:
    """The id of a request, by its body, else by the header Idempotency-Key; empty if it has none."""
    for value, field in (
        (given, schema.Field("request_id", "name", True)),
        (key, schema.Field("Idempotency-Key", "name", True)),
    ):
        if value is not None and (code := field.check(value)):
            wrong([problem(None, field.name, code, value, field.expected)], "body")
    return given or key or ""
