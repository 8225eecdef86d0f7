"""The metrics of the watch are those of its database, and are served on this machine only."""

from __future__ import annotations

import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from mlops_kit.db.engine import open_transaction
from mlops_kit.project.loader import load_project
from mlops_kit.stages.monitor.incidents import IncidentSeverity, IncidentSignal
from mlops_kit.watch.alert_delivery import send_alerts
from mlops_kit.watch.alert_queue import update_incidents
from mlops_kit.watch.lease import hold_lease
from mlops_kit.watch.telemetry import start_metrics_server

SETTINGS = """\
name: t
source: t.csv
target: y
task: binary
time: at
alerts: {sinks: [file]}
"""


def test_metrics_are_read_from_the_database(tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text(SETTINGS)
    project = load_project(tmp_path)
    server, address = start_metrics_server(project, 0)

    def read() -> list[str]:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.read().decode().splitlines()

    try:
        assert 'mlops_watch_alerts{state="sent"} 0.0' in read()
        signal = IncidentSignal("gap", IncidentSeverity.CRITICAL, "Concept drift", "It fell.")
        as_of = datetime(2024, 3, 4, tzinfo=UTC)
        with hold_lease(project) as lease:
            with open_transaction(project) as transaction:
                update_incidents(transaction, project.config, set(), [signal], as_of, "")
            assert 'mlops_watch_alerts{state="waiting"} 1.0' in read()
            send_alerts(project, as_of)
            lease.note_pass("OSError: full")
        lines = read()
    finally:
        server.shutdown()
        server.server_close()
    assert address.startswith("http://127.0.0.1:")
    assert 'mlops_watch_alerts{state="sent"} 1.0' in lines
    assert 'mlops_watch_open_incidents{severity="critical"} 1.0' in lines
    assert 'mlops_watch_alerts{state="failed"} 0.0' in lines
    assert "mlops_watch_last_pass_failed 1.0" in lines
    (seen,) = [line for line in lines if line.startswith("mlops_watch_last_seen_timestamp_sec")]
    assert abs(float(seen.split()[1]) - datetime.now(UTC).timestamp()) < 60
