"""Metrics of the prediction service, in Prometheus' text format.

To add a metric: 1. create it in ``ServerMetrics.__init__``, 2. call it where the event happens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable

from mlops_kit.core.extras import import_from_extra
from mlops_kit.serving.request_fields import RequestProblem

with import_from_extra("serve"):
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


_LATENCY_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_BATCH_ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 5000)
# Other paths are counted together: a scan of many paths must not create many time series.
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
    400: "invalid JSON",
    401: "no token",
    403: "page of another site",
    409: "request id used before",
    413: "too large",
    421: "unknown host",
    422: "invalid rows or labels",
    429: "queue full",
    503: "not ready or not stored",
}
_OTHER_COLUMN = ""
METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ServerMetrics:
    """Counters, gauges and histograms of one server.

    Parameters
    ----------
    get_queue_length : callable
        Returns the number of requests in the queue.
    get_failed_loads : callable
        Returns the number of versions that could not be loaded since the start.
    """

    def __init__(
        self, get_queue_length: Callable[[], float], get_failed_loads: Callable[[], float]
    ) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "mlops_requests",
            "Requests answered",
            ["route", "status"],
            registry=self.registry,
        )
        self.latency_seconds = Histogram(
            "mlops_request_seconds",
            "Time from request to response in seconds",
            ["route"],
            buckets=_LATENCY_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self.scored_rows = Counter("mlops_rows_scored", "Rows scored", registry=self.registry)
        self.batch_rows = Histogram(
            "mlops_batch_rows",
            "Rows scored in one batch",
            buckets=_BATCH_ROWS_BUCKETS,
            registry=self.registry,
        )
        self.refusals = Counter(
            "mlops_refused",
            "Requests refused, by reason",
            ["reason"],
            registry=self.registry,
        )
        self.violations = Counter(
            "mlops_contract_violations",
            "Values that violate the data contract, by column, violation and outcome",
            ["column", "violation", "outcome"],
            registry=self.registry,
        )
        self.labels = Counter(
            "mlops_labels",
            "Labels received, by outcome",
            ["outcome"],
            registry=self.registry,
        )
        self.served_version = Gauge(
            "mlops_model_version",
            "1 for the version in service",
            ["model", "version", "hash"],
            registry=self.registry,
        )
        self.last_prediction_time: float | None = None
        self._add_gauge("mlops_queue_requests", "Requests in the queue", get_queue_length)
        self._add_gauge(
            "mlops_loads_failed",
            "Versions that could not be loaded since the start",
            get_failed_loads,
        )
        self._add_gauge(
            "mlops_last_answer_age_seconds",
            "Seconds since the last prediction; -1 before the first",
            self.get_prediction_age,
        )

    def _add_gauge(self, name: str, description: str, get_value: Callable[[], float]) -> None:
        """Add a gauge whose value is computed when the metrics are read."""
        Gauge(name, description, registry=self.registry).set_function(get_value)

    def get_prediction_age(self) -> float:
        """Return the seconds since the last prediction; -1 before the first."""
        if self.last_prediction_time is None:
            return -1.0
        return time.monotonic() - self.last_prediction_time

    def record_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        route = "other"
        if path in _KNOWN_ROUTES:
            route = path
        self.requests.labels(route, str(status)).inc()
        self.latency_seconds.labels(route).observe(seconds)
        if status in _REFUSAL_REASONS:
            self.refusals.labels(_REFUSAL_REASONS[status]).inc()

    def record_batch(self, row_count: int) -> None:
        """Count the rows of a batch that was scored."""
        self.scored_rows.inc(row_count)
        self.batch_rows.observe(row_count)
        self.last_prediction_time = time.monotonic()

    def record_violations(
        self,
        columns: Container[str],
        problems: Iterable[RequestProblem],
        notes: Iterable[RequestProblem],
    ) -> None:
        """Count values that were rejected, and values that were accepted although they are new.

        Fields other than the columns are counted together, since a client chooses their names.
        """
        for outcome, found in (("rejected", problems), ("accepted", notes)):
            for problem in found:
                column = problem.field if problem.field in columns else _OTHER_COLUMN
                self.violations.labels(column, str(problem.code), outcome).inc()

    def record_labels(self, outcomes: Iterable[str]) -> None:
        """Count labels by what became of them."""
        for outcome in outcomes:
            self.labels.labels(outcome).inc()

    def render_text(self, model: str, version: str, model_hash: str) -> bytes:
        """Return all metrics in Prometheus' text format.

        Parameters
        ----------
        model : str
            Name of the model.
        version, model_hash : str
            The version in service; empty if there is none.
        """
        self.served_version.clear()
        if version:
            self.served_version.labels(model, version, model_hash).set(1)
        return generate_latest(self.registry)
