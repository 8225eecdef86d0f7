"""Alerts are sent in order and kept until they are sent; a sink that fails affects no other."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlops_kit.core.errors import KitError
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import AlertRecord
from mlops_kit.project.loader import Project, load_project
from mlops_kit.stages.monitor.incidents import IncidentSeverity, IncidentSignal
from mlops_kit.watch import alert_delivery, alert_sinks
from mlops_kit.watch.alert_delivery import send_alerts
from mlops_kit.watch.alert_message import Alert
from mlops_kit.watch.alert_queue import mute_signal, update_incidents

SETTINGS = "name: t\nsource: t.csv\ntarget: y\ntask: binary\ntime: at\n"
WARNING = IncidentSignal("drift", IncidentSeverity.WARNING, "a has drifted", "By much.")
CRITICAL = WARNING._replace(severity=IncidentSeverity.CRITICAL, sentence="By more.")
START = datetime(2024, 3, 4, tzinfo=UTC)
DAY = timedelta(days=1)


def use_sinks(folder: Path, sinks: str = "[file]") -> Project:
    (folder / "mlops.yaml").write_text(f"{SETTINGS}alerts: {{sinks: {sinks}}}\n")
    return load_project(folder)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return use_sinks(tmp_path)


def observe(project: Project, as_of: datetime, *signals: IncidentSignal) -> None:
    """Update the incidents with what a window shows."""
    with open_transaction(project) as transaction:
        update_incidents(
            transaction,
            project.config,
            {"drift", "volume"},
            list(signals),
            as_of,
            "no longer observed",
        )


def read_alerts_file(project: Project) -> list[tuple[str, str, str]]:
    path = project.root / "reports" / "alerts.jsonl"
    if not path.exists():
        return []
    alerts = [json.loads(line) for line in path.read_text().splitlines()]
    return [(alert["event"], alert["severity"], alert["sentence"]) for alert in alerts]


def test_each_event_of_an_incident_is_sent_once(project: Project) -> None:
    for day, signals in enumerate(([WARNING], [CRITICAL], [CRITICAL], [])):
        observe(project, START + day * DAY / 24, *signals)
        assert send_alerts(project, START + day * DAY / 24) == []
    expected = [
        ("opened", "watch", "By much."),
        ("worsened", "act", "By more."),
        ("closed", "act", "no longer observed"),
    ]
    assert read_alerts_file(project) == expected
    assert send_alerts(project, START + DAY) == []
    assert read_alerts_file(project) == expected


def test_sinks_under_their_earlier_name(tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text(f"{SETTINGS}watch: {{alerts: [file]}}\n")
    project = load_project(tmp_path)
    observe(project, START, WARNING)
    assert send_alerts(project, START) == []
    assert read_alerts_file(project) == [("opened", "watch", "By much.")]


class Pager:
    """A sink that fails while ``failure`` is set."""

    def __init__(self) -> None:
        self.received: list[Alert] = []
        self.failure: Callable[[Alert], None] | None = None

    def send(self, alert: Alert) -> None:
        if self.failure is not None:
            self.failure(alert)
        self.received.append(alert)

    @property
    def events(self) -> list[str]:
        return [alert.event for alert in self.received]


def refuse(_alert: Alert) -> None:
    raise ConnectionError("no <route> to host")


@pytest.fixture
def pager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pager]:
    pager = Pager()
    alert_sinks.register_alert_sink("pager")(pager.send)
    monkeypatch.setattr("mlops_kit.project.config.root.ALERT_SINK_NAMES", ("file", "pager"))
    yield pager
    del alert_sinks.ALERT_SINKS["pager"]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Set the clock of retries ahead."""

    class Clock:
        ahead = timedelta(0)

        @classmethod
        def now(cls, zone: object) -> datetime:
            assert zone is UTC
            return datetime.now(UTC) + cls.ahead

        fromisoformat = staticmethod(datetime.fromisoformat)

    monkeypatch.setattr(alert_delivery, "datetime", Clock)

    def set_ahead(duration: timedelta) -> None:
        Clock.ahead += duration

    return set_ahead


def test_alert_that_was_appended_and_not_noted_is_not_appended_again(project: Project) -> None:
    observe(project, START, WARNING)
    send_alerts(project, START)
    with open_transaction(project) as transaction:  # as if the process had been killed in between
        transaction.execute(sa.update(AlertRecord).values(sent_at=None))
    assert send_alerts(project, START) == []
    assert read_alerts_file(project) == [("opened", "watch", "By much.")]
    path = project.root / "reports" / "alerts.jsonl"
    path.write_text(path.read_text() + '{"event": "clo')  # killed while it wrote
    observe(project, START + DAY)
    send_alerts(project, START + DAY)
    assert path.read_text().splitlines()[1] == '{"event": "clo'
    assert json.loads(path.read_text().splitlines()[2])["event"] == "closed"


