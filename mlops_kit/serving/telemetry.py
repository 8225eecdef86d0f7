"""What the endpoint counts, for Prometheus: requests, rows, batches, refusals, how long, how old.

To add a figure: a line in ``Meters``, and the call that moves it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LATENCY_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_BATCH_ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 5000)
_KNOWN_ROUTES = (
    "/predict",
    "/feedback",
    "/model",
    "/metrics",
    "/health/live",
    "/health/ready",
    "/docs",
    "/openapi.json",
)
_REFUSAL_REASONS = {
    400: "no JSON",
    401: "no token",
    403: "another site",
    409: "an id used before",
    413: "too long",
    421: "another host",
    422: "something wrong",
    429: "queue full",
    503: "not ready or not filed",
}
METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ServerMetrics:
    """The figures of one server."""

    def __init__(self, queue: Callable[[], float], failed: Callable[[], float]) -> None:
        self.registry = held = CollectorRegistry()
        self.requests = Counter(
            "mlops_requests", "Requests answered", ["route", "status"], registry=held
        )
        self.latency_seconds = Histogram(
            "mlops_request_seconds",
            "Seconds to an answer",
            ["route"],
            buckets=_LATENCY_BUCKETS_SECONDS,
            registry=held,
        )
        self.rows = Counter("mlops_rows_scored", "Rows scored", registry=held)
        self.batches = Histogram(
            "mlops_batch_rows", "Rows scored together", buckets=_BATCH_ROWS_BUCKETS, registry=held
        )
        self.refusals = Counter("mlops_refused", "Requests refused, by why", ["why"], registry=held)
        self.labels = Counter(
            "mlops_labels", "Labels that came, by what was made of them", ["word"], registry=held
        )
        self.version = Gauge(
            "mlops_model_version",
            "1 for the version that serves",
            ["model", "version", "hash"],
            registry=held,
        )
        Gauge("mlops_queue_requests", "Requests that wait", registry=held).set_function(queue)
        Gauge(
            "mlops_loads_failed",
            "Versions that could not be loaded, since the start",
            registry=held,
        ).set_function(failed)
        Gauge(
            "mlops_last_answer_age_seconds",
            "Seconds since the last prediction; -1 before the first",
            registry=held,
        ).set_function(self.get_prediction_age)
        self.last_prediction_time: float | None = None

    def get_prediction_age(self) -> float:
        """Seconds since the last prediction."""
        return (
            -1.0
            if self.last_prediction_time is None
            else time.monotonic() - self.last_prediction_time
        )

    def record_request(self, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        route = path if path in _KNOWN_ROUTES else "other"
        self.requests.labels(route, str(status)).inc()
        self.latency_seconds.labels(route).observe(seconds)
        if status in _REFUSAL_REASONS:
            self.refusals.labels(_REFUSAL_REASONS[status]).inc()

    def record_batch(self, requests: int, rows: int) -> None:
        """A batch was scored."""
        self.rows.inc(rows)
        self.batches.observe(rows)
        self.last_prediction_time = time.monotonic()

    def render_text(self, model: str, version: str, content: str) -> bytes:
        """All figures, as Prometheus reads them."""
        self.version.clear()
        if version:
            self.version.labels(model, version, content).set(1)
        return generate_latest(self.registry)
