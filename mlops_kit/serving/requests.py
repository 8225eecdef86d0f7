"""Requests."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from mlops_kit.project.loader import Project
from mlops_kit.registry import scoring


class RequestRefusedError(Exception):
    """A request that is not answered: its status, and words (and more) that say why."""

    def __init__(self, status: int, error: str, **more: Any) -> None:
        super().__init__(error)
        self.status, self.body = status, {"error": error, **more}


@dataclass(eq=False)
class PredictionRequest:
    """A request that waits: its valid rows, its id, and whether it may have been asked before.

    ``ids`` are the names of its predictions, the same whenever it is asked again; ``body`` is the hash
    of what it asks.
    """

    project: Project
    rows: list[dict[str, Any]]
    request_id: str
    may_be_repeat: bool
    response: Future[dict[str, Any]] = field(default_factory=Future)

    @cached_property
    def prediction_ids(self) -> list[str]:
        return [
            scoring.compute_prediction_id(self.project, f"request {self.request_id}", (i,))
            for i in range(len(self.rows))
        ]

    @cached_property
    def payload_hash(self) -> str:
        return hashlib.sha256(orjson.dumps(self.rows, option=orjson.OPT_SORT_KEYS)).hexdigest()
