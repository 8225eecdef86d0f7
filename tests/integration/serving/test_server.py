"""The server as a process: killed and updated under load, stopped, fuzzed from its own document.

``KILLS=10`` in the environment kills it ten times.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings

from mlops_kit import cli
from mlops_kit.db import approvals
from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import LabelRecord, PredictionRecord
from mlops_kit.project import loader
from mlops_kit.registry import versions
from tests.support.server_process import ServerProcess, send

KILLS = int(os.environ.get("KILLS", "1"))
CLIENTS = 4
REQUESTS_BEFORE_KILL = 60
SCHEMA_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)


def start_clients(work: Callable[[int], None]) -> list[threading.Thread]:
    """Start some clients, each with its number."""
    threads = [threading.Thread(target=work, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    return threads


def create_row(key: int) -> dict[str, Any]:
    return {"k": key, "at": "2024-01-06T00:00", "a": (key % 100) / 100, "b": 0.5}


@pytest.fixture(scope="module")
def home(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small project, whose champion is checked often."""
    folder = shutil.copytree(original, tmp_path_factory.mktemp("server") / "home")
    config = folder / "mlops.yaml"
    config.write_text(config.read_text() + "serve: {champion_check_interval: 0.1s}\n")
    return folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[ServerProcess]:
    """A running server, which exits with 0 at the end."""
    running = ServerProcess(home)
    yield running
    assert running.stop(signal.SIGTERM) == 0


def test_address_is_printed_once_requests_are_answered(server: ServerProcess) -> None:
    url = f"http://127.0.0.1:{server.port}"
    expected = f"Serving small version 1 at {url} (documentation: {url}/docs)\n"
    assert server.first_line == expected
    assert send(server.connect(), "/health/ready")[0] == 200


@pytest.mark.parametrize("path", ["/predict", "/feedback"])
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_requests_generated_from_the_document_find_no_fault(
    server: ServerProcess, path: str, mode: schemathesis.GenerationMode
) -> None:
    document = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    checks = [schemathesis.checks.CHECKS.get_one(name) for name in SCHEMA_CHECKS]

    @given(case=document[path]["POST"].as_strategy(mode))
    @settings(
        max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    def call_and_validate(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=checks)

    call_and_validate()


def test_promoted_version_takes_over_under_load(server: ServerProcess, home: Path) -> None:
    project = loader.load_project(home)
    is_over = threading.Event()
    versions_by_client: list[list[str]] = [[] for _ in range(CLIENTS)]

    def send_predictions(client_number: int) -> None:
        client = server.connect()
        while not is_over.is_set():
            status, content = send(client, "/predict", {"rows": [create_row(client_number)]})
            answered_by = content["version"] if status == 200 else f"{status} {content}"
            versions_by_client[client_number].append(answered_by)

    threads = start_clients(send_predictions)
    client = server.connect()
    approvals.record_approval(
        project, versions.load_version(project, "2"), "approved", "ann", "better"
    )
    versions.promote_version(project, "2", "ann", "better")
    while send(client, "/model")[1]["version"] != "2":
        pass
    counts = [len(answered) for answered in versions_by_client]
    while any(
        len(answered) < count + 3
        for answered, count in zip(versions_by_client, counts, strict=True)
    ):
        pass
    is_over.set()
    for thread in threads:
        thread.join()
    for answered in versions_by_client:
        assert set(answered) == {"1", "2"}
        assert answered == sorted(answered)
    keys = [f'["{client_number}"]' for client_number in range(CLIENTS)]
    records = query_records(
        project, sa.select(PredictionRecord).where(PredictionRecord.row_key.in_(keys))
    )
    assert Counter(record.version for record in records)["2"] >= 3 * CLIENTS


@dataclass
class ClientLog:
    """What a client received: responses by request id, acknowledged labels by prediction id."""

    responses: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, float] = field(default_factory=dict)
    errors: list[Any] = field(default_factory=list)


