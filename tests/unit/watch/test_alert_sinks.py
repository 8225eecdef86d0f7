"""Alerts: one per sink and event, sent in order, kept until they are sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlops_kit.core.errors import KitError
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import AlertRecord
from mlops_kit.project.loader import Project, load_project
from mlops_kit.stages.monitor.incidents import (
    IncidentSeverity,
    IncidentSignal,
    update_incidents,
)
from mlops_kit.watch import alert_sinks
from mlops_kit.watch.alert_sinks import Alert, send_alerts

SETTINGS = "name: t\nsource: t.csv\ntarget: y\ntask: binary\ntime: at\nwatch: {alerts: [file]}\n"
WARNING = IncidentSignal("drift", IncidentSeverity.WARNING, "a has drifted", "By much.")
CRITICAL = WARNING._replace(severity=IncidentSeverity.CRITICAL, sentence="By more.")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "mlops.yaml").write_text(SETTINGS)
    return load_project(tmp_path)


def use_sinks(project: Project, *names: str) -> Project:
    settings = SETTINGS.replace("[file]", f"[{', '.join(names)}]")
    (project.root / "mlops.yaml").write_text(settings)
    return load_project(project.root)


def observe(project: Project, timestamp: str, *signals: IncidentSignal) -> None:
    """Update the incidents with what a window shows."""
    with open_transaction(project) as transaction:
        update_incidents(
            transaction, project.config, {"drift"}, list(signals), timestamp, "no longer observed"
        )


def read_alerts_file(project: Project) -> list[tuple[str, str, str]]:
    path = project.root / "reports" / "alerts.jsonl"
    if not path.exists():
        return []
    alerts = [json.loads(line) for line in path.read_text().splitlines()]
    return [(alert["event"], alert["severity"], alert["sentence"]) for alert in alerts]


def test_each_event_of_an_incident_is_sent_once(project: Project) -> None:
    for timestamp, signals in (
        ("1", [WARNING]),
        ("2", [WARNING]),
        ("3", [CRITICAL]),
        ("4", [CRITICAL]),
        ("5", []),
    ):
        observe(project, timestamp, *signals)
        assert send_alerts(project) == []
    expected = [
        ("opened", "watch", "By much."),
        ("worsened", "act", "By more."),
        ("closed", "act", "no longer observed"),
    ]
    assert read_alerts_file(project) == expected
    assert send_alerts(project) == []
    assert read_alerts_file(project) == expected


def test_no_alert_is_stored_without_a_sink(project: Project) -> None:
    silent = use_sinks(project)
    observe(silent, "1", WARNING)
    assert query_records(silent, sa.select(AlertRecord)) == []


@pytest.fixture
def pager() -> Iterator[list[Alert]]:
    """What a sink got that fails until ``working`` is registered in its place."""
    received: list[Alert] = []

    @alert_sinks.register_alert_sink("pager")
    def fail(alert: Alert) -> None:
        raise ConnectionError("no <route> to host")

    yield received
    del alert_sinks.ALERT_SINKS["pager"]


def test_alert_waits_until_its_sink_works_and_others_are_not_affected(
    project: Project, pager: list[Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_kit.project.config.root.ALERT_SINK_NAMES", ("file", "pager"))
    paged = use_sinks(project, "pager", "file")
    observe(paged, "1", WARNING)
    observe(paged, "2")
    (line,) = send_alerts(paged)
    assert line == (
        "the alert sink 'pager' failed: ConnectionError: no <route> to host; 2 not sent, the next "
        "pass tries again"
    )
    assert [event for event, _, _ in read_alerts_file(paged)] == ["opened", "closed"]
    records = query_records(paged, sa.select(AlertRecord).order_by(AlertRecord.id))
    first = records[0]
    assert (first.sink, first.sent_at, first.attempts) == ("pager", None, 1)
    assert first.error == "ConnectionError: no <route> to host"
    alert_sinks.ALERT_SINKS["pager"] = pager.append
    assert send_alerts(paged) == []
    assert [(alert.event, alert.title, alert.time) for alert in pager] == [
        ("opened", "a has drifted", "1"),
        ("closed", "a has drifted", "2"),
    ]
    assert len({alert.number for alert in pager}) == 2
    assert len(read_alerts_file(paged)) == 2


def test_sink_that_is_no_longer_named_does_not_block(
    project: Project, pager: list[Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mlops_kit.project.config.root.ALERT_SINK_NAMES", ("file", "pager"))
        observe(use_sinks(project, "pager"), "1", WARNING)
    assert send_alerts(use_sinks(project, "file")) == []
    assert pager == []


def test_unknown_sink_is_refused_when_the_project_is_loaded(project: Project) -> None:
    with pytest.raises(KitError, match=r"watch.alerts: 'fil' is not known; expected 'file'"):
        use_sinks(project, "fil")


@pytest.mark.parametrize(
    ("failure", "message"),
    [(SystemExit("bye"), "SystemExit: bye"), (None, "no answer within 0.01 seconds")],
)
def test_sink_that_exits_or_hangs_holds_nothing_up(
    failure: BaseException | None,
    message: str,
    project: Project,
    pager: list[Alert],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    never = threading.Event()

    def fail(_alert: Alert) -> None:
        if failure is not None:
            raise failure
        never.wait()

    alert_sinks.ALERT_SINKS["pager"] = fail
    monkeypatch.setattr("mlops_kit.project.config.root.ALERT_SINK_NAMES", ("file", "pager"))
    if failure is None:
        monkeypatch.setattr(alert_sinks, "SINK_TIMEOUT_SECONDS", 0.01)
    paged = use_sinks(project, "pager")
    observe(paged, "1", WARNING)
    (line,) = send_alerts(paged)
    assert message in line
    never.set()
