"""How quick the endpoint is beside the model alone and beside MLflow's own server, for 1, 4 and 16 clients.

    python bench/serve.py [PROJECT]

Copies a project that has a champion (default: this folder), starts ``mlops serve`` on the copy and asks
about one of the source's newest rows a request, for some seconds at each number of clients; every answer stands in
the log before it leaves. Then the same of ``mlflow models serve``, which is given the finished features and
keeps no log. The limit is one process that calls the model alone, row after row. All shares two cores with
the client, which reads each answer to its Content-Length.
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
from typing import Any

import numpy as np

from mlops_kit.data import columns, source
from mlops_kit.project import loader
from mlops_kit.registry import scoring, versions
from mlops_kit.registry.store import find_store_file

SECONDS = 4
CLIENTS = (1, 4, 16)
ROWS = 200
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "reports", "__pycache__", "*_cache", "docs", "tests"
)


def asker(port: int, path: str, bodies: list[bytes], until: float, took: list[float]) -> None:
    """One client: asks until the time is over, and notes how long each answer took."""
    heads = [
        f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(b)}\r\n\r\n".encode()
        + b
        for b in bodies
    ]
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        count = 0
        while (begin := time.perf_counter()) < until:
            line.sendall(heads[count % len(heads)])
            count += 1
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += line.recv(65536)
            head, _, rest = answer.partition(b"\r\n\r\n")
            assert b" 200 " in head.split(b"\r\n")[0], answer[:500]
            left = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]) - len(rest)
            while left > 0:
                left -= len(line.recv(left))
            took.append(time.perf_counter() - begin)


def load(port: int, path: str, bodies: list[bytes], clients: int) -> tuple[float, float, float]:
    """Requests a second, and the median and 99th percentile in milliseconds."""
    took: list[list[float]] = [[] for _ in range(clients)]
    until = time.perf_counter() + SECONDS
    threads = [
        threading.Thread(target=asker, args=(port, path, bodies[i::clients], until, took[i]))
        for i in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = np.concatenate(took)
    return (
        len(found) / SECONDS,
        1000 * float(np.median(found)),
        1000 * float(np.quantile(found, 0.99)),
    )


def free() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def served(
    command: list[str], port: int, path: str, bodies: list[bytes], env: dict[str, str]
) -> dict[int, tuple[float, float, float]]:
    """What a server reaches at each number of clients; it is started and stopped."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **env},
        start_new_session=True,
    )
    try:
        for _ in range(240):
            try:
                asker(port, path, bodies, time.perf_counter() + 0.2, [])
                break
            except (OSError, AssertionError, IndexError):
                time.sleep(0.5)
        else:
            raise SystemExit(f"{' '.join(command[-6:])} never answered")
        return {n: load(port, path, bodies, n) for n in CLIENTS}
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def limit(model: Any, inputs: Any) -> float:
    """Rows a second of the model alone, one after the other."""
    call, begin, count = getattr(model, "predict_proba", model.predict), time.perf_counter(), 0
    while time.perf_counter() - begin < SECONDS:
        call(inputs.iloc[[count % len(inputs)]])
        count += 1
    return count / SECONDS


def main(root: str) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        project = loader.load_project(
            shutil.copytree(
                loader.find_project_folder(root), Path(folder) / "copy", ignore=LEFT_OUT
            )
        )
        champion, model = versions.load_champion(project)
        history = source.read_source(project)
        rows = history.tail(ROWS).reset_index(drop=True)
        _, inputs = scoring.score_with_inputs(project, model, champion, rows, history)
        asked = json.loads(
            rows[
                scoring.list_required_columns(project, [c for c in history if c != columns.ROW_ID])
            ].to_json(orient="records", date_format="iso")
        )
        ours = [json.dumps({"rows": [row]}).encode() for row in asked]
        theirs = [
            json.dumps(
                {
                    "dataframe_split": json.loads(
                        inputs.iloc[[i]].to_json(orient="split", index=False)
                    )
                }
            ).encode()
            for i in range(len(inputs))
        ]
        del history
        most, port, other = limit(model, inputs), free(), free()
        store = find_store_file(project)
        found = {
            "mlops serve": served(
                [
                    sys.executable,
                    "-m",
                    "mlops_kit.cli",
                    "serve",
                    "--project",
                    str(project.root),
                    "--port",
                    str(port),
                ],
                port,
                "/predict",
                ours,
                {},
            ),
            "mlflow models serve": served(
                [
                    sys.executable,
                    "-m",
                    "mlflow",
                    "models",
                    "serve",
                    "-m",
                    champion.uri,
                    "--env-manager",
                    "local",
                    "-p",
                    str(other),
                ],
                other,
                "/invocations",
                theirs,
                {"MLFLOW_TRACKING_URI": f"sqlite:///{store}" if store else project.config.tracking},
            ),
        }
    print(
        f"{project.config.name} version {champion.version}; the model alone: {most:,.0f} rows/s, {1000 / most:.2f} ms a row"
    )
    print(f"{'':<22}" + "".join(f"{f'{n} clients':>30}" for n in CLIENTS))
    for name, got in found.items():
        print(
            f"{name:<22}"
            + "".join(
                f"{f'{rate:,.0f}/s p50 {mid:.1f} p99 {late:.1f} ms':>30}"
                for rate, mid, late in got.values()
            )
        )
    mine, mlflow = found.values()
    print(
        f"{'ours / the model alone':<22}"
        + "".join(f"{f'{mine[n][0] / most:.2f} ×':>30}" for n in CLIENTS)
    )
    print(
        f"{'ours / MLflow':<22}"
        + "".join(f"{f'{mine[n][0] / mlflow[n][0]:.1f} ×':>30}" for n in CLIENTS)
    )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).parent.parent))
