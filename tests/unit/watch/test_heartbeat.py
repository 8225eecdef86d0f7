"""Heartbeats reach their address before and after a pass, and no failure stops the watch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlops_kit.project.loader import Project, load_project
from mlops_kit.watch import heartbeat
from mlops_kit.watch.heartbeat import Heartbeat, send_heartbeat


class Receiver:
    """An address that notes the paths that are called, and answers with ``status``."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.status = 200
        self.answers = threading.Event()
        self.answers.set()
        self.port = 0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            receiver.answers.wait()
            receiver.paths.append(self.path)
            self.send_response(receiver.status)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield receiver
    receiver.answers.set()
    server.shutdown()
    server.server_close()


def make_project(folder: Path, url: str) -> Project:
    settings = "name: t\nsource: t.csv\ntarget: y\ntask: binary\ntime: at\n"
    (folder / "mlops.yaml").write_text(f"{settings}watch: {{heartbeat_url: '{url}'}}\n")
    return load_project(folder)


def test_start_success_and_failure_are_told_apart(tmp_path: Path, receiver: Receiver) -> None:
    project = make_project(tmp_path, f"http://127.0.0.1:{receiver.port}/3f2a?rid=1")
    for beat in Heartbeat:
        assert send_heartbeat(project, beat) == ""
    assert receiver.paths == ["/3f2a/start?rid=1", "/3f2a?rid=1", "/3f2a/fail?rid=1"]


def test_address_in_an_environment_variable_is_not_shown(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, "${BEAT_URL}")
    assert send_heartbeat(project, Heartbeat.SUCCESS) == "watch.heartbeat_url is not an address"
    monkeypatch.setenv("BEAT_URL", "http://[half")
    assert send_heartbeat(project, Heartbeat.SUCCESS) == "watch.heartbeat_url is not an address"
    monkeypatch.setenv("BEAT_URL", f"http://127.0.0.1:{receiver.port}/secret-check")
    assert send_heartbeat(project, Heartbeat.SUCCESS) == ""
    assert receiver.paths == ["/secret-check"]
    monkeypatch.setenv("BEAT_URL", "http://secret check/")
    assert "secret check" not in send_heartbeat(project, Heartbeat.SUCCESS)


def test_refusal_or_silence_is_a_sentence(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, f"http://127.0.0.1:{receiver.port}/")
    receiver.status = 404
    assert "404" in send_heartbeat(project, Heartbeat.SUCCESS)
    receiver.answers.clear()
    monkeypatch.setattr(heartbeat, "HEARTBEAT_TIMEOUT_SECONDS", 0.05)
    message = send_heartbeat(project, Heartbeat.SUCCESS)
    assert "0.05 seconds" in message or "timed out" in message


def test_without_an_address_nothing_is_called(tmp_path: Path) -> None:
    assert send_heartbeat(make_project(tmp_path, ""), Heartbeat.SUCCESS) == ""
