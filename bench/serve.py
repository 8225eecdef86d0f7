"""Throughput of the endpoint, of the model alone and of MLflow's server, for 1, 4 and 16 clients.

    python bench/serve.py [PROJECT]

Copies a project that has a champion (default: this folder), starts ``mlops serve`` on the copy and
sends requests with one of the source's newest rows each, for some seconds per number of clients.
Every response is in the prediction log before it is sent. Then the same for ``mlflow models
serve``, which is given the finished features and keeps no log. The limit is one process that calls
the model alone, row by row. Server and clients share the machine's cores; a client reads each
response to the end by its Content-Length.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlops_kit.data import columns, source
from mlops_kit.project import loader
from mlops_kit.project.loader import Project
from mlops_kit.registry import scoring, versions
from mlops_kit.registry.store import find_store_file

MEASUREMENT_SECONDS = 4
CLIENT_COUNTS = (1, 4, 16)
ROWS = 200
START_ATTEMPTS = 240  # half a second apart
COLUMN_WIDTH = 30
IGNORED_FILES = shutil.ignore_patterns(
    ".git", ".venv", "reports", "__pycache__", "*_cache", "docs", "tests"
)


@dataclass(frozen=True)
class Throughput:
    """Requests per second, median and 99th percentile of the latency in milliseconds."""

    requests_per_second: float
    median_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Server:
    """How a server is started and what it is sent."""

    command: list[str]
    port: int
    path: str
    bodies: list[bytes]
    environment: dict[str, str] = field(default_factory=dict)


def send_requests(server: Server, bodies: list[bytes], end_time: float) -> list[float]:
    """Send one request after the other until a time; return the latencies in seconds."""
    latencies: list[float] = []
    requests = [_build_request(server, body) for body in bodies]
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.perf_counter() < end_time:
            start = time.perf_counter()
            connection.sendall(requests[len(latencies) % len(requests)])
            _read_response(connection)
            latencies.append(time.perf_counter() - start)
    return latencies


def _build_request(server: Server, body: bytes) -> bytes:
    """Return the bytes of a request."""
    lines = [
        f"POST {server.path} HTTP/1.1",
        f"Host: localhost:{server.port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _read_response(connection: socket.socket) -> None:
    """Read a response to its end.

    Raises
    ------
    ConnectionError
        If it is not a success.
    """
    response = b""
    while b"\r\n\r\n" not in response:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        response += chunk
    head, _, content = response.partition(b"\r\n\r\n")
    status_line, *headers = head.lower().split(b"\r\n")
    if b" 200 " not in status_line:
        raise ConnectionError(response[:500])
    [length] = [line.partition(b":")[2] for line in headers if line.startswith(b"content-length")]
    remaining = int(length) - len(content)
    while remaining > 0:
        remaining -= len(connection.recv(remaining))


def measure_throughput(server: Server, client_count: int) -> Throughput:
    """Send requests from several clients at the same time."""
    latencies: list[float] = []
    end_time = time.perf_counter() + MEASUREMENT_SECONDS

    def run_client(client: int) -> None:
        latencies.extend(send_requests(server, server.bodies[client::client_count], end_time))

    threads = [threading.Thread(target=run_client, args=(n,)) for n in range(client_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Throughput(
        requests_per_second=len(latencies) / MEASUREMENT_SECONDS,
        median_ms=1000 * float(np.median(latencies)),
        p99_ms=1000 * float(np.quantile(latencies, 0.99)),
    )


def find_free_port() -> int:
    """Return a port that is not in use."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def measure_server(server: Server) -> dict[int, Throughput]:
    """Start a server, measure it with each number of clients, and stop it."""
    search_path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        server.command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PATH": search_path, **server.environment},
        start_new_session=True,
    )
    try:
        wait_until_ready(server)
        return {count: measure_throughput(server, count) for count in CLIENT_COUNTS}
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def wait_until_ready(server: Server) -> None:
    """Send requests until one is answered.

    Raises
    ------
    SystemExit
        If none is.
    """
    for _ in range(START_ATTEMPTS):
        try:
            send_requests(server, server.bodies, time.perf_counter() + 0.2)
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise SystemExit(f"{' '.join(server.command[-6:])} did not answer")


