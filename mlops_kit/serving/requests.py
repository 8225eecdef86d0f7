"""Prediction requests, and the error that refuses a request."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from mlops_kit.project.loader import Project
from mlops_kit.registry import scoring

JsonObject = dict[str, Any]


class RequestRefusedError(Exception):
    """A request that gets no result.

    Parameters
    ----------
    status : int
        The HTTP status of the response.
    message : str
        Why the request is refused.
    **details
        More fields of the response's body, such as ``request_id`` or ``problems``.
    """

    def __init__(self, status: int, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body: JsonObject = {"error": message, **details}


@dataclass(eq=False)
class PredictionRequest:
    """A validated request in the queue of the batcher.

    Parameters
    ----------
    project : Project
        The project that serves.
    rows : list of dict
        The rows to score.
    request_id : str
        The client's id, or one that was generated.
    may_be_repeat : bool
        Whether the client gave the id, so that the log may already hold the response.
    notes : list
        What is new in the rows but accepted, for the response.
    response : Future
        Receives the response, or the error.
    """

    project: Project
    rows: list[JsonObject]
    request_id: str
    may_be_repeat: bool
    notes: Sequence[Any] = ()
    response: Future[JsonObject] = field(default_factory=Future)

    @cached_property
    def prediction_ids(self) -> list[str]:
        """Ids of the predictions; a repeated request has the same ones."""
        prefix = f"request {self.request_id}"
        return [
            scoring.compute_prediction_id(self.project, prefix, (position,))
            for position in range(len(self.rows))
        ]

    @cached_property
    def payload_hash(self) -> str:
        """Hash of the rows; it distinguishes a reused id from a repeated request."""
        payload = orjson.dumps(self.rows, option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(payload).hexdigest()
