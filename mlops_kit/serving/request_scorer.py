"""Scoring of prediction requests: replay from the log, score, store, respond.

No response leaves before its rows are in the prediction log. A request that is repeated under its
id is answered from the log, with the version that answered it the first time.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

import orjson

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.lazy import pd
from mlops_kit.core.tasks import is_finite_score, to_score_array
from mlops_kit.data import columns
from mlops_kit.db import predictions
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import PredictionRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.loader import Project
from mlops_kit.registry import scoring, versions
from mlops_kit.serving.champion_follower import (
    ServedVersion,
    describe_exception,
    select_newest_rows,
)
from mlops_kit.serving.request_fields import ProblemCode, create_problem
from mlops_kit.serving.requests import JsonObject, PredictionRequest, RequestRefusedError
from mlops_kit.serving.storage_check import MAX_LOCK_WAIT_SECONDS, StorageCheck

_logger = logging.getLogger(__name__)
_ENDPOINT_ORIGIN = "endpoint"  # in the prediction log

RequestResult = JsonObject | RequestRefusedError


@dataclass(frozen=True)
class _StoredResponse:
    """A response that is in the prediction log, and the hash of the rows it answers."""

    payload_hash: str
    body: JsonObject


_StoredResult = _StoredResponse | RequestRefusedError


class RequestScorer:
    """Answers requests with a served version.

    Parameters
    ----------
    project : Project
        The project that serves.
    storage : StorageCheck
        Knows whether the database is still the one that was opened.
    """

    def __init__(self, project: Project, storage: StorageCheck) -> None:
        self.project = project
        self.storage = storage
        self._classes_by_version: dict[str, tuple[Any, ...]] = {}

    def answer_requests(
        self, requests: list[PredictionRequest], served: ServedVersion, history: pd.DataFrame
    ) -> list[RequestResult]:
        """Return a response or an error for each request, in their order."""
        self._classes_by_version[served.version] = served.facts.classes
        results = self.load_logged_responses(requests)
        new_requests: dict[str, PredictionRequest] = {}
        for request in requests:
            if request.request_id not in results:
                # Of two requests with the same id in one batch only the first is scored.
                new_requests.setdefault(request.request_id, request)
        results |= self.score_requests(list(new_requests.values()), served, history)
        return [_check_payload(request, results[request.request_id]) for request in requests]

    def load_logged_responses(self, requests: list[PredictionRequest]) -> dict[str, _StoredResult]:
        """Return the responses that the prediction log already holds, by request id."""
        repeatable = [request for request in requests if request.may_be_repeat]
        if not repeatable:
            return {}
        ids = chain.from_iterable(request.prediction_ids for request in repeatable)
        with open_transaction(self.project, MAX_LOCK_WAIT_SECONDS) as session:
            records = predictions.find_predictions(session, self.project.config.name, ids)
        responses: dict[str, _StoredResult] = {}
        for request in repeatable:
            first_record = records.get(request.prediction_ids[0])
            if first_record is None:
                continue
            body: JsonObject = {}  # not sent where the id was used for other rows
            if first_record.request_hash == request.payload_hash:
                logged = [records[prediction_id] for prediction_id in request.prediction_ids]
                body = self.build_response(request, first_record.version, logged)
            responses[request.request_id] = _StoredResponse(first_record.request_hash, body)
        return responses

    def score_requests(
        self, requests: list[PredictionRequest], served: ServedVersion, history: pd.DataFrame
    ) -> dict[str, _StoredResult]:
        """Score requests together and store their rows in one transaction.

        If they cannot be scored together they are scored one by one, so that one invalid request
        does not fail the others.
        """
        if not requests:
            return {}
        try:
            log_rows = self.build_log_rows(requests, served, history)
        except Exception as error:  # anything that a feature view or a model raises
            if len(requests) == 1:
                failure = self.attribute_failure(requests[0], served, history, error)
                return {requests[0].request_id: failure}
            results: dict[str, _StoredResult] = {}
            for request in requests:
                results |= self.score_requests([request], served, history)
            return results
        self.storage.require_database()
        with open_transaction(self.project, MAX_LOCK_WAIT_SECONDS) as session:
            inserted_count = predictions.insert_predictions(session, log_rows)
        self.storage.require_database()  # else the rows are in a file that nobody reads
        if inserted_count < len(log_rows):
            # Another server of this project has answered one of the requests in the meantime.
            return self.load_logged_responses(
                [replace(request, may_be_repeat=True) for request in requests]
            )
        remaining_rows = iter(log_rows)
        responses: dict[str, _StoredResult] = {}
        for request in requests:
            request_rows = islice(remaining_rows, len(request.rows))
            body = self.build_response(request, served.version, request_rows)
            responses[request.request_id] = _StoredResponse(request.payload_hash, body)
        return responses

    def build_log_rows(
        self, requests: list[PredictionRequest], served: ServedVersion, history: pd.DataFrame
    ) -> list[PredictionRecord]:
        """Score requests by the same call as batch scoring and return their log rows."""
        config = self.project.config
        rows = list(chain.from_iterable(request.rows for request in requests))
        frame = served.schema.to_frame(rows)
        if not config.id:
            frame.insert(0, columns.ROW_ID, range(len(frame)))
        scored, inputs = scoring.score_with_inputs(
            self.project, served.model, served.facts, frame, history
        )
        if not is_finite_score(to_score_array(scored["score"])).all():
            raise KitError("the model returned a score that is not a finite number")
        ids = chain.from_iterable(request.prediction_ids for request in requests)
        scored["prediction_id"] = list(ids)
        if not config.id:
            scored = scored.drop(columns=columns.ROW_ID)
        log_rows = scoring.build_prediction_records(
            self.project,
            served.facts,
            scored,
            inputs,
            _ENDPOINT_ORIGIN,
            format_timestamp(datetime.now(UTC)),
        )
        remaining_rows = iter(log_rows)
        for request in requests:
            for row in islice(remaining_rows, len(request.rows)):
                row.request_id = request.request_id
                row.request_hash = request.payload_hash
        return log_rows

    def attribute_failure(
        self,
        request: PredictionRequest,
        served: ServedVersion,
        history: pd.DataFrame,
        error: Exception,
    ) -> RequestRefusedError:
        """Return the error of a request that cannot be scored: the server's or a row's fault.

        It is the server's (500) if the newest row of the source cannot be scored either.
        """
        reason = describe_exception(error)
        newest = select_newest_rows(self.project, history, 1)

        def score_newest_row() -> object:
            return scoring.score_with_inputs(
                self.project, served.model, served.facts, newest, history
            )

        if isinstance(error, MemoryError | OSError) or _raises_exception(score_newest_row):
            _logger.exception("a request could not be scored")
            return RequestRefusedError(
                500,
                f"version {served.version} cannot score: {reason}",
                request_id=request.request_id,
            )
        position = self._find_failing_row(request, served, history)
        problem = create_problem(
            position,
            "",
            ProblemCode.NOT_SCORED,
            request.rows[position],
            f"a row that the features and the model accept: {reason}",
        )
        return RequestRefusedError(
            422,
            f"row {position} cannot be scored: {reason}",
            problems=[problem],
            request_id=request.request_id,
        )

    def _find_failing_row(
        self, request: PredictionRequest, served: ServedVersion, history: pd.DataFrame
    ) -> int:
        """Return the position of the first row that cannot be scored, by bisection."""

        def fails_up_to(position: int) -> bool:
            shortened = replace(request, rows=request.rows[: position + 1])
            return _raises_exception(lambda: self.build_log_rows([shortened], served, history))

        # The request as a whole fails, so that the last row need not be tried.
        return bisect_left(range(len(request.rows) - 1), True, key=fails_up_to)

    def build_response(
        self,
        request: PredictionRequest,
        version: str,
        records: Iterable[PredictionRecord],
    ) -> JsonObject:
        """Return the body of a response.

        Parameters
        ----------
        request : PredictionRequest
            The request.
        version : str
            The version that answered.
        records : iterable of PredictionRecord
            The prediction of each row.
        """
        classes = self._get_classes(version)
        rows: list[JsonObject] = []
        for prediction_id, record in zip(request.prediction_ids, records, strict=True):
            row: JsonObject = {
                "prediction_id": prediction_id,
                "score": record.score,
                "decision": None,
                "class": None,
            }
            if record.predicted_class is not None:
                row["class"] = classes[int(record.predicted_class)] if classes else None
                if record.probabilities is None:
                    row["decision"] = bool(record.predicted_class)
                else:
                    probabilities = orjson.loads(record.probabilities)
                    names = [str(value) for value in classes] or map(str, range(len(probabilities)))
                    row["probabilities"] = dict(zip(names, probabilities, strict=True))
            rows.append(row)
        return {
            "request_id": request.request_id,
            "model": self.project.config.name,
            "version": version,
            "predictions": rows,
            "notes": list(request.notes),
        }

    def _get_classes(self, version: str) -> tuple[Any, ...]:
        """Return the classes of a version in the order of their codes.

        A repeated request is answered as the version did that answered it the first time. Empty if
        that version is not in the registry any more: its logged scores are still returned.
        """
        if version not in self._classes_by_version:
            try:
                recorded = versions.load_version(self.project, version)
            except RunFailedError as error:
                _logger.warning("the classes of version %s are not known: %s", version, error)
                return ()
            self._classes_by_version[version] = recorded.classes
        return self._classes_by_version[version]


def _check_payload(request: PredictionRequest, result: _StoredResult) -> RequestResult:
    """Return the body of a stored response; an error if the id was used for other rows."""
    if isinstance(result, RequestRefusedError):
        return result
    if result.payload_hash == request.payload_hash:
        return result.body
    return RequestRefusedError(
        409,
        f"the request_id {request.request_id!r} was used for other rows; "
        "expected a unique id for each request",
        request_id=request.request_id,
    )


def _raises_exception(function: Callable[[], Any]) -> bool:
    """Return whether a function raises."""
    with suppress(Exception):  # anything that a feature view or a model raises
        function()
        return False
    return True
