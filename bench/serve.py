"""Compare the endpoint with the model alone and with MLflow's server, for 1, 4 and 16 clients.

    python bench/serve.py [PROJECT]

Copies a project that has a champion (default: this repository), starts ``mlops serve`` on the copy
and sends requests with one of the source's newest rows each, for some seconds per number of
clients; every answer is in the prediction log before it is sent. Then the same with ``mlflow models
serve``, which gets computed features and keeps no log. The upper limit is one process that calls
the model alone, row after row. All share the cores with the clients, which read each response to
its Content-Length.
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
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from timing import NOT_COPIED

from mlops_kit.data import columns, source
from mlops_kit.project import loader
from mlops_kit.registry import scoring, versions
from mlops_kit.registry.store import find_store_file

SECONDS = 4
CLIENT_COUNTS = (1, 4, 16)
ROWS = 200
RECEIVE_BYTES = 65536
START_ATTEMPTS = 240
START_POLL_SECONDS = 0.5


class Throughput(NamedTuple):
    """Requests per second, and latency in milliseconds: the median and the 99th percentile."""

    requests_per_second: float
    median_ms: float
    p99_ms: float


class Server(NamedTuple):
    """A server to measure: its command, its port, and the requests it gets."""

    command: list[str]
    port: int
    path: str
    bodies: list[bytes]
    environment: dict[str, str]


def build_request(server: Server, body: bytes) -> bytes:
    """Build an HTTP request."""
    lines = [
        f"POST {server.path} HTTP/1.1",
        f"Host: localhost:{server.port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_response(connection: socket.socket) -> None:
    """Read a response to its end.

    Raises
    ------
    AssertionError
        If it is not a success.
    """
    response = b""
    while b"\r\n\r\n" not in response:
        response += connection.recv(RECEIVE_BYTES)
    head, _, body = response.partition(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], response[:500]
    content_length = head.lower().split(b"content-length:")[1].split(b"\r\n")[0]
    missing_bytes = int(content_length) - len(body)
    while missing_bytes > 0:
        missing_bytes -= len(connection.recv(missing_bytes))


def send_requests(
    server: Server, bodies: list[bytes], end_time: float, latencies: list[float]
) -> None:
    """Send requests one after another until a time, and add their latencies in seconds."""
    requests = [build_request(server, body) for body in bodies]
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        count = 0
        start = time.perf_counter()
        while start < end_time:
            connection.sendall(requests[count % len(requests)])
            read_response(connection)
            latencies.append(time.perf_counter() - start)
            count += 1
            start = time.perf_counter()


def measure_throughput(server: Server, clients: int) -> Throughput:
    """Measure a running server with a number of clients."""
    latencies: list[list[float]] = [[] for _ in range(clients)]
    end_time = time.perf_counter() + SECONDS
    threads = []
    for number in range(clients):
        bodies = server.bodies[number::clients]
        arguments = (server, bodies, end_time, latencies[number])
        threads.append(threading.Thread(target=send_requests, args=arguments))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    milliseconds = 1000 * np.concatenate(latencies)
    return Throughput(
        requests_per_second=len(milliseconds) / SECONDS,
        median_ms=float(np.median(milliseconds)),
        p99_ms=float(np.quantile(milliseconds, 0.99)),
    )


def find_free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until_ready(server: Server) -> None:
    """Wait until a server answers.

    Raises
    ------
    SystemExit
        If it never does.
    """
    for _ in range(START_ATTEMPTS):
        try:
            send_requests(server, server.bodies, time.perf_counter() + 0.2, [])
        except (OSError, AssertionError, IndexError):
            time.sleep(START_POLL_SECONDS)
        else:
            return
    raise SystemExit(f"{' '.join(server.command[-6:])} never answered")


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
        return {clients: measure_throughput(server, clients) for clients in CLIENT_COUNTS}
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def measure_model(model: Any, inputs: Any) -> float:
    """Measure the rows per second of the model alone, one row after another."""
    predict = getattr(model, "predict_proba", model.predict)
    start = time.perf_counter()
    count = 0
    while time.perf_counter() - start < SECONDS:
        predict(inputs.iloc[[count % len(inputs)]])
        count += 1
    return count / SECONDS


def build_mlops_server(project: loader.Project, rows: Any) -> Server:
    """Return ``mlops serve`` with a request per row."""
    port = find_free_port()
    command = [sys.executable, "-m", "mlops_kit.cli", "serve"]
    command += ["--project", str(project.root), "--port", str(port)]
    records = json.loads(rows.to_json(orient="records", date_format="iso"))
    bodies = [json.dumps({"rows": [record]}).encode() for record in records]
    return Server(command, port, "/predict", bodies, {})


def build_mlflow_server(project: loader.Project, model_uri: str, inputs: Any) -> Server:
    """Return ``mlflow models serve`` with a request per row."""
    port = find_free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model_uri]
    command += ["--env-manager", "local", "-p", str(port)]
    bodies = []
    for number in range(len(inputs)):
        row = json.loads(inputs.iloc[[number]].to_json(orient="split", index=False))
        bodies.append(json.dumps({"dataframe_split": row}).encode())
    store = find_store_file(project)
    tracking_uri = f"sqlite:///{store}" if store else project.config.tracking
    environment = {"MLFLOW_TRACKING_URI": tracking_uri}
    return Server(command, port, "/invocations", bodies, environment)


def print_row(title: str, cells: list[str]) -> None:
    """Print one line of the table."""
    print(f"{title:<22}" + "".join(f"{cell:>30}" for cell in cells))


def print_table(model_rate: float, results: dict[str, dict[int, Throughput]]) -> None:
    """Print the throughput of both servers, and their ratios."""
    print_row("", [f"{clients} clients" for clients in CLIENT_COUNTS])
    for name, throughputs in results.items():
        cells = []
        for rate, median_ms, p99_ms in throughputs.values():
            cells.append(f"{rate:,.0f}/s p50 {median_ms:.1f} p99 {p99_ms:.1f} ms")
        print_row(name, cells)
    ours, mlflow = results.values()
    rates = {clients: ours[clients].requests_per_second for clients in CLIENT_COUNTS}
    print_row("ours / the model alone", [f"{rate / model_rate:.2f} ×" for rate in rates.values()])
    ratios = [rates[clients] / mlflow[clients].requests_per_second for clients in CLIENT_COUNTS]
    print_row("ours / MLflow", [f"{ratio:.1f} ×" for ratio in ratios])


def main(root: str) -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        # The store of the models, in .mlops, is needed: it is not left out here.
        project_folder = loader.find_project_folder(root)
        copy = shutil.copytree(project_folder, Path(folder) / "copy", ignore=ignore_all_but_store)
        project = loader.load_project(copy)
        champion, model = versions.load_champion(project)
        history = source.read_source(project)
        rows = history.tail(ROWS).reset_index(drop=True)
        _, inputs = scoring.score_with_inputs(project, model, champion, rows, history)
        source_columns = [column for column in history if column != columns.ROW_ID]
        requested = rows[scoring.list_required_columns(project, source_columns)]
        del history
        model_rate = measure_model(model, inputs)
        servers = {
            "mlops serve": build_mlops_server(project, requested),
            "mlflow models serve": build_mlflow_server(project, champion.uri, inputs),
        }
        results = {name: measure_server(server) for name, server in servers.items()}
    print(
        f"{project.config.name} version {champion.version}; the model alone: "
        f"{model_rate:,.0f} rows/s, {1000 / model_rate:.2f} ms per row"
    )
    print_table(model_rate, results)


def ignore_all_but_store(folder: str, names: list[str]) -> set[str]:
    """Return the names that a copy of the project leaves out; it needs the store of the models."""
    return NOT_COPIED(folder, names) - {".mlops"}


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).parent.parent))
