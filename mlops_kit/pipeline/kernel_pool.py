"""Kernels of the running interpreter, over IPC, each in a process group of its own: warm, or plain.

A warm kernel is forked from the nursery (``nursery.py``), which has the imports already; a plain one is a
Python of its own. Sockets stand in a private short folder for each kernel: a path over about 107 bytes
fails, and without a connection file of its own the sockets would be raced for.

To add to what a kernel gets: ``environment`` below.
"""

from __future__ import annotations

import ast
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlops_kit.core.environment import DEFAULT_ENVIRONMENT_VARIABLES
from mlops_kit.core.errors import RunFailedError
from mlops_kit.pipeline.fork_server import DEFERRED_MODULES_MARKER, FORK_SERVER_SCRIPT
from mlops_kit.project import notebook_cells
from mlops_kit.project.loader import Project

_DEBUGGER_ENVIRONMENT = {
    "PYDEVD_DISABLE_FILE_VALIDATION": "1"
}  # the debugger warns of frozen modules otherwise
STAGE_HANDLE_MODULES = (
    "pandas",
    "pyarrow.parquet",
    "IPython.display",
)  # what a stage's handle needs
END_OF_RUN_MODULES = (
    "jinja2",
    "nbconvert",
    "mlflow",
    "mlflow.sklearn",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "skops.io",
)  # what the end of a run needs
# What the notebooks of the seven stages import sooner or later, and most own ones too.
NOTEBOOK_MODULES = (
    "pandas",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "sklearn.ensemble",
    "sklearn.pipeline",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "scipy.stats",
    "duckdb",
    "altair",
    "vl_convert",
    "optuna",
    "lightgbm",
    "skrub",
    "IPython.display",
    "joblib",
)


def build_kernel_environment(run: Path, root: Path) -> dict[str, str]:
    """The environment of a stage's kernel: where its run stands, no telemetry, no debugger's warnings."""
    own = {"MLOPS_RUN": str(run), "MLOPS_PROJECT": str(root), **_DEBUGGER_ENVIRONMENT}
    return {**DEFAULT_ENVIRONMENT_VARIABLES, **os.environ, **own}


