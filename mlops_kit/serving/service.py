"""The prediction service behind the routes: requests, feedback, readiness, metrics.

Every method that is called from the event loop returns at once, or is given a thread.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from mlops_kit.core.lazy import pd
from mlops_kit.data import labels, target
from mlops_kit.data.columns import ColumnKind
from mlops_kit.data.contract_rules import ViolationCode
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.loader import Project
from mlops_kit.serving import payloads
from mlops_kit.serving.batcher import Batcher
from mlops_kit.serving.champion_follower import (
    PROBLEM_WITHOUT_DETAILS,
    ChampionFollower,
    ServedVersion,
)
from mlops_kit.serving.request_fields import (
    ID_KIND,
    RequestField,
    create_problem,
)
from mlops_kit.serving.request_schema import RequestSchema, parse_request_timestamps
from mlops_kit.serving.requests import JsonObject, PredictionRequest, RequestRefusedError
from mlops_kit.serving.storage_check import MAX_LOCK_WAIT_SECONDS, StorageCheck
from mlops_kit.serving.telemetry import ServerMetrics

_logger = logging.getLogger(__name__)

_CLOCK_TOLERANCE = timedelta(minutes=1)  # by which the clocks of client and server may differ


class PredictionService:
    """The parts of a server: follower, batcher, feedback thread and metrics.

    Parameters
    ----------
    project : Project
        The project that serves.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.is_closing = False
        self.follower = ChampionFollower(project)
        self.telemetry = ServerMetrics(
            get_queue_length=lambda: len(self.batcher.queue),
            get_failed_loads=lambda: self.follower.failed_loads,
        )
        self.storage = StorageCheck(project)
        self.batcher = Batcher(
            project, self.storage, self.follower.get_served, self.telemetry.record_batch
        )
        self.feedback_executor = ThreadPoolExecutor(1, "feedback")
        self.feedback_slots = threading.BoundedSemaphore(project.config.serve.max_waiting_requests)

    def start(self) -> None:
        """Start following the champion and scoring."""
        self.storage.start()
        self.follower.start()
        self.batcher.thread.start()

    def close(self) -> None:
        """Answer the requests in the queue, store the feedback in the queue, and stop."""
        self.is_closing = True
        self.follower.close()
        self.batcher.close()
        self.feedback_executor.shutdown()
        self.storage.close()

    def parse_prediction_request(
        self, body: bytes, idempotency_key: str | None
    ) -> PredictionRequest:
        """Parse and validate a request for predictions.

        Raises
        ------
        RequestRefusedError
            If no version is in service, or with all problems of the request.
        """
        served = self.get_served_version()
        max_rows = self.project.config.serve.max_rows
        payload = payloads.parse_payload(body, "rows", frozenset({"request_id"}), max_rows)
        client_id = payloads.resolve_request_id(payload, idempotency_key)
        rows = payload["rows"]
        problems, notes = served.schema.check_rows(rows)
        self.telemetry.record_violations(served.schema.fields, problems, notes)
        payloads.refuse_invalid_items(problems, "row")
        request_id = client_id or uuid.uuid4().hex
        return PredictionRequest(
            self.project, rows, request_id, may_be_repeat=bool(client_id), notes=notes
        )

    def get_served_version(self) -> ServedVersion:
        """Return the version in service.

        Raises
        ------
        RequestRefusedError
            If there is none.
        """
        served = self.follower.served
        if served is None:
            reason = self.follower.explain_wait()
            raise RequestRefusedError(503, f"no version is in service yet: {reason}")
        return served

    def submit_feedback(self, body: bytes) -> Future[JsonObject]:
        """Hand a request with labels to the feedback thread and return the future response.

        Raises
        ------
        RequestRefusedError
            If too many requests with labels are waiting, or labels cannot be stored.
        """
        storage_problem = self.storage.problem
        if storage_problem:
            raise RequestRefusedError(503, f"the labels were not stored ({storage_problem}); retry")
        if not self.feedback_slots.acquire(blocking=False):
            raise RequestRefusedError(429, "too many labels are waiting; retry in a second")
        future = self.feedback_executor.submit(self.store_feedback, body)
        future.add_done_callback(lambda _: self.feedback_slots.release())
        return future

    def store_feedback(self, body: bytes) -> JsonObject:
        """Store the labels of a request in one transaction and say what became of each.

        Raises
        ------
        RequestRefusedError
            With all problems of the request, or if the database does not store the labels.
        """
        received_at = datetime.now(UTC)
        max_rows = self.project.config.serve.max_rows
        items = payloads.parse_payload(body, "labels", frozenset(), max_rows)["labels"]
        payloads.refuse_invalid_items(self.build_label_schema().find_problems(items), "label")
        known_at = self._parse_label_times(items, received_at)
        messages = []
        for item, timestamp in zip(items, known_at, strict=True):
            message = labels.LabelMessage(
                item["prediction_id"], item["value"], format_timestamp(timestamp)
            )
            messages.append(message)
        try:
            self.storage.require_database()
            outcomes = labels.record_feedback(
                self.project, messages, format_timestamp(received_at), MAX_LOCK_WAIT_SECONDS
            )
            self.storage.require_database()
        except Exception as error:  # anything the database raises: the transaction stored nothing
            _logger.exception("%d labels were not stored", len(messages))
            self.storage.report_failure(error)
            raise RequestRefusedError(
                503, f"the labels were not stored ({type(error).__name__}); retry"
            ) from error
        self.telemetry.record_labels(outcomes)
        stored = [
            {"prediction_id": message.target_id, "outcome": outcome}
            for message, outcome in zip(messages, outcomes, strict=True)
        ]
        counts = Counter(map(str, outcomes))  # orjson accepts no enumeration as a key
        return {"labels": stored, "counts": dict(counts)}

    def _parse_label_times(self, items: list[JsonObject], received_at: datetime) -> pd.Series:
        """Return when each label became known: as given, else when the request was received.

        Raises
        ------
        RequestRefusedError
            If a label is from the future.
        """
        texts = [item.get("known_at") for item in items]
        known_at = parse_request_timestamps(texts, self.project.config.timezone)
        future_labels = known_at.index[known_at > received_at + _CLOCK_TOLERANCE]
        problems = [
            create_problem(
                int(position),
                "known_at",
                ViolationCode.RANGE,
                texts[position],
                "a timestamp that is not in the future",
            )
            for position in future_labels
        ]
        payloads.refuse_invalid_items(problems, "label")
        return known_at.fillna(received_at)

    def build_label_schema(self) -> RequestSchema:
        """Return the schema of a label."""
        encoder = target.TargetEncoder(self.project)
        timezone = self.project.config.timezone
        if encoder.task == "regression":
            value = RequestField("value", ColumnKind.NUMBER, required=True)
        else:
            classes = tuple(encoder.classes)
            value = RequestField("value", encoder.kind, required=True, allowed=classes)
        prediction_id = RequestField("prediction_id", ID_KIND, required=True)
        known_at = RequestField("known_at", ColumnKind.TIMESTAMP, timezone=timezone)
        return RequestSchema([prediction_id, value, known_at], None, timezone)

    def describe_model(self) -> JsonObject:
        """Return the version in service: approval, training data, performance, schema.

        Raises
        ------
        RequestRefusedError
            If no version is in service.
        """
        served = self.get_served_version()
        promotion = served.promotion
        facts = served.facts
        return {
            "model": promotion.model,
            "version": promotion.version,
            "hash": promotion.model_hash,
            "approved_by": promotion.actor,
            "approved_at": promotion.promoted_at,
            "reason": promotion.reason,
            "previous_version": promotion.previous_version,
            "run": facts.run,
            "trained_until": facts.as_of,
            "author": facts.author,
            "reference_performance": served.reference_performance,
            "features": facts.features,
            "threshold": facts.threshold,
            "classes": list(facts.classes),
            "positive_class": facts.classes[-1] if self._is_binary else None,
            "serving_since": served.serving_since,
            "history_until": self.get_history_end(),
            "schema": served.schema.json_schema,
        }

    @property
    def _is_binary(self) -> bool:
        return self.project.config.task == "binary"

    def get_history_end(self) -> str | None:
        """Return the newest event time of the source; None if there is none."""
        history = self.follower.history
        time_column = self.project.config.time
        if history is None or time_column is None:
            return None
        return format_timestamp(history[time_column].max())

    def check_readiness(self, with_details: bool = True) -> JsonObject:
        """Return whether requests are answered, by which version, and what is wrong.

        Parameters
        ----------
        with_details : bool
            Whether to quote errors, which may name files and servers.
        """
        served = self.follower.served
        storage_problem = self.storage.problem
        readiness: JsonObject = {
            "ready": served is not None and not storage_problem and not self.is_closing,
            "model": self.project.config.name,
            "version": None,
            "history_until": self.get_history_end(),
        }
        if served is not None:
            readiness["version"] = served.version
        if self.is_closing:
            return {**readiness, "reason": "the server is shutting down"}
        if storage_problem:
            problem = storage_problem if with_details else PROBLEM_WITHOUT_DETAILS
            return {**readiness, "reason": f"predictions cannot be stored: {problem}"}
        if served is None:
            readiness["reason"] = self.follower.explain_wait(with_details)
        problems = self.follower.problems
        if not with_details:
            problems = dict.fromkeys(problems, PROBLEM_WITHOUT_DETAILS)
        return {**readiness, **problems}

    def render_metrics(self) -> bytes:
        """Return the server's metrics in Prometheus' text format."""
        model = self.project.config.name
        served = self.follower.served
        if served is None:
            return self.telemetry.render_text(model, "", "")
        return self.telemetry.render_text(model, served.version, served.promotion.model_hash)
