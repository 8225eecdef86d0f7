"""Metrics of the watch, in Prometheus' text format (``mlops watch --metrics PORT``).

They are read from the database when they are asked for, and so are right after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mlops_kit.core.extras import import_from_extra
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import AlertRecord, IncidentRecord, RetrainingRecord, WindowRecord
from mlops_kit.project.loader import Project
from mlops_kit.stages.monitor.incidents import IncidentSeverity
from mlops_kit.watch.alert_list import AlertState
from mlops_kit.watch.liveness import read_watch_liveness

with import_from_extra("serve"):
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector

_LOOPBACK_ADDRESS = "127.0.0.1"


class WatchCollector(Collector):
    """Reads the metrics of a project's watch from its database."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def collect(self) -> Iterator[Any]:
        """Yield all metrics."""
        yield from self._collect_times()
        yield from self._collect_counts()
        yield self._collect_open_incidents()
        yield self._collect_alerts()

    def _collect_times(self) -> Iterator[Any]:
        liveness = read_watch_liveness(self.project)
        if liveness is None:
            return
        times = {
            "mlops_watch_last_seen_timestamp_seconds": (
                "When the watch was last seen",
                liveness.seen_at.isoformat(),
            ),
            "mlops_watch_last_pass_timestamp_seconds": (
                "When the last pass ended",
                liveness.pass_ended_at,
            ),
            "mlops_watch_watched_until_timestamp_seconds": (
                "Event time up to which rows have been scored",
                liveness.watched_until,
            ),
        }
        for name, (description, time) in times.items():
            if time:
                seconds = datetime.fromisoformat(time).timestamp()
                yield GaugeMetricFamily(name, description, value=seconds)
        yield GaugeMetricFamily(
            "mlops_watch_last_pass_failed",
            "1 if the last pass failed",
            value=float(bool(liveness.pass_error)),
        )

    def _count(self, table: Any, group: Any, *conditions: sa.ColumnElement[bool]) -> dict[str, int]:
        """Count the records of a table by group."""
        statement = (
            sa.select(group, sa.func.count())
            .where(table.model == self.project.config.name, *conditions)
            .group_by(group)
        )
        with open_transaction(self.project) as transaction:
            return {str(key): int(count) for key, count in transaction.execute(statement)}

    def _collect_counts(self) -> Iterator[Any]:
        windows = CounterMetricFamily("mlops_watch_windows", "Monitored windows")
        windows.add_metric([], sum(self._count(WindowRecord, WindowRecord.version).values()))
        yield windows
        decisions = CounterMetricFamily(
            "mlops_watch_retraining_decisions",
            "Retraining decisions by action",
            labels=["action"],
        )
        for action, count in self._count(RetrainingRecord, RetrainingRecord.action).items():
            decisions.add_metric([action], count)
        yield decisions

    def _collect_open_incidents(self) -> Any:
        incidents = GaugeMetricFamily(
            "mlops_watch_open_incidents",
            "Open incidents by severity",
            labels=["severity"],
        )
        is_open = IncidentRecord.closed_at.is_(None)
        counts = self._count(IncidentRecord, IncidentRecord.severity, is_open)
        for severity in IncidentSeverity:
            incidents.add_metric([severity.display_name], counts.get(severity.value, 0))
        return incidents

    def _collect_alerts(self) -> Any:
        alerts = GaugeMetricFamily("mlops_watch_alerts", "Alerts by state", labels=["state"])
        state = sa.case(
            (AlertRecord.withheld.is_not(None), AlertState.WITHHELD.value),
            (AlertRecord.sent_at.is_not(None), AlertState.SENT.value),
            (AlertRecord.error != "", AlertState.FAILED.value),
            else_=AlertState.WAITING.value,
        )
        counts = self._count(AlertRecord, state)
        for name in AlertState:
            alerts.add_metric([name.value], counts.get(name.value, 0))
        return alerts


def start_metrics_server(project: Project, port: int) -> tuple[Any, str]:
    """Serve the metrics on this machine only, in a thread.

    Parameters
    ----------
    port : int
        Port to listen on; 0: any free port.

    Returns
    -------
    server : WSGIServer
        Its ``shutdown`` ends it.
    address : str
        The address of the metrics.
    """
    registry = CollectorRegistry()
    registry.register(WatchCollector(project))
    server, _ = start_http_server(port, addr=_LOOPBACK_ADDRESS, registry=registry)
    return server, f"http://{_LOOPBACK_ADDRESS}:{server.server_port}/metrics"