def measure_model(model: Any, inputs: Any) -> float:
    """Return how many rows per second the model alone scores, one after the other."""
    predict = getattr(model, "predict_proba", model.predict)
    start = time.perf_counter()
    count = 0
    while time.perf_counter() - start < MEASUREMENT_SECONDS:
        predict(inputs.iloc[[count % len(inputs)]])
        count += 1
    return count / MEASUREMENT_SECONDS


def create_our_server(project: Project, rows: Any) -> Server:
    """Describe ``mlops serve`` on a free port."""
    source_columns = [name for name in rows.columns if name != columns.ROW_ID]
    required_columns = scoring.list_required_columns(project, source_columns)
    request_rows = json.loads(rows[required_columns].to_json(orient="records", date_format="iso"))
    port = find_free_port()
    arguments = ["serve", "--project", str(project.root), "--port", str(port)]
    return Server(
        command=[sys.executable, "-m", "mlops_kit.cli", *arguments],
        port=port,
        path="/predict",
        bodies=[json.dumps({"rows": [row]}).encode() for row in request_rows],
    )


def create_mlflow_server(project: Project, model_uri: str, inputs: Any) -> Server:
    """Describe ``mlflow models serve`` on a free port."""
    bodies = []
    for position in range(len(inputs)):
        row = inputs.iloc[[position]].to_json(orient="split", index=False)
        bodies.append(json.dumps({"dataframe_split": json.loads(row)}).encode())
    port = find_free_port()
    store = find_store_file(project)
    tracking_uri = f"sqlite:///{store}" if store else project.config.tracking
    arguments = ["serve", "-m", model_uri, "--env-manager", "local", "-p", str(port)]
    return Server(
        command=[sys.executable, "-m", "mlflow", "models", *arguments],
        port=port,
        path="/invocations",
        bodies=bodies,
        environment={"MLFLOW_TRACKING_URI": tracking_uri},
    )


def print_row(name: str, cells: list[str]) -> None:
    """Print a row of the table."""
    print(f"{name:<22}" + "".join(f"{cell:>{COLUMN_WIDTH}}" for cell in cells))


def format_throughput(measured: Throughput) -> str:
    """Return a throughput as text."""
    return (
        f"{measured.requests_per_second:,.0f}/s "
        f"p50 {measured.median_ms:.1f} p99 {measured.p99_ms:.1f} ms"
    )


def print_results(
    model_rate: float, ours: dict[int, Throughput], mlflow: dict[int, Throughput]
) -> None:
    """Print both servers, and the ratios to the model alone and to MLflow."""
    print_row("", [f"{count} clients" for count in CLIENT_COUNTS])
    print_row("mlops serve", [format_throughput(ours[count]) for count in CLIENT_COUNTS])
    print_row("mlflow models serve", [format_throughput(mlflow[count]) for count in CLIENT_COUNTS])
    rates = [ours[count].requests_per_second for count in CLIENT_COUNTS]
    mlflow_rates = [mlflow[count].requests_per_second for count in CLIENT_COUNTS]
    print_row("mlops / model alone", [f"{rate / model_rate:.2f}×" for rate in rates])
    ratios = [rate / other for rate, other in zip(rates, mlflow_rates, strict=True)]
    print_row("mlops / mlflow", [f"{ratio:.1f}×" for ratio in ratios])


def main(root: str) -> None:
    """Measure a project and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        original = loader.find_project_folder(root)
        copy = shutil.copytree(original, Path(folder) / "copy", ignore=IGNORED_FILES)
        project = loader.load_project(copy)
        champion, model = versions.load_champion(project)
        history = source.read_source(project)
        rows = history.tail(ROWS).reset_index(drop=True)
        _, inputs = scoring.score_with_inputs(project, model, champion, rows, history)
        del history  # the servers need the memory
        model_rate = measure_model(model, inputs)
        ours = measure_server(create_our_server(project, rows))
        mlflow = measure_server(create_mlflow_server(project, champion.uri, inputs))
    print(
        f"{project.config.name} version {champion.version}; the model alone: "
        f"{model_rate:,.0f} rows/s, {1000 / model_rate:.2f} ms per row"
    )
    print_results(model_rate, ours, mlflow)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).parent.parent))
