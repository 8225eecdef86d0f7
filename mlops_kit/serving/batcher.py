"""Queue of prediction requests and the thread that scores them in batches.

There is no timer. An idle batcher starts with what is in the queue, often one request; while it
scores and commits, the next batch gathers. The served version is read once per batch, so that each
response comes from one version.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from threadpoolctl import threadpool_limits

from mlops_kit.core.lazy import pd
from mlops_kit.project.loader import Project
from mlops_kit.serving.champion_follower import ServedVersion
from mlops_kit.serving.request_scorer import RequestResult, RequestScorer
from mlops_kit.serving.requests import JsonObject, PredictionRequest, RequestRefusedError
from mlops_kit.serving.storage_check import StorageCheck, describe_error

_logger = logging.getLogger(__name__)


class Batcher:
    """Collects requests in a bounded queue and scores them together in one thread.

    Parameters
    ----------
    project : Project
        The project that serves.
    storage : StorageCheck
        Knows whether predictions can be stored; while they cannot, requests are refused at once.
    get_served : callable
        Returns the served version and the history behind its features; None if none is in service.
    on_batch : callable
        Called with the number of rows of each batch.
    """

    def __init__(
        self,
        project: Project,
        storage: StorageCheck,
        get_served: Callable[[], tuple[ServedVersion, pd.DataFrame] | None],
        on_batch: Callable[[int], None],
    ) -> None:
        self.project = project
        self.storage = storage
        self.get_served = get_served
        self.on_batch = on_batch
        self.scorer = RequestScorer(project, storage)
        self.queue: deque[PredictionRequest] = deque()
        self.condition = threading.Condition()
        self.is_closed = False
        self.thread = threading.Thread(target=self.run, name="batcher", daemon=True)

    def submit_request(self, request: PredictionRequest) -> Future[JsonObject]:
        """Add a request to the queue and return the future of its response.

        Raises
        ------
        RequestRefusedError
            If the queue is full (429), or predictions cannot be stored or the server is shutting
            down (503).
        """
        storage_problem = self.storage.problem
        if storage_problem:
            message = _describe_lost_response(storage_problem)
            raise RequestRefusedError(503, message, request_id=request.request_id)
        max_waiting = self.project.config.serve.max_waiting_requests
        with self.condition:
            if self.is_closed:
                raise RequestRefusedError(
                    503,
                    "the server is shutting down; retry",
                    request_id=request.request_id,
                )
            if len(self.queue) >= max_waiting:
                raise RequestRefusedError(
                    429,
                    f"the queue is full ({max_waiting} requests); retry in a second",
                    request_id=request.request_id,
                )
            self.queue.append(request)
            self.condition.notify()
        return request.response

    def close(self) -> None:
        """Refuse further requests, answer those in the queue, and end the thread."""
        with self.condition:
            self.is_closed = True
            self.condition.notify()
        self.thread.join()

    def run(self) -> None:
        """Score batches until the batcher is closed and the queue is empty."""
        # Scoring a few rows with several threads costs more than it gains.
        with threadpool_limits(1):
            while True:
                requests = self.take_batch()
                if requests is None:
                    return
                results = self.answer_batch(requests)
                for request, result in zip(requests, results, strict=True):
                    if isinstance(result, RequestRefusedError):
                        request.response.set_exception(result)
                    else:
                        request.response.set_result(result)

    def take_batch(self) -> list[PredictionRequest] | None:
        """Wait for requests and take up to ``serve.max_batch_rows`` rows of them.

        A request with more rows is a batch of its own. Requests whose client has disconnected are
        left out. Returns None once the batcher is closed and the queue is empty.
        """
        max_rows = self.project.config.serve.max_batch_rows
        taken: list[PredictionRequest] = []
        row_count = 0
        with self.condition:
            self.condition.wait_for(lambda: self.queue or self.is_closed)
            if not self.queue:
                return None
            while self.queue:
                next_row_count = row_count + len(self.queue[0].rows)
                if taken and next_row_count > max_rows:
                    break
                taken.append(self.queue.popleft())
                row_count = next_row_count
        return [request for request in taken if request.response.set_running_or_notify_cancel()]

    def answer_batch(self, requests: list[PredictionRequest]) -> list[RequestResult]:
        """Return a response or an error for each request of a batch."""
        storage_problem = self.storage.problem  # since they were put in the queue
        if storage_problem:
            return _refuse_requests(requests, _describe_lost_response(storage_problem))
        self.on_batch(sum(len(request.rows) for request in requests))
        try:
            served = self.get_served()
            if served is None:
                return _refuse_requests(requests, "no version is in service yet")
            version, history = served
            return self.scorer.answer_requests(requests, version, history)
        except Exception as error:
            # The thread survives any database error, and a response that is not in the prediction
            # log is never sent.
            _logger.exception("%d requests were not stored in the prediction log", len(requests))
            self.storage.report_failure(error)
            return _refuse_requests(requests, _describe_lost_response(describe_error(error)))


def _describe_lost_response(problem: str) -> str:
    """Describe why a response was not stored, which a client may try again."""
    return (
        f"the response could not be stored in the prediction log ({problem}); retry with this "
        "request_id"
    )


def _refuse_requests(requests: list[PredictionRequest], message: str) -> list[RequestResult]:
    """Return one error (503) per request."""
    return [
        RequestRefusedError(503, message, request_id=request.request_id) for request in requests
    ]