def create_request(client_number: int, request_number: int) -> dict[str, Any]:
    """The n-th request of a client."""
    first_key = 1000 * client_number + request_number
    return {
        "rows": [create_row(first_key), create_row(first_key + 1)],
        "request_id": f"c{client_number}-{request_number}",
    }


def send_until_killed(
    server: ServerProcess, client_number: int, log: ClientLog, on_response: Callable[[], None]
) -> None:
    """Send predictions and labels; what was not acknowledged before is sent again under its id."""
    client = server.connect()
    while True:
        number = len(log.responses)
        request = create_request(client_number, number)
        status, content = send(client, "/predict", request)
        if status != 200:
            log.errors.append((status, content))
            return
        prediction_id = content["predictions"][0]["prediction_id"]
        value = number % 2
        label = {"prediction_id": prediction_id, "value": value}
        if send(client, "/feedback", {"labels": [label]})[0] == 200:
            log.labels[prediction_id] = value
        log.responses[request["request_id"]] = content
        on_response()


def test_killed_server_loses_and_duplicates_nothing_that_it_acknowledged(
    server: ServerProcess, home: Path
) -> None:
    logs = [ClientLog() for _ in range(CLIENTS)]

    def count_responses() -> int:
        return sum(len(log.responses) for log in logs)

    for _ in range(KILLS):
        may_kill = threading.Event()
        enough = count_responses() + REQUESTS_BEFORE_KILL

        def set_if_enough(may_kill: threading.Event = may_kill, enough: int = enough) -> None:
            if count_responses() > enough:
                may_kill.set()

        def run_client(
            client_number: int,
            may_kill: threading.Event = may_kill,
            on_response: Callable[[], None] = set_if_enough,
        ) -> None:
            with suppress(OSError, http.client.HTTPException):
                send_until_killed(server, client_number, logs[client_number], on_response)
            may_kill.set()

        threads = start_clients(run_client)
        assert may_kill.wait(60)
        server.stop(signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert not any(log.errors for log in logs)
        server.start()
    client = server.connect()
    for client_number, log in enumerate(logs):
        last = len(log.responses) - 1
        response = send(client, "/predict", create_request(client_number, last))
        assert response == (200, log.responses[f"c{client_number}-{last}"])
    assert_acknowledged_is_stored_once(loader.load_project(home), logs)


def assert_acknowledged_is_stored_once(project: loader.Project, logs: list[ClientLog]) -> None:
    """Check that every acknowledged prediction and label is in the database, once."""
    responses = [content for log in logs for content in log.responses.values()]
    records = {
        record.id: record
        for record in query_records(
            project,
            sa.select(PredictionRecord).where(PredictionRecord.request_id.like("c_-%")),
        )
    }
    answers = [answer for content in responses for answer in content["predictions"]]
    ids = {answer["prediction_id"] for answer in answers}
    assert len(answers) == len(ids) > 2 * REQUESTS_BEFORE_KILL * KILLS
    for answer in answers:
        assert records[answer["prediction_id"]].score == answer["score"]
    rows_by_request = Counter(record.request_id for record in records.values())
    assert set(rows_by_request.values()) == {2}
    assert len(rows_by_request) - len(responses) <= CLIENTS
    acknowledged = {key: value for log in logs for key, value in log.labels.items()}
    current_labels = [
        (label.prediction_id, label.value)
        for label in query_records(project, sa.select(LabelRecord).where(LabelRecord.is_current))
        if label.prediction_id in records
    ]
    stored = dict(current_labels)
    assert len(current_labels) == len(stored) <= len(acknowledged) + CLIENTS
    assert {key: value for key, value in stored.items() if key in acknowledged} == acknowledged


def test_port_in_use_is_reported(
    served: loader.Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        arguments = ["mlops", "serve", "--port", str(port), "--project", str(served.root)]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as exited:
            cli.main()
    output = capsys.readouterr()
    assert exited.value.code == 2
    assert output.out == ""
    assert output.err.startswith(f"error: 127.0.0.1:{port} is in use")
    assert "--port 0 chooses a free port" in output.err
