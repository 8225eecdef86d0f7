"""The server as a process: killed under load, swapped under load, stopped, attacked from its own description.

``KILLS=10`` in the environment kills it ten times.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings

from mlops_kit.cli import application
from mlops_kit.db import approvals
from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import LabelRecord, PredictionRecord
from mlops_kit.project import loader
from mlops_kit.registry import versions

KILLS = int(os.environ.get("KILLS", "1"))
CLIENTS = 4
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)


class Running:
    """A server of a project, in a process of its own, which can be ended and started again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.start()

    def start(self) -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "MLFLOW_"))}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlops_kit.cli",
                "serve",
                "--project",
                str(self.home),
                "--port",
                "0",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env,
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+);", self.said)
        assert found, self.said
        self.port = int(found[1])

    def client(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        code = self.process.wait(120)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def ask(client: http.client.HTTPConnection, path: str, body: Any = None) -> tuple[int, Any]:
    """A request's status and answer."""
    client.request(
        "POST" if body is not None else "GET", path, json.dumps(body) if body is not None else None
    )
    answer = client.getresponse()
    return answer.status, json.loads(answer.read())


def together(work: Callable[[int], None]) -> list[threading.Thread]:
    """Some clients at work."""
    threads = [threading.Thread(target=work, args=(i,)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    return threads


def row(i: int) -> dict[str, Any]:
    return {"k": i, "at": "2024-01-06T00:00", "a": (i % 100) / 100, "b": 0.5}


@pytest.fixture(scope="module")
def home(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small project, looked at often."""
    made = shutil.copytree(original, tmp_path_factory.mktemp("server") / "home")
    (made / "mlops.yaml").write_text(
        (made / "mlops.yaml").read_text() + "serve: {champion_check_interval: 0.1s}\n"
    )
    return made


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Running]:
    """A server that is stopped at the end, well."""
    made = Running(home)
    yield made
    assert made.end(signal.SIGTERM) == 0


def test_it_says_its_address_once_it_answers(server: Running) -> None:
    assert (
        server.said
        == f"small version 1 answers at http://127.0.0.1:{server.port}; its routes are at http://127.0.0.1:{server.port}/docs\n"
    )
    assert ask(server.client(), "/health/ready")[0] == 200


@pytest.mark.parametrize("path", ["/predict", "/feedback"])
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_attacks_from_its_own_description_find_no_fault(
    server: Running, path: str, mode: schemathesis.GenerationMode
) -> None:
    described = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    checked = [schemathesis.checks.CHECKS.get_one(name) for name in CHECKED]

    @given(case=described[path]["POST"].as_strategy(mode))
    @settings(
        max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    def attack(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=checked)

    attack()


def test_a_new_champion_takes_over_while_clients_ask(server: Running, home: Path) -> None:
    project, over, seen = (
        loader.load_project(home),
        threading.Event(),
        [list[str]() for _ in range(CLIENTS)],
    )

    def work(i: int) -> None:
        client = server.client()
        while not over.is_set():
            status, answer = ask(client, "/predict", {"rows": [row(i)]})
            seen[i].append(answer["version"] if status == 200 else f"{status} {answer}")

    threads, asker = together(work), server.client()
    approvals.record_approval(
        project, versions.load_version(project, "2"), "approved", "ann", "better"
    )
    versions.promote_version(project, "2", "ann", "better")
    while ask(asker, "/model")[1]["version"] != "2":
        pass
    answered = [len(s) for s in seen]
    while any(len(s) < n + 3 for s, n in zip(seen, answered, strict=True)):
        pass
    over.set()
    for thread in threads:
        thread.join()
    assert all(set(s) == {"1", "2"} and s == sorted(s) for s in seen)
    assert (
        Counter(
            p.version
            for p in query_records(
                project,
                sa.select(PredictionRecord).where(
                    PredictionRecord.row_key.in_([f'["{i}"]' for i in range(CLIENTS)])
                ),
            )
        )["2"]
        >= 3 * CLIENTS
    )


def test_killed_under_load_it_loses_and_doubles_nothing_that_it_acknowledged(
    server: Running, home: Path
) -> None:
    told: list[dict[str, Any]] = [
        {} for _ in range(CLIENTS)
    ]  # of each client: request id → the answer it got
    labelled: list[dict[str, float]] = [{} for _ in range(CLIENTS)]
    wrong: list[Any] = []
    for _ in range(KILLS):
        enough, least = threading.Event(), sum(map(len, told)) + 60

        def work(i: int, enough: threading.Event = enough, least: int = least) -> None:
            client = server.client()
            try:
                while True:  # until the server is killed; what was not acknowledged is asked again under its id
                    status, answer = ask(client, "/predict", request(i, len(told[i])))
                    if status != 200:
                        wrong.append((status, answer))
                        return enough.set()
                    first = answer["predictions"][0]["prediction_id"]
                    if (
                        ask(
                            client,
                            "/feedback",
                            {"labels": [{"prediction_id": first, "value": len(told[i]) % 2}]},
                        )[0]
                        == 200
                    ):
                        labelled[i][first] = len(told[i]) % 2
                    told[i][f"c{i}-{len(told[i])}"] = answer
                    if sum(map(len, told)) > least:
                        enough.set()
            except (OSError, http.client.HTTPException):
                enough.set()

        threads = together(work)
        assert enough.wait(60)
        server.end(signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert not wrong
        server.start()
    client = server.client()
    for i, answers in enumerate(told):
        assert ask(client, "/predict", request(i, len(answers) - 1)) == (
            200,
            answers[f"c{i}-{len(answers) - 1}"],
        )
    stands(
        loader.load_project(home),
        {k: v for t in told for k, v in t.items()},
        {k: v for each in labelled for k, v in each.items()},
    )


def request(i: int, n: int) -> dict[str, Any]:
    """The n-th request of a client."""
    return {"rows": [row(1000 * i + n), row(1000 * i + n + 1)], "request_id": f"c{i}-{n}"}


def stands(project: loader.Project, told: dict[str, Any], labelled: dict[str, float]) -> None:
    """All that was acknowledged stands in the log, once."""
    log = {
        p.id: p
        for p in query_records(
            project, sa.select(PredictionRecord).where(PredictionRecord.request_id.like("c_-%"))
        )
    }
    given = [
        (p["prediction_id"], p["score"]) for answer in told.values() for p in answer["predictions"]
    ]
    assert len(given) == len({i for i, _ in given}) > 120 * KILLS
    assert all(log[i].score == s for i, s in given)
    each = Counter(p.request for p in log.values())
    assert set(each.values()) == {2}
    assert len(each) - len(told) <= CLIENTS
    counted = [
        (label.prediction, label.value)
        for label in query_records(project, sa.select(LabelRecord).where(LabelRecord.is_current))
        if label.prediction in log
    ]
    assert len(counted) == len(dict(counted)) <= len(labelled) + CLIENTS
    assert {k: v for k, v in counted if k in labelled} == labelled


def test_a_port_in_use_is_said(
    served: loader.Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(
            sys, "argv", ["mlops", "serve", "--port", str(port), "--project", str(served.root)]
        )
        with pytest.raises(SystemExit) as ended:
            application.main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.startswith(f"error: 127.0.0.1:{port} is in use")
    assert "--port 0 takes any that is free" in said.err
