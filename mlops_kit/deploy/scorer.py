"""The one thread that scores: what waits is scored together, filed in one transaction, then answered.

There is no timer. An idle scorer starts with what is there, often one request; while it scores and
commits, the next batch gathers. No answer leaves before its rows are in the log, and each answer is one
version's: the model is taken once a batch. A request that is asked again under its id is answered from
the log.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from typing import Any

import orjson
from threadpoolctl import threadpool_limits

from mlops_kit import sources
from mlops_kit.config import Project
from mlops_kit.database import session, stamp
from mlops_kit.deploy import batch, follow, predictions
from mlops_kit.deploy.follow import Served
from mlops_kit.deploy.labels import Coder
from mlops_kit.deploy.schema import problem
from mlops_kit.errors import KitError
from mlops_kit.late import pd

log = logging.getLogger(__name__)
ORIGIN = "endpoint"
Answer = tuple[str, dict[str, Any]]  # the hash of what was asked, and what is said to it


class Refusal(Exception):
    """A request that is not answered: its status, and words (and more) that say why."""

    def __init__(self, status: int, error: str, **more: Any) -> None:
        super().__init__(error)
        self.status, self.body = status, {"error": error, **more}


@dataclass(eq=False)
class Job:
    """A request that waits: its valid rows, its id, and whether it may have been asked before.

    ``ids`` are the names of its predictions, the same whenever it is asked again; ``body`` is the hash
    of what it asks.
    """

    project: Project
    rows: list[dict[str, Any]]
    request: str
    named: bool
    answer: Future[dict[str, Any]] = field(default_factory=Future)

    @cached_property
    def ids(self) -> list[str]:
        return [
            batch.prediction_id(self.project, f"request {self.request}", (i,))
            for i in range(len(self.rows))
        ]

    @cached_property
    def body(self) -> str:
        return hashlib.sha256(orjson.dumps(self.rows, option=orjson.OPT_SORT_KEYS)).hexdigest()


class Scorer:
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
        source: Callable[[], tuple[Served, pd.DataFrame] | None],
        heard: Callable[[int, int], None] = lambda requests, rows: None,
    ) -> None:
        self.project, self.source, self.heard = project, source, heard
        self.waiting: deque[Job] = deque()
        self.turn = threading.Condition()
        self.closed = False
        self.thread = threading.Thread(target=self.run, name="scorer", daemon=True)

    def ask(self, job: Job) -> Future[dict[str, Any]]:
        """Put a request into the queue.

        Raises
        ------
        Refusal
            If the queue is full (429), or the server is being stopped (503).
        """
        with self.turn:
            if self.closed:
                raise Refusal(503, "the server is being stopped; ask again", request_id=job.request)
            if len(self.waiting) >= self.project.config.serve.waiting:
                raise Refusal(
                    429,
                    f"{len(self.waiting)} requests wait already; ask again in a second",
                    request_id=job.request,
                )
            self.waiting.append(job)
            self.turn.notify()
        return job.answer

    def close(self) -> None:
        """Take no more, answer what waits, end."""
        with self.turn:
            self.closed = True
            self.turn.notify()
        self.thread.join()

    def run(self) -> None:
        """The thread's work."""
        with threadpool_limits(1):  # two threads for one row cost more than they bring
            while (jobs := self.next()) is not None:
                for job, found in zip(jobs, self.work(jobs), strict=True):
                    job.answer.set_exception(found) if isinstance(
                        found, Exception
                    ) else job.answer.set_result(found)

    def next(self) -> list[Job] | None:
        """What is scored together: all that waits, up to ``serve.batch`` rows; None when it is over."""
        with self.turn:
            self.turn.wait_for(lambda: self.waiting or self.closed)
            if not self.waiting:
                return None
            taken, rows = [self.waiting.popleft()], 0
            while (
                self.waiting
                and (rows := rows + len(taken[-1].rows)) + len(self.waiting[0].rows)
                <= self.project.config.serve.batch
            ):
                taken.append(self.waiting.popleft())
        return [
            job for job in taken if job.answer.set_running_or_notify_cancel()
        ]  # whose asker is still there

    def work(self, jobs: list[Job]) -> list[dict[str, Any] | Exception]:
        """Answer a batch."""
        self.heard(len(jobs), sum(len(j.rows) for j in jobs))
        try:
            if (present := self.source()) is None:
                return [Refusal(503, "no version serves yet", request_id=j.request) for j in jobs]
            found = self.replayed(jobs)
            new = {
                j.request: j for j in reversed(jobs) if j.request not in found
            }  # asked twice at once: the first one
            found |= self.scored(list(new.values()), *present)
        except Exception:  # the thread outlives whatever a database says, and no answer leaves that is not in the log
            log.exception("the log did not take %d requests", len(jobs))
            return [
                Refusal(
                    503,
                    "the log of predictions did not take the answer, so there is none; ask again with this request_id",
                    request_id=j.request,
                )
                for j in jobs
            ]
        return [self.agreed(j, found[j.request]) for j in jobs]

    def agreed(self, job: Job, found: Answer | Exception) -> dict[str, Any] | Exception:
        """The answer to a request, if what its id stands for is what it asks."""
        if isinstance(found, Exception):
            return found
        body, answer = found
        if body != job.body:
            return Refusal(
                409,
                f"the request_id {job.request!r} was used for other rows; expected an id of its own for each request",
                request_id=job.request,
            )
        return answer

    def replayed(self, jobs: list[Job]) -> dict[str, Answer | Exception]:
        """The requests that the log has already: the hash of what they asked, and their answer, nothing where that was of other rows."""
        if not (asked := [j for j in jobs if j.named]):
            return {}
        with session(self.project) as opened:
            held = predictions.known(
                opened, self.project.config.name, [i for j in asked for i in j.ids]
            )
        firsts = {j: held[j.ids[0]] for j in asked if j.ids[0] in held}
        return {
            j.request: (
                first.body,
                self.told_as(j, first.version, [(held[i].score, held[i].decision) for i in j.ids])
                if first.body == j.body
                else {},
            )
            for j, first in firsts.items()
        }

    def scored(
        self, jobs: list[Job], served: Served, history: pd.DataFrame
    ) -> dict[str, Answer | Exception]:
        """Score requests together and file their rows in one transaction; those that cannot be scored do not hold up the others."""
        try:
            made = self.rows(jobs, served, history) if jobs else []
        except Exception as error:  # whatever a view or a model raises
            if len(jobs) > 1:
                return {
                    k: v for job in jobs for k, v in self.scored([job], served, history).items()
                }
            return {jobs[0].request: self.blamed(jobs[0], served, history, error)}
        with session(self.project) as opened:
            filed = predictions.write(opened, made)
        if filed < len(made):  # another server of this project was asked the same
            return self.replayed([replace(j, named=True) for j in jobs])
        rest = iter(made)
        return {
            j.request: (
                j.body,
                self.told_as(
                    j,
                    served.version,
                    [(r["score"], r["decision"]) for r in islice(rest, len(j.rows))],
                ),
            )
            for j in jobs
        }

    def blamed(self, job: Job, served: Served, history: pd.DataFrame, error: Exception) -> Refusal:
        """Whose fault it is that a request cannot be scored: a row's, if the source's newest can, else the server's."""
        known = follow.newest(self.project, history, 1)
        if isinstance(error, (MemoryError, OSError)) or self.fault(
            lambda: batch.answer(self.project, served.model, served.facts, known, history)
        ):
            log.exception("a request could not be scored")
            return Refusal(
                500,
                f"version {served.version} cannot score: {follow.told(error)}",
                request_id=job.request,
            )
        low = bisect_left(
            range(len(job.rows) - 1),
            True,
            key=lambda last: self.fault(
                lambda: self.rows([replace(job, rows=job.rows[: last + 1])], served, history)
            ),
        )
        why = problem(
            low,
            "",
            "not_scored",
            job.rows[low],
            f"a row that model and features can take: {follow.told(error)}",
        )
        return Refusal(
            422,
            f"row {low} cannot be scored: {follow.told(error)}",
            problems=[why],
            request_id=job.request,
        )

    @staticmethod
    def fault(work: Callable[[], Any]) -> bool:
        """Whether something fails."""
        with suppress(Exception):  # whatever a view or a model raises
            work()
            return False
        return True

    def rows(self, jobs: list[Job], served: Served, history: pd.DataFrame) -> list[dict[str, Any]]:
        """The rows of the log for some requests, by the same call as the batch's."""
        asked = served.schema.table([row for job in jobs for row in job.rows])
        if not self.project.config.id:
            asked.insert(0, sources.ROW, range(len(asked)))
        out, inputs = batch.answer(self.project, served.model, served.facts, asked, history)
        if not out["score"].abs().lt(math.inf).all():
            raise KitError("the model's answer is no number")
        out["prediction_id"] = [i for job in jobs for i in job.ids]
        named = out if self.project.config.id else out.drop(columns=sources.ROW)
        made = predictions.listed(
            self.project, served.facts, named, inputs, ORIGIN, stamp(datetime.now(UTC))
        )
        whose = [job for job in jobs for _ in job.rows]
        return [
            {**row, "request": job.request, "body": job.body}
            for row, job in zip(made, whose, strict=True)
        ]

    def told_as(
        self, job: Job, version: str, found: list[tuple[float, float | None]]
    ) -> dict[str, Any]:
        """An answer as its asker gets it; ``class`` is the target's value that is predicted."""
        classes = Coder(self.project).classes
        given = [
            {
                "prediction_id": i,
                "score": s,
                "decision": None if d is None else bool(d),
                "class": None if d is None else classes[int(d)],
            }
            for i, (s, d) in zip(job.ids, found, strict=True)
        ]
        return {
            "request_id": job.request,
            "model": self.project.config.name,
            "version": version,
            "predictions": given,
        }