class ForkedProcess:
    """A process that the nursery has forked, as ``subprocess.Popen`` shows one."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid, self.returncode = pid, None
        self.ended = threading.Event()

    def record_exit(self, status: int) -> None:
        """The nursery says how it ended."""
        self.returncode = status  # type: ignore[assignment]
        self.ended.set()

    def poll(self) -> int | None:
        """Its exit code (a signal's number is negative), or None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until it has ended."""
        self.ended.wait(timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to it and all that it has started."""
        if self.returncode is None:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                return

    def kill(self) -> None:
        """Kill its whole group."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask its whole group to end."""
        self.send_signal(signal.SIGTERM)


class ForkServer:
    """A nursery of this process, started when the first kernel is asked for."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        command = [sys.executable, "-c", FORK_SERVER_SCRIPT, json.dumps(list(names))]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**DEFAULT_ENVIRONMENT_VARIABLES, **_DEBUGGER_ENVIRONMENT, **os.environ},
            cwd="/",
            start_new_session=True,
        )
        self.request_numbers, self.lock = itertools.count(), threading.Lock()
        self.is_closed = False
        self.pending_requests: dict[int, tuple[threading.Event, list[ForkedProcess]]] = {}
        self.children: dict[int, ForkedProcess] = {}
        self.reader_thread = threading.Thread(target=self.read_replies, daemon=True, name="nursery")
        self.reader_thread.start()

    def read_replies(self) -> None:
        """Take in what the nursery says, until it has gone."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if "id" in said:
                event, found = self.pending_requests.pop(said["id"])
                self.children[said["pid"]] = child = ForkedProcess(said["pid"])
                found.append(child)
                event.set()
            elif "status" in said and (gone := self.children.pop(said["pid"], None)):
                gone.record_exit(said["status"])
        self.process.stdout.close()
        for child in self.children.values():
            child.record_exit(-signal.SIGKILL)
        with self.lock:  # who asks later is told at once
            self.is_closed = True
            for event, _ in self.pending_requests.values():
                event.set()

    def start_child(self, cwd: str, env: dict[str, str], log: str, **what: Any) -> ForkedProcess:
        """Ask for a child and wait until it is there.

        Raises
        ------
        RunFailed
            If the nursery has gone.
        """
        event = threading.Event()
        found: list[ForkedProcess] = []
        with self.lock:
            number = next(self.request_numbers)
            self.pending_requests[number] = (event, found)
            try:
                assert self.process.stdin is not None
                self.process.stdin.write(
                    json.dumps({"id": number, "cwd": cwd, "env": env, "log": log, **what}).encode()
                    + b"\n"
                )
                self.process.stdin.flush()
            except OSError:
                event.set()
            if self.is_closed:
                event.set()
        event.wait()
        if not found:
            raise RunFailedError(
                "the process that kernels are forked from has gone",
                "one that lives as long as the run",
                "mlops run goes on where it stopped; with --cold it needs none",
            )
        return found[0]

    def call_function(self, function: str, *args: Any, cwd: str, log: str) -> Any:
        """Run ``module:function`` in a fork, and return what it returned (JSON can hold it).

        Raises
        ------
        RunFailed
            If it ended badly; the log says how.
        """
        with tempfile.TemporaryDirectory(prefix="mk-") as folder:
            answer = Path(folder) / "answer.json"
            child = self.start_child(
                cwd,
                {**DEFAULT_ENVIRONMENT_VARIABLES, **os.environ},
                log,
                call=function,
                args=list(args),
                answer=str(answer),
            )
            if child.wait() == 0:
                return json.loads(answer.read_text(encoding="utf-8"))
        told = Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise RunFailedError(
            f"{function} ended with {child.returncode}: {told[-1] if told else 'it said nothing'}",
            "an end without an error",
            f"see {log}",
        )

    def close(self) -> None:
        """Let it go, with all that it has forked."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.reader_thread.join()


_fork_server: ForkServer | None = None
_fork_server_lock = threading.Lock()
keep_fork_server = False  # whether the nursery outlives a run: for a process that makes many


def get_fork_server(names: Iterable[str] = ()) -> ForkServer:
    """The nursery of this process, with these modules imported if it has to be started."""
    global _fork_server
    with _fork_server_lock:
        if _fork_server is None or _fork_server.process.poll() is not None:
            _fork_server = ForkServer(names)
        return _fork_server


def release_fork_server() -> None:
    """Let the nursery of this process go, unless it is to be kept for the next run."""
    global _fork_server
    with _fork_server_lock:
        if _fork_server is not None and not keep_fork_server:
            _fork_server.close()
            _fork_server = None


def list_modules_to_preload(project: Project, stages: Iterable[str]) -> list[str]:
    """The modules that some stages' notebooks will import, those that they name themselves first; none of the project's own."""
    named: dict[str, None] = {}
    for stage in stages:
        for cell in notebook_cells.load_code_cells(project.get_notebook_path(stage)):
            named |= dict.fromkeys(_list_imported_modules(cell["source"]))
    own = {p.stem for p in project.root.iterdir()}
    ours = [n for n in named if n.startswith("mlops_kit")]
    theirs = [n for n in named if n not in ours and n.partition(".")[0] not in own]
    rooms = set(ours) - {"mlops_kit", "mlops_kit.stages.stage", "mlops_kit.core.errors"}
    return [
        *theirs,
        *(STAGE_HANDLE_MODULES if ours else ()),
        *ours,
        *(NOTEBOOK_MODULES if rooms else ()),
        DEFERRED_MODULES_MARKER,
        *END_OF_RUN_MODULES,
    ]


def _list_imported_modules(source: str) -> list[str]:
    """The modules that a cell names in its imports; none of a cell that is not plain Python."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return []
    plain = [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
    return plain + [
        f"{n.module}.{a.name}" if n.module.startswith("mlops_kit") else n.module
        for n in nodes
        if isinstance(n, ast.ImportFrom) and n.module and not n.level
        for a in n.names
    ]


def create_kernel_manager(folder: Path, log: str, plain: bool) -> Any:
    """A kernel manager whose kernels the nursery starts, with its connection file in a folder of its own."""
    import zmq
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_client.provisioning.local_provisioner import LocalProvisioner

    connection = folder / "k.json"

    class Provisioner(LocalProvisioner):
        """Starts a kernel by asking the nursery."""

        async def launch_kernel(self, cmd: list[str], **given: Any) -> Any:
            """Ask for the kernel."""
            started = get_fork_server().start_child(
                given.get("cwd") or os.getcwd(),
                given["env"],
                log,
                connection=str(connection),
                plain=plain,
            )
            self.process, self.pid, self.pgid = started, started.pid, started.pid  # type: ignore[assignment]
            return self.connection_info

    class Manager(AsyncKernelManager):
        """Takes that provisioner, whatever is installed beside it."""

        async def _async_pre_start_kernel(self, **given: Any) -> Any:
            if self.provisioner is None:
                self.provisioner = Provisioner(
                    kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self
                )
            return await super()._async_pre_start_kernel(**given)

    made = Manager(transport="ipc", connection_file=str(connection), kernel_name="python3")
    made.context.setsockopt(zmq.RCVHWM, 0)  # as the kernel's side
    made._kernel_spec = KernelSpec(
        argv=[sys.executable], language="python", display_name="Python 3"
    )
    return made
