"""Alerts through Apprise reach a real SMTP server and a real webhook; the URL stays secret."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller

from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import AlertRecord
from mlops_kit.project.loader import Project, load_project
from mlops_kit.project.secrets import list_secret_variables, make_scrubber
from mlops_kit.stages.monitor.incidents import IncidentSeverity, IncidentSignal
from mlops_kit.watch.alert_delivery import send_alerts, send_test_alert
from mlops_kit.watch.alert_queue import update_incidents

SETTINGS = """\
name: flights
source: t.csv
target: y
task: binary
time: at
dashboard: {base_url: "https://host.example/churn/", token_env: DASHBOARD_TOKEN}
alerts: {sinks: {team: {url_env: TEAM_ALERT_URL}}}
"""
CRITICAL = IncidentSignal("gap", IncidentSeverity.CRITICAL, "Concept drift", "AUC fell to 0.5.")
AS_OF = datetime(2024, 3, 4, tzinfo=UTC)
TOKEN = "T0KENabc123"


class MailBox:
    """What an SMTP server received."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.messages.append(message_from_bytes(envelope.content))
        return "250 OK"


class LocalController(Controller):
    """An SMTP server on a free port."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def mail_server() -> Iterator[tuple[MailBox, int]]:
    box = MailBox()
    controller = LocalController(box, hostname="127.0.0.1", port=0)
    controller.start()
    yield box, controller.port
    controller.stop()


class Hook:
    """A webhook that answers with ``status``."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []


@pytest.fixture
def hook() -> Iterator[tuple[Hook, int]]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            hook.bodies.append(json.loads(self.rfile.read(length)))
            hook.paths.append(self.path)
            self.send_response(hook.status)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield hook, server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "mlops.yaml").write_text(SETTINGS)
    return load_project(tmp_path)


def observe(project: Project, *signals: IncidentSignal) -> None:
    with open_transaction(project) as transaction:
        update_incidents(transaction, project.config, {"gap"}, list(signals), AS_OF, "over")


def test_mail_says_what_is_wrong_and_where_to_look(
    project: Project, mail_server: tuple[MailBox, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    box, port = mail_server
    url = f"mailto://127.0.0.1:{port}?from=watch@example.com&to=team@example.com"
    monkeypatch.setenv("TEAM_ALERT_URL", url)
    observe(project, CRITICAL)
    assert send_alerts(project, AS_OF) == []
    (message,) = box.messages
    assert message["To"] == "team@example.com"
    assert message["Subject"] == "[flights] critical, opened: Concept drift"
    body = message.get_payload(decode=True) or message.get_payload()[0].get_payload(decode=True)
    lines = [line for line in body.decode().splitlines() if line]
    assert lines[0] == "AUC fell to 0.5."
    assert lines[1] == "2024-03-04 00:00 UTC, incident 1, alert 1"
    assert lines[2] == 'mlops alerts acknowledge 1 --reason "…"'
    assert lines[3] == "https://host.example/churn/monitoring"
    observe(project)
    send_alerts(project, AS_OF)
    assert box.messages[1]["Subject"] == "[flights] closed: Concept drift"


def test_webhook_that_fails_gets_the_alert_later_and_the_url_stays_secret(
    project: Project, hook: tuple[Hook, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    received, port = hook
    monkeypatch.setenv("TEAM_ALERT_URL", f"json://ada:{TOKEN}@127.0.0.1:{port}/{TOKEN}/hook")
    observe(project, CRITICAL)
    received.status = 500
    (line,) = send_alerts(project, AS_OF)
    assert "error=500" in line
    (alert,) = query_records(project, sa.select(AlertRecord))
    for text in (line, alert.error):
        assert TOKEN not in text
        assert "127.0.0.1" not in text
    received.status = 200
    with open_transaction(project) as transaction:
        transaction.execute(sa.update(AlertRecord).values(retry_at=None))
    assert send_alerts(project, AS_OF) == []
    assert send_alerts(project, AS_OF) == []
    assert [body["title"] for body in received.bodies] == [
        "[flights] critical, opened: Concept drift"
    ] * 2
    assert received.bodies[0]["type"] == "failure"
    assert received.paths[0] == f"/{TOKEN}/hook"


def test_url_counts_as_a_secret(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"json://ada:{TOKEN}@host.example/hook"
    monkeypatch.setenv("TEAM_ALERT_URL", url)
    assert "TEAM_ALERT_URL" in list_secret_variables(project)
    scrub = make_scrubber(project)
    assert scrub(f"see {url}") == "see •••TEAM_ALERT_URL•••"
    assert scrub(f"password {TOKEN}") == "password •••TEAM_ALERT_URL•••"


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("", "the environment variable TEAM_ALERT_URL is not set"),
        ("nonsense", "the environment variable TEAM_ALERT_URL has no URL that Apprise knows"),
    ],
)
def test_missing_or_wrong_url_is_an_error_of_the_sink(
    project: Project, url: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_ALERT_URL", url)
    assert error in send_test_alert(project, "team")
