"""The one thread that scores: what waits is scored together, filed in one transaction, then answered.

There is no timer. An idle scorer starts with what is there, often one request; while it scores and
commits, the next batch gathers. No answer leaves before its rows are in the log, and each answer is one
version's: the model is taken once a batch. A request that is asked again under its id is answered from
the log.
"""

from __future__ import annotations

import logging
import math
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from threadpoolctl import threadpool_limits

from mlops_kit.core.errors import KitError
from mlops_kit.core.lazy import pd
from mlops_kit.data import columns
from mlops_kit.data.target import TargetEncoder
from mlops_kit.db import predictions
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import PredictionRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.loader import Project
from mlops_kit.registry import scoring
from mlops_kit.serving import champion_follower
from mlops_kit.serving.champion_follower import ServedVersion
from mlops_kit.serving.request_schema import create_problem
from mlops_kit.serving.requests import PredictionRequest, RequestRefusedError

_logger = logging.getLogger(__name__)
_ENDPOINT_ORIGIN = "endpoint"
_HashedResponse = tuple[str, dict[str, Any]]  # the hash of what was asked, and what is said to it


class Batcher:
    """The queue and its thread.

    Parameters
    ----------
    source : callable
        Gives what serves now: the version, and the history behind its features; None if nothing does.
    heard : callable
        Hears of each batch: how many requests and rows it had.
    """

    def __init__(
        self,
        project: Project,
        source: Callable[[], tuple[ServedVersion, pd.DataFrame] | None],
        heard: Callable[[int, int], None] = lambda requests, rows: None,
    ) -> None:
        self.project, self.get_served, self.on_batch = project, source, heard
        self.queue: deque[PredictionRequest] = deque()
        self.condition = threading.Condition()
        self.is_closed = False
        self.thread = threading.Thread(target=self.run, name="scorer", daemon=True)

    def submit_request(self, job: PredictionRequest) -> Future[dict[str, Any]]:
        """Put a request into the queue.

        Raises
        ------
        Refusal
            If the queue is full (429), or the server is being stopped (503).
        """
        with self.condition:
            if self.is_closed:
                raise RequestRefusedError(
                    503, "the server is being stopped; ask again", request_id=job.request_id
                )
            if len(self.queue) >= self.project.config.serve.max_waiting_requests:
                raise RequestRefusedError(
                    429,
                    f"{len(self.queue)} requests wait already; ask again in a second",
                    request_id=job.request_id,
                )
            self.queue.append(job)
            self.condition.notify()
        return job.response

    def close(self) -> None:
        """Take no more, answer what waits, end."""
        with self.condition:
            self.is_closed = True
            self.condition.notify()
        self.thread.join()

    def run(self) -> None:
        """The thread's work."""
        with threadpool_limits(1):  # two threads for one row cost more than they bring
            while (jobs := self.take_batch()) is not None:
                for job, found in zip(jobs, self.answer_batch(jobs), strict=True):
                    job.response.set_exception(found) if isinstance(
                        found, Exception
                    ) else job.response.set_result(found)

    def take_batch(self) -> list[PredictionRequest] | None:
        """What is scored together: all that waits, up to ``serve.batch`` rows; None when it is over."""
        with self.condition:
            self.condition.wait_for(lambda: self.queue or self.is_closed)
            if not self.queue:
                return None
            taken, rows = [self.queue.popleft()], 0
            while (
                self.queue
                and (rows := rows + len(taken[-1].rows)) + len(self.queue[0].rows)
                <= self.project.config.serve.max_batch_rows
            ):
                taken.append(self.queue.popleft())
        return [
            job for job in taken if job.response.set_running_or_notify_cancel()
        ]  # whose asker is still there

    def answer_batch(self, jobs: list[PredictionRequest]) -> list[dict[str, Any] | Exception]:
        """Answer a batch."""
        self.on_batch(len(jobs), sum(len(j.rows) for j in jobs))
        try:
            if (present := self.get_served()) is None:
                return [
                    RequestRefusedError(503, "no version serves yet", request_id=j.request_id)
                    for j in jobs
                ]
            found = self.load_logged_responses(jobs)
            new = {
                j.request_id: j for j in reversed(jobs) if j.request_id not in found
            }  # asked twice at once: the first one
            found |= self.score_requests(list(new.values()), *present)
        except Exception:  # the thread outlives whatever a database says, and no answer leaves that is not in the log
            _logger.exception("the log did not take %d requests", len(jobs))
            return [
                RequestRefusedError(
                    503,
                    "the log of predictions did not take the answer, so there is none; ask again with this request_id",
                    request_id=j.request_id,
                )
                for j in jobs
            ]
        return [self.check_payload(j, found[j.request_id]) for j in jobs]

    def check_payload(
        self, job: PredictionRequest, found: _HashedResponse | Exception
    ) -> dict[str, Any] | Exception:
        """The answer to a request, if what its id stands for is what it asks."""
        if isinstance(found, Exception):
            return found
        body, answer = found
        if body != job.payload_hash:
            return RequestRefusedError(
                409,
                f"the request_id {job.request_id!r} was used for other rows; expected an id of its own for each request",
                request_id=job.request_id,
            )
        return answer

    def load_logged_responses(
        self, jobs: list[PredictionRequest]
    ) -> dict[str, _HashedResponse | Exception]:
        """The requests that the log has already: the hash of what they asked, and their answer, nothing where that was of other rows."""
        if not (asked := [j for j in jobs if j.may_be_repeat]):
            return {}
        with open_transaction(self.project) as opened:
            held = predictions.find_predictions(
                opened, self.project.config.name, [i for j in asked for i in j.prediction_ids]
            )
        firsts = {j: held[j.prediction_ids[0]] for j in asked if j.prediction_ids[0] in held}
        return {
            j.request_id: (
                first.request_hash,
                self.build_response(
                    j,
                    first.version,
                    [(held[i].score, held[i].predicted_class) for i in j.prediction_ids],
                )
                if first.request_hash == j.payload_hash
                else {},
            )
            for j, first in firsts.items()
        }

    def score_requests(
        self, jobs: list[PredictionRequest], served: ServedVersion, history: pd.DataFrame
    ) -> dict[str, _HashedResponse | Exception]:
        """Score requests together and file their rows in one transaction; those that cannot be scored do not hold up the others."""
        try:
            made = self.build_log_rows(jobs, served, history) if jobs else []
        except Exception as error:  # whatever a view or a model raises
            if len(jobs) > 1:
                return {
                    k: v
                    for job in jobs
                    for k, v in self.score_requests([job], served, history).items()
                }
            return {jobs[0].request_id: self.attribute_failure(jobs[0], served, history, error)}
        with open_transaction(self.project) as opened:
            filed = predictions.insert_predictions(opened, made)
        if filed < len(made):  # another server of this project was asked the same
            return self.load_logged_responses([replace(j, may_be_repeat=True) for j in jobs])
        rest = iter(made)
        return {
            j.request_id: (
                j.payload_hash,
                self.build_response(
                    j,
                    served.version,
                    [(r.score, r.predicted_class) for r in islice(rest, len(j.rows))],
                ),
            )
            for j in jobs
        }

    def attribute_failure(
        self, job: PredictionRequest, served: ServedVersion, history: pd.DataFrame, error: Exception
    ) -> RequestRefusedError:
        """Whose fault it is that a request cannot be scored: a row's, if the source's newest can, else the server's."""
        known = champion_follower.select_newest_rows(self.project, history, 1)
        if isinstance(error, (MemoryError, OSError)) or self.raises_exception(
            lambda: scoring.score_with_inputs(
                self.project, served.model, served.facts, known, history
            )
        ):
            _logger.exception("a request could not be scored")
            return RequestRefusedError(
                500,
                f"version {served.version} cannot score: {champion_follower.describe_exception(error)}",
                request_id=job.request_id,
            )
        low = bisect_left(
            range(len(job.rows) - 1),
            True,
            key=lambda last: self.raises_exception(
                lambda: self.build_log_rows(
                    [replace(job, rows=job.rows[: last + 1])], served, history
                )
            ),
        )
        why = create_problem(
            low,
            "",
            "not_scored",
            job.rows[low],
            f"a row that model and features can take: {champion_follower.describe_exception(error)}",
        )
        return RequestRefusedError(
            422,
            f"row {low} cannot be scored: {champion_follower.describe_exception(error)}",
            problems=[why],
            request_id=job.request_id,
        )

    @staticmethod
    def raises_exception(work: Callable[[], Any]) -> bool:
        """Whether something fails."""
        with suppress(Exception):  # whatever a view or a model raises
            work()
            return False
        return True

    def build_log_rows(
        self, jobs: list[PredictionRequest], served: ServedVersion, history: pd.DataFrame
    ) -> list[PredictionRecord]:
        """Build the records of the log for some requests, by the same call as the batch."""
        asked = served.schema.to_frame([row for job in jobs for row in job.rows])
        if not self.project.config.id:
            asked.insert(0, columns.ROW_ID, range(len(asked)))
        out, inputs = scoring.score_with_inputs(
            self.project, served.model, served.facts, asked, history
        )
        if not out["score"].abs().lt(math.inf).all():
            raise KitError("the model's answer is no number")
        out["prediction_id"] = [i for job in jobs for i in job.prediction_ids]
        named = out if self.project.config.id else out.drop(columns=columns.ROW_ID)
        made = scoring.build_prediction_records(
            self.project,
            served.facts,
            named,
            inputs,
            _ENDPOINT_ORIGIN,
            format_timestamp(datetime.now(UTC)),
        )
        whose = [job for job in jobs for _ in job.rows]
        for record, job in zip(made, whose, strict=True):
            record.request_id = job.request_id
            record.request_hash = job.payload_hash
        return made

    def build_response(
        self, job: PredictionRequest, version: str, found: list[tuple[float, float | None]]
    ) -> dict[str, Any]:
        """An answer as its asker gets it; ``class`` is the target's value that is predicted."""
        classes = TargetEncoder(self.project).classes
        given = [
            {
                "prediction_id": i,
                "score": s,
                "decision": None if d is None else bool(d),
                "class": None if d is None else classes[int(d)],
            }
            for i, (s, d) in zip(job.prediction_ids, found, strict=True)
        ]
        return {
            "request_id": job.request_id,
            "model": self.project.config.name,
            "version": version,
            "predictions": given,
        }