def test_test_alerts_are_all_appended(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_delivery, "current_timestamp", lambda: "2024-03-04T00:00:00+00:00")
    assert [alert_delivery.send_test_alert(project, "file") for _ in range(2)] == ["", ""]
    assert [event for event, _, _ in read_alerts_file(project)] == ["test", "test"]


def test_alert_waits_until_its_sink_works_and_others_are_not_affected(
    tmp_path: Path, pager: Pager, later: Callable[[timedelta], None]
) -> None:
    project = use_sinks(tmp_path, "[pager, file]")
    pager.failure = refuse
    observe(project, START, WARNING)
    observe(project, START + DAY)
    (line,) = send_alerts(project, START + DAY)
    assert line == (
        "the alert sink 'pager' failed: ConnectionError: no <route> to host; 2 not sent, tried "
        "again"
    )
    assert [event for event, _, _ in read_alerts_file(project)] == ["opened", "closed"]
    first = query_records(project, sa.select(AlertRecord).order_by(AlertRecord.id))[0]
    assert (first.sink, first.sent_at, first.attempts) == ("pager", None, 1)
    assert first.error == "ConnectionError: no <route> to host"
    pager.failure = None
    later(timedelta(seconds=50))
    assert send_alerts(project, START + DAY) == []
    assert pager.events == []  # a minute has not passed
    later(timedelta(seconds=20))
    assert send_alerts(project, START + DAY) == []
    assert [(alert.event, alert.title, alert.incident) for alert in pager.received] == [
        ("opened", "a has drifted", 1),
        ("closed", "a has drifted", 1),
    ]
    assert len({alert.number for alert in pager.received}) == 2
    assert len(read_alerts_file(project)) == 2


def test_alert_that_is_refused_for_good_does_not_hold_up_later_ones(
    tmp_path: Path, pager: Pager, later: Callable[[timedelta], None]
) -> None:
    project = use_sinks(tmp_path, "pager")
    observe(project, START, WARNING)
    observe(project, START + DAY)

    def refuse_opening(alert: Alert) -> None:
        if alert.event == "opened":
            refuse(alert)

    pager.failure = refuse_opening
    for _ in range(3):
        assert len(send_alerts(project, START + DAY)) == 1
        assert pager.events == []
        later(timedelta(hours=1))
    assert len(send_alerts(project, START + DAY)) == 1
    assert pager.events == ["closed"]


def die(*_arguments: object) -> None:
    raise OSError("killed here")


