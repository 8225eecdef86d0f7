"""What a sink is told of an incident, when, and what a mute, a cooldown and a person change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlops_kit.core.errors import KitError, NotAllowedError, RunFailedError
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import AlertRecord, IncidentRecord
from mlops_kit.project.loader import Project, load_project
from mlops_kit.stages.monitor import incidents
from mlops_kit.stages.monitor.incidents import IncidentSeverity, IncidentSignal
from mlops_kit.watch import alert_queue
from mlops_kit.watch.alert_list import format_alert_overview, read_alert_overview
from mlops_kit.watch.alert_queue import queue_alerts, update_incidents

SETTINGS = "name: t\nsource: t.csv\ntarget: y\ntask: binary\ntime: at\n"
WARNING = IncidentSignal("drift", IncidentSeverity.WARNING, "a has drifted", "By much.")
CRITICAL = WARNING._replace(severity=IncidentSeverity.CRITICAL, sentence="By more.")
START = datetime(2024, 3, 4, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def make_project(folder: Path, alerts: str) -> Project:
    (folder / "mlops.yaml").write_text(f"{SETTINGS}{alerts}\n")
    return load_project(folder)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path, "alerts: {sinks: [file]}")


def observe(project: Project, as_of: datetime, *signals: IncidentSignal) -> None:
    """Update the incidents with what a window shows."""
    with open_transaction(project) as transaction:
        update_incidents(
            transaction, project.config, {"drift"}, list(signals), as_of, "no longer observed"
        )


def list_alerts(project: Project, sink: str = "file") -> list[AlertRecord]:
    statement = sa.select(AlertRecord).where(AlertRecord.sink == sink).order_by(AlertRecord.id)
    return query_records(project, statement)


def list_events(project: Project, sink: str = "file") -> list[tuple[str, int]]:
    """List the events that a sink gets, each with the hours since the start."""
    events = []
    for alert in list_alerts(project, sink):
        if alert.withheld is None:
            due = datetime.fromisoformat(alert.due_at or alert.created_at)
            events.append((alert.event, int((due - START) / HOUR)))
    return events


def test_opening_at_most_two_updates_and_closing(project: Project) -> None:
    for day in range(6):
        observe(project, START + day * DAY, WARNING)
        observe(project, START + day * DAY, WARNING)  # a repeated pass tells nothing twice
    for day in (6, 7, 8):
        observe(project, START + day * DAY, CRITICAL)
    observe(project, START + 9 * DAY)
    observe(project, START + 10 * DAY)
    assert list_events(project) == [
        ("opened", 0),
        ("continued", 24),
        ("worsened", 6 * 24),
        ("closed", 9 * 24),
    ]
    continued = list_alerts(project)[1]
    assert continued.message == "Open since 2024-03-04, not acknowledged. By much."
    assert list_alerts(project)[-1].message == "no longer observed"


def test_critical_incident_continues_twice(project: Project) -> None:
    for day in range(5):
        observe(project, START + day * DAY, CRITICAL)
    assert [event for event, _ in list_events(project)] == ["opened", "continued", "continued"]


def test_incident_that_was_not_observed_again_is_not_continued(project: Project) -> None:
    observe(project, START, WARNING)
    with open_transaction(project) as transaction:
        queue_alerts(transaction, project.config, START + 3 * DAY)
    assert list_events(project) == [("opened", 0)]


def test_acknowledged_incident_is_told_again_only_when_it_is_over(project: Project) -> None:
    observe(project, START, WARNING)
    (incident,) = query_records(project, sa.select(IncidentRecord))
    incidents.acknowledge_incident(project, incident.id, "Ada", "known")
    for day in (1, 2, 3):
        observe(project, START + day * DAY, WARNING)
    observe(project, START + 4 * DAY)
    assert list_events(project) == [("opened", 0), ("closed", 4 * 24)]


def test_signal_that_flickers_is_told_once_per_cooldown(tmp_path: Path) -> None:
    project = make_project(tmp_path, "alerts: {sinks: [file], cooldown: 6h}")
    for hour in range(12):  # on and off by turns
        observe(project, START + hour * HOUR, *([WARNING] if hour % 2 == 0 else []))
    # Closed at 1 h; until 7 h openings wait, and those that are closed earlier are never sent.
    assert list_events(project) == [("opened", 0), ("closed", 1), ("opened", 8), ("closed", 9)]
    withheld = [alert.withheld for alert in list_alerts(project) if alert.withheld]
    assert set(withheld) == {"the incident was closed before the cooldown ended"}


def test_worse_incident_does_not_wait_for_the_cooldown(tmp_path: Path) -> None:
    project = make_project(tmp_path, "alerts: {sinks: [file], cooldown: 30d}")
    observe(project, START, WARNING)
    observe(project, START + HOUR, CRITICAL)
    assert list_events(project) == [("opened", 0), ("worsened", 1)]


def test_sink_for_critical_incidents_gets_no_warning(tmp_path: Path) -> None:
    project = make_project(tmp_path, "alerts: {sinks: {file: {min_severity: critical}}}")
    observe(project, START, WARNING)
    assert list_events(project) == []
    observe(project, START + DAY, CRITICAL)
    observe(project, START + 2 * DAY)
    assert list_events(project) == [("opened", 24), ("closed", 48)]


def test_incident_is_escalated_unless_somebody_acknowledged_it(tmp_path: Path) -> None:
    project = make_project(tmp_path, "alerts: {sinks: {file: {escalate_after: 4h}}}")
    observe(project, START, CRITICAL)
    for hours in (1, 4):
        with open_transaction(project) as transaction:
            queue_alerts(transaction, project.config, START + hours * HOUR)
    assert list_events(project) == [("opened", 4)]
    (escalated,) = query_records(project, sa.select(AlertRecord))
    assert escalated.message == "Open since 2024-03-04, not acknowledged. By more."
    observe(project, START + DAY)
    observe(project, START + 2 * DAY, CRITICAL)
    incident = query_records(project, sa.select(IncidentRecord).order_by(IncidentRecord.id))[-1]
    incidents.acknowledge_incident(project, incident.id, "Ada", "on it")
    with open_transaction(project) as transaction:
        queue_alerts(transaction, project.config, START + 3 * DAY)
    assert list_events(project) == [("opened", 4), ("closed", 24)]


def mute(project: Project, signal: str, start: datetime, end: datetime) -> None:
    """Mute a signal in the past, which a person cannot."""
    from mlops_kit.db.tables import AlertMuteRecord
    from mlops_kit.db.timestamps import format_timestamp

    record = AlertMuteRecord(
        model="t",
        signal=signal,
        muted_until=format_timestamp(end),
        actor="Ada",
        reason="maintenance",
        muted_at=format_timestamp(start),
    )
    with open_transaction(project) as transaction:
        transaction.add(record)


@pytest.mark.parametrize("signal", ["", "drift"])
def test_muted_incident_is_told_when_the_mute_ends(project: Project, signal: str) -> None:
    mute(project, signal, START, START + 3 * DAY)
    for day in range(5):
        observe(project, START + day * DAY, WARNING)
    assert list_events(project) == [("opened", 3 * 24), ("continued", 4 * 24)]
    (withheld,) = [alert.withheld for alert in list_alerts(project) if alert.withheld]
    assert withheld == "muted until 2024-03-07 00:00 UTC by Ada: maintenance"


def test_incident_within_a_mute_is_never_told_and_other_signals_are(project: Project) -> None:
    mute(project, "drift", START, START + 3 * DAY)
    observe(project, START, WARNING, WARNING._replace(name="volume"))
    observe(project, START + DAY, WARNING._replace(name="volume"))
    observe(project, START + 4 * DAY, WARNING._replace(name="volume"))
    signals = [alert.signal for alert in list_alerts(project) if alert.withheld is None]
    assert signals == ["volume"] * 2


def test_closing_within_a_mute_is_told_afterwards(project: Project) -> None:
    observe(project, START, WARNING)
    mute(project, "drift", START, START + 3 * DAY)
    for day in (1, 2, 3, 4):
        observe(project, START + day * DAY)
    assert list_events(project) == [("opened", 0), ("closed", 3 * 24)]


def test_mute_needs_a_reason_a_future_and_a_person_who_may(tmp_path: Path) -> None:
    project = make_project(tmp_path, "people: {operators: [Ada]}")
    tomorrow = datetime.now(UTC) + DAY
    with pytest.raises(KitError, match="needs a reason"):
        alert_queue.mute_signal(project, "drift", tomorrow, "Ada", " ")
    with pytest.raises(KitError, match="in the past"):
        alert_queue.mute_signal(project, "drift", START, "Ada", "x")
    with pytest.raises(NotAllowedError):
        alert_queue.mute_signal(project, "drift", tomorrow, "Bob", "x")
    with pytest.raises(KitError, match="there is no incident signal 'drfit'") as raised:
        alert_queue.mute_signal(project, "drfit", tomorrow, "Ada", "x")
    assert "'drift' (of: " in str(raised.value)
    alert_queue.mute_signal(project, "drift", tomorrow, "Ada", "x")
    assert [m.signal for m in alert_queue.list_active_mutes(project, datetime.now(UTC))] == [
        "drift"
    ]
    with pytest.raises(RunFailedError, match="everything is not muted"):
        alert_queue.end_mutes(project, "", "Ada", datetime.now(UTC))
    assert alert_queue.end_mutes(project, "drift", "Ada", datetime.now(UTC)) == 1
    for name in ("concept_drift", "gap"):  # the present name, and the one that is stored
        assert alert_queue.mute_signal(project, name, tomorrow, "Ada", "x").signal == "gap"
    assert alert_queue.end_mutes(project, "concept_drift", "Ada", datetime.now(UTC)) == 2
    assert alert_queue.list_active_mutes(project, datetime.now(UTC)) == []


def test_new_sink_is_told_of_open_incidents_and_not_of_closed_ones(tmp_path: Path) -> None:
    silent = make_project(tmp_path, "")
    observe(silent, START, WARNING)
    observe(silent, START + DAY)
    observe(silent, START + 2 * DAY, WARNING)
    assert list_alerts(silent) == []
    project = make_project(tmp_path, "alerts: {sinks: [file]}")
    with open_transaction(project) as transaction:
        queue_alerts(transaction, project.config, START + 3 * DAY)
    assert list_events(project) == [("opened", 3 * 24)]


def test_alerts_of_a_rolled_back_transaction_do_not_exist(project: Project) -> None:
    def fail_after_update() -> None:
        with open_transaction(project) as transaction:
            update_incidents(transaction, project.config, {"drift"}, [WARNING], START, "")
            raise OSError("killed here")

    with pytest.raises(OSError, match="killed here"):
        fail_after_update()
    assert query_records(project, sa.select(IncidentRecord)) == []
    assert list_alerts(project) == []


def test_list_shows_alerts_incidents_and_mutes(project: Project) -> None:
    assert "No alert" in format_alert_overview(project, read_alert_overview(project, 5))
    observe(project, START, WARNING)
    alert_queue.mute_signal(project, "drift", datetime.now(UTC) + DAY, "Ada", "maintenance")
    overview = read_alert_overview(project, 5)
    text = format_alert_overview(project, overview)
    assert "opened  drift   warning   a has drifted  waits to be sent" in text
    assert "Open incident 1: a has drifted (not acknowledged)" in text
    assert "drift, by Ada: maintenance" in text
    values = overview.to_json_dict()
    assert values["alerts"][0]["state"] == "waits to be sent"
    assert values["mutes"][0]["signal"] == "drift"


@pytest.mark.parametrize(
    ("first", "second"), [("drift", "confirmed_drift"), ("confirmed_drift", "drift")]
)
def test_drift_and_its_confirmation_are_one_incident(
    project: Project, first: str, second: str
) -> None:
    for name in (first, second):
        signal = WARNING._replace(name=name)
        with open_transaction(project) as transaction:
            update_incidents(transaction, project.config, {second}, [signal], START, "")
    records = query_records(project, sa.select(IncidentRecord))
    assert [(record.signal, record.closed_at) for record in records] == [(first, None)]