def test_process_killed_after_sending_sends_again_with_the_same_number(
    tmp_path: Path, pager: Pager, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = use_sinks(tmp_path, "pager")
    observe(project, START, WARNING)
    with monkeypatch.context() as patch:
        patch.setattr(alert_delivery, "_note_attempt", die)
        with pytest.raises(OSError, match="killed here"):
            send_alerts(project, START)
    assert send_alerts(project, START) == []
    assert send_alerts(project, START) == []
    assert [alert.number for alert in pager.received] == [1, 1]


def test_digest_gathers_warnings_and_a_critical_alert_takes_them_with_it(
    tmp_path: Path, pager: Pager
) -> None:
    project = use_sinks(tmp_path, "{pager: {digest: 1d}}")
    volume = WARNING._replace(name="volume", title="Fewer rows", sentence="So few.")
    observe(project, START, WARNING)
    observe(project, START + DAY / 2, WARNING, volume)
    send_alerts(project, START + DAY / 2)
    assert pager.received == []
    send_alerts(project, START + DAY)
    (digest,) = pager.received
    assert (digest.event, digest.severity, digest.title) == ("digest", "watch", "2 alerts")
    assert digest.sentence.splitlines() == [
        "opened: a has drifted: By much.",
        "opened: Fewer rows: So few.",
    ]
    observe(project, START + DAY * 1.1, WARNING)
    observe(project, START + DAY * 1.2, CRITICAL)
    send_alerts(project, START + DAY * 1.2)
    assert pager.received[-1].severity == "act"
    assert "worsened: a has drifted: By more." in pager.received[-1].sentence
    assert "closed: Fewer rows: no longer observed" in pager.received[-1].sentence
    sent = query_records(project, sa.select(AlertRecord.sent_at))
    assert len(sent) == 5  # the warning was continued as well
    assert None not in sent


def test_delayed_alert_is_sent_when_it_is_due(tmp_path: Path, pager: Pager) -> None:
    project = use_sinks(tmp_path, "pager")
    observe(project, START, WARNING)
    observe(project, START + DAY / 4)
    observe(project, START + DAY / 2, WARNING)
    send_alerts(project, START + DAY / 2)
    assert pager.events == ["opened", "closed"]
    send_alerts(project, START + DAY * 1.25)  # a day after the closing
    assert pager.events == ["opened", "closed", "opened"]


def test_alert_that_waits_when_its_signal_is_muted_is_withheld(
    tmp_path: Path, pager: Pager, later: Callable[[timedelta], None]
) -> None:
    project = use_sinks(tmp_path, "pager")
    pager.failure = refuse
    observe(project, START, WARNING)
    send_alerts(project, START)
    mute_signal(project, "drift", datetime.now(UTC) + DAY, "Ada", "maintenance")
    pager.failure = None
    later(timedelta(hours=2))
    assert send_alerts(project, START) == []
    assert pager.received == []
    (alert,) = query_records(project, sa.select(AlertRecord))
    assert alert.withheld is not None
    assert alert.withheld.endswith("by Ada: maintenance")


def test_sink_that_is_no_longer_named_does_not_block(tmp_path: Path, pager: Pager) -> None:
    observe(use_sinks(tmp_path, "pager"), START, WARNING)
    assert send_alerts(use_sinks(tmp_path, "file"), START) == []
    assert pager.received == []


def test_unknown_sink_is_refused_when_the_project_is_loaded(tmp_path: Path) -> None:
    expected = r"alerts.sinks: 'fil' is not known; expected 'file'.* or a url_env"
    with pytest.raises(KitError, match=expected):
        use_sinks(tmp_path, "fil")


@pytest.mark.parametrize(
    ("failure", "message"),
    [(SystemExit("bye"), "SystemExit: bye"), (None, "no answer within 0.01 seconds")],
)
def test_sink_that_exits_or_hangs_holds_nothing_up(
    failure: BaseException | None,
    message: str,
    tmp_path: Path,
    pager: Pager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    never = threading.Event()

    def fail(_alert: Alert) -> None:
        if failure is not None:
            raise failure
        never.wait()

    pager.failure = fail
    if failure is None:
        monkeypatch.setattr(alert_sinks, "SINK_TIMEOUT_SECONDS", 0.01)
    project = use_sinks(tmp_path, "pager")
    observe(project, START, WARNING)
    (line,) = send_alerts(project, START)
    assert message in line
    never.set()


def test_secret_in_an_error_is_not_stored(
    tmp_path: Path, pager: Pager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGER_TOKEN", "T0KEN-1234")
    project = use_sinks(tmp_path, "pager")
    path = project.root / "mlops.yaml"
    path.write_text(path.read_text() + "secrets: [PAGER_TOKEN]\n")

    def refuse_with_token(_alert: Alert) -> None:
        raise ConnectionError("https://pager/T0KEN-1234 refused")

    pager.failure = refuse_with_token
    observe(project, START, WARNING)
    send_alerts(load_project(project.root), START)
    (alert,) = query_records(project, sa.select(AlertRecord))
    assert alert.error == "ConnectionError: https://pager/•••PAGER_TOKEN••• refused"


def test_secret_at_the_end_of_a_long_error_is_not_stored_in_part(
    tmp_path: Path, pager: Pager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGER_TOKEN", "T0KEN-1234")
    project = use_sinks(tmp_path, "pager")
    path = project.root / "mlops.yaml"
    path.write_text(path.read_text() + "secrets: [PAGER_TOKEN]\n")

    def refuse_at_length(_alert: Alert) -> None:
        padding = "x" * (500 - len("ConnectionError: T0KEN"))
        raise ConnectionError(f"{padding}T0KEN-1234")

    pager.failure = refuse_at_length
    observe(project, START, WARNING)
    send_alerts(load_project(project.root), START)
    (alert,) = query_records(project, sa.select(AlertRecord))
    assert len(alert.error) == 500
    assert "T0K" not in alert.error


def test_test_alert_names_its_sink_and_is_not_stored(tmp_path: Path, pager: Pager) -> None:
    project = use_sinks(tmp_path, "pager")
    assert alert_delivery.send_test_alert(project, "pager") == ""
    assert pager.received[0].sentence == "The sink 'pager' of t works."
    assert query_records(project, sa.select(AlertRecord)) == []
    with pytest.raises(KitError, match="there is no alert sink 'pagr'"):
        alert_delivery.send_test_alert(project, "pagr")
