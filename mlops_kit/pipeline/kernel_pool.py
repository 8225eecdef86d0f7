"""Kernels of the running interpreter, over IPC, each in a process group of its own.

A warm kernel is forked from the fork server (``fork_server``), which has already imported the
modules that the notebooks need; a plain kernel is a new interpreter. The sockets of each kernel are
in a private folder with a short path: a path over about 107 bytes fails, and kernels that share a
folder would race for socket names.

To add an environment variable for kernels: ``build_kernel_environment``.
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
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, cast

from mlops_kit import find_public_module
from mlops_kit.core.environment import DEFAULT_ENVIRONMENT_VARIABLES
from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.extras import import_from_extra, require_extra
from mlops_kit.pipeline.fork_server import (
    DEFERRED_MODULES_MARKER,
    FORK_SERVER_SCRIPT,
    ChildRequest,
)
from mlops_kit.pipeline.resident.client import open_fork_server
from mlops_kit.pipeline.shell_errors import SHELL_ERRORS_VARIABLE
from mlops_kit.project import notebook_cells
from mlops_kit.project.loader import Project

# Without this the debugger warns about frozen modules.
_DEBUGGER_ENVIRONMENT = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
# What the notebooks' handle of their stage needs.
STAGE_HANDLE_MODULES = (
    "pandas",
    "pyarrow.parquet",
    "IPython.display",
)
# What the end of a run needs.
END_OF_RUN_MODULES = (
    "jinja2",
    "nbconvert",
    "mlflow",
    "mlflow.sklearn",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "skops.io",
)
_CHART_MODULES = ("altair", "vl_convert")
_MODEL_MODULES = (
    "sklearn.ensemble",
    "sklearn.pipeline",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "scipy.stats",
    "joblib",
)
# What each notebook imports that takes a module of the package. What it imports for some tables
# only (skrub for text and dates, scikit-learn to split rows without timestamps) is left to it.
_LIBRARIES_BY_MODULE: dict[str, tuple[str, ...]] = {
    "mlops_kit.core.charts": _CHART_MODULES,
    "mlops_kit.data.features": ("duckdb",),
    "mlops_kit.registry.comparison": _MODEL_MODULES,
    "mlops_kit.registry.scoring": _MODEL_MODULES,
    "mlops_kit.stages.explore": ("pyarrow.dataset", "scipy.stats"),
    "mlops_kit.stages.prepare": ("pyarrow.dataset", "scipy.stats", "pandera.pandas"),
    "mlops_kit.stages.train": (*_MODEL_MODULES, "optuna", "lightgbm"),
    "mlops_kit.stages.review": _MODEL_MODULES,
    "mlops_kit.stages.deploy": ("pyarrow.dataset", *_MODEL_MODULES),
    "mlops_kit.stages.monitor": ("pyarrow.dataset", "scipy.stats", "sklearn.metrics"),
    "mlops_kit.stages.retrain": ("scipy.stats", "sklearn.metrics"),
}
_PACKAGE = "mlops_kit"
_STAGE_MODULE = "mlops_kit.stages.stage"
_STAGE_HANDLE_NAMES = ("mlops_kit.stages.open_stage", "mlops_kit.stages.Stage")


def build_kernel_environment(
    run: Path,
    root: Path,
    shell_errors: str = "fail",
) -> dict[str, str]:
    """Build the environment of a stage's kernel.

    Parameters
    ----------
    run : Path
        Folder of the run.
    root : Path
        Folder of the project.
    shell_errors : str
        What a failing shell command does, as in ``stages.NAME.shell_errors``.
    """
    run_variables = {
        "MLOPS_RUN": str(run),
        "MLOPS_PROJECT": str(root),
        SHELL_ERRORS_VARIABLE: shell_errors,
    }
    return {
        **DEFAULT_ENVIRONMENT_VARIABLES,
        **os.environ,
        **run_variables,
        **_DEBUGGER_ENVIRONMENT,
    }


class ForkedProcess:
    """A process that the fork server started, with the interface of ``subprocess.Popen``."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.ended = threading.Event()

    def record_exit(self, exit_code: int) -> None:
        """Record how the process ended, as the fork server reports it."""
        self.returncode = exit_code
        self.ended.set()

    def poll(self) -> int | None:
        """Return the exit code (negative for a signal), None while the process runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the process has ended or ``timeout`` seconds have passed."""
        self.ended.wait(timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process group."""
        if self.returncode is not None:
            return
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def kill(self) -> None:
        """Kill the process group."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask the process group to end."""
        self.send_signal(signal.SIGTERM)


@dataclass
class _PendingRequest:
    """A request to the fork server; ``child`` stays None if the fork server ends first."""

    answered: threading.Event = field(default_factory=threading.Event)
    child: ForkedProcess | None = None


class OwnForkServer:
    """A fork server that this process has started.

    Parameters
    ----------
    module_names : list of str
        Modules that it imports.
    """

    def __init__(self, module_names: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORK_SERVER_SCRIPT, json.dumps(module_names)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**DEFAULT_ENVIRONMENT_VARIABLES, **_DEBUGGER_ENVIRONMENT, **os.environ},
            cwd="/",
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.requests = cast("IO[bytes]", self._process.stdin)
        self.replies = cast("IO[bytes]", self._process.stdout)

    def close(self) -> None:
        """End the fork server, and wait until it has ended."""
        self.requests.close()
        self._process.wait()


class ForkServer:
    """A fork server that belongs to this process.

    It is forked from the resident server, or a process of its own where there can be none.

    Parameters
    ----------
    module_names : iterable of str
        Modules to import before the first fork; after ``DEFERRED_MODULES_MARKER``, later.
    resident_idle : timedelta
        How long the resident server stays without work; 0 to do without it.

    Attributes
    ----------
    pid : int
        Process id of the fork server.
    is_closed : bool
        Whether it has ended.
    """

    def __init__(
        self, module_names: Iterable[str] = (), resident_idle: timedelta = timedelta(0)
    ) -> None:
        names = list(module_names)
        self.server = open_fork_server(names, resident_idle) or OwnForkServer(names)
        self.pid = self.server.pid
        self.request_numbers = itertools.count()
        self.lock = threading.Lock()
        self.is_closed = False
        self.pending_requests: dict[int, _PendingRequest] = {}
        self.children: dict[int, ForkedProcess] = {}
        self.reader_thread = threading.Thread(
            target=self.read_replies,
            daemon=True,
            name="fork-server-replies",
        )
        self.reader_thread.start()

    def read_replies(self) -> None:
        """Process the replies of the fork server until it ends."""
        for line in self._iterate_replies():
            reply = json.loads(line)
            if "id" in reply:
                child = ForkedProcess(reply["pid"])
                self.children[child.pid] = child
                request = self.pending_requests.pop(reply["id"])
                request.child = child
                request.answered.set()
            elif reply["pid"] in self.children:
                self.children.pop(reply["pid"]).record_exit(reply["status"])
        self.server.replies.close()
        for child in self.children.values():
            child.record_exit(-signal.SIGKILL)
        with self.lock:  # later requests fail at once
            self.is_closed = True
            for request in self.pending_requests.values():
                request.answered.set()

    def _iterate_replies(self) -> Iterator[bytes]:
        """Yield the replies until the fork server ends."""
        with suppress(ConnectionResetError):  # it was killed
            yield from self.server.replies

    def start_child(self, request: ChildRequest) -> ForkedProcess:
        """Start a child and wait until it exists.

        Raises
        ------
        RunFailedError
            If the fork server has ended.
        """
        pending = _PendingRequest()
        with self.lock:
            number = next(self.request_numbers)
            self.pending_requests[number] = pending
            try:
                self.server.requests.write(replace(request, id=number).to_line())
                self.server.requests.flush()
            except OSError:
                pending.answered.set()
            if self.is_closed:
                pending.answered.set()
        pending.answered.wait()
        if pending.child is None:
            raise RunFailedError(
                "the fork server, from which kernels are started, has ended",
                "a fork server that lives as long as the run",
                "mlops resume continues the run; mlops run --cold needs no fork server",
            )
        return pending.child

    def call_function(self, function: str, *args: Any, cwd: str, log: str) -> Any:
        """Call a function in a forked process and return its result.

        Parameters
        ----------
        function : str
            The function, as ``module:function``.
        *args
            Its arguments. JSON must be able to represent them and the result.
        cwd, log : str
            Working directory of the process, and file for its output.

        Raises
        ------
        RunFailedError
            If the process fails; the log shows why.
        """
        with tempfile.TemporaryDirectory(prefix="mk-") as folder:
            answer = Path(folder) / "answer.json"
            request = ChildRequest(
                cwd=cwd,
                env={**DEFAULT_ENVIRONMENT_VARIABLES, **os.environ},
                log=log,
                call=function,
                args=list(args),
                answer=str(answer),
            )
            child = self.start_child(request)
            if child.wait() == 0:
                return json.loads(answer.read_text(encoding="utf-8"))
        log_lines = Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise RunFailedError(
            f"{function} ended with exit code {child.returncode}: "
            f"{log_lines[-1] if log_lines else 'its log is empty'}",
            "exit code 0",
            f"see {log}",
        )

    def close(self) -> None:
        """End the fork server and all processes that it has started."""
        self.server.close()
        self.reader_thread.join()


_fork_server: ForkServer | None = None
_fork_server_lock = threading.Lock()
keep_fork_server = False  # whether it outlives a run, for a process that makes many runs


def get_fork_server(
    module_names: Iterable[str] = (), resident_idle: timedelta = timedelta(0)
) -> ForkServer:
    """Return the fork server of this process; start it with these modules if there is none.

    Parameters
    ----------
    module_names : iterable of str
        Modules that it imports.
    resident_idle : timedelta
        As of ``ForkServer``.

    Raises
    ------
    MissingExtraError
        If the libraries that run notebooks are not installed.
    """
    global _fork_server
    with _fork_server_lock:
        if _fork_server is None or _fork_server.is_closed:
            require_extra("train")
            _fork_server = ForkServer(module_names, resident_idle)
        return _fork_server


def release_fork_server() -> None:
    """End the fork server of this process, unless it is kept for the next run."""
    global _fork_server
    with _fork_server_lock:
        if _fork_server is not None and not keep_fork_server:
            _fork_server.close()
            _fork_server = None


def list_modules_to_preload(project: Project, stages: Iterable[str]) -> list[str]:
    """List the modules that the notebooks of some stages will import.

    Those that the notebooks name come first. Modules of the project are not imported ahead: they
    may change while the fork server lives.
    """
    imported: dict[str, None] = {}
    for stage in stages:
        for cell in notebook_cells.load_code_cells(project.get_notebook_path(stage)):
            imported |= dict.fromkeys(_list_imported_modules(cell["source"]))
    project_modules = {path.stem for path in project.root.iterdir()}
    package_modules: list[str] = []
    library_modules: list[str] = []
    for name in imported:
        if name.startswith(_PACKAGE):
            package_modules.append(name)
        elif name.partition(".")[0] not in project_modules:
            library_modules.append(name)
    used_libraries: dict[str, None] = {}
    for name in package_modules:
        used_libraries |= dict.fromkeys(_LIBRARIES_BY_MODULE.get(name, ()))
    return [
        *library_modules,
        *(STAGE_HANDLE_MODULES if package_modules else ()),
        *package_modules,
        *used_libraries,
        DEFERRED_MODULES_MARKER,
        *END_OF_RUN_MODULES,
    ]


def _list_imported_modules(source: str) -> list[str]:
    """List the modules that a cell imports; none if the cell is not plain Python."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return []
    modules: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules += _list_from_imports(node.module, [alias.name for alias in node.names])
    return modules


def _list_from_imports(module: str, names: list[str]) -> list[str]:
    """List the modules behind ``from module import names``; of the package, its submodules."""
    if not module.startswith(_PACKAGE):
        return [module]
    if module == _PACKAGE:
        return [find_public_module(name) for name in names]
    qualified = [f"{module}.{name}" for name in names]
    return [_STAGE_MODULE if name in _STAGE_HANDLE_NAMES else name for name in qualified]


def create_kernel_manager(folder: Path, log: str, plain: bool) -> Any:
    """Create the manager of a kernel that the fork server starts.

    Parameters
    ----------
    folder : Path
        A folder of its own, for the connection file and the sockets.
    log : str
        File for the kernel's standard error.
    plain : bool
        Start a new interpreter instead of forking.
    """
    with import_from_extra("train"):
        import zmq
        from jupyter_client.kernelspec import KernelSpec
        from jupyter_client.manager import AsyncKernelManager
        from jupyter_client.provisioning.local_provisioner import LocalProvisioner

    connection = folder / "k.json"

    class ForkServerProvisioner(LocalProvisioner):
        """Starts a kernel through the fork server."""

        async def launch_kernel(
            self,
            cmd: list[str],  # noqa: ARG002 - the interface has it; the fork server needs no command
            **options: Any,
        ) -> Any:
            """Start the kernel."""
            request = ChildRequest(
                cwd=options.get("cwd") or os.getcwd(),
                env=options["env"],
                log=log,
                connection=str(connection),
                plain=plain,
            )
            child = get_fork_server().start_child(request)
            self.process = child  # type: ignore[assignment]
            self.pid = child.pid
            self.pgid = child.pid
            return self.connection_info

    class ForkServerKernelManager(AsyncKernelManager):
        """Uses that provisioner, whatever provisioners are installed."""

        async def _async_pre_start_kernel(self, **options: Any) -> Any:
            if self.provisioner is None:
                self.provisioner = ForkServerProvisioner(
                    kernel_id=self.kernel_id,
                    kernel_spec=self.kernel_spec,
                    parent=self,
                )
            return await super()._async_pre_start_kernel(**options)

    manager = ForkServerKernelManager(
        transport="ipc",
        connection_file=str(connection),
        kernel_name="python3",
    )
    manager.context.setsockopt(zmq.RCVHWM, 0)  # no limit, as on the kernel's side
    manager._kernel_spec = KernelSpec(
        argv=[sys.executable],
        language="python",
        display_name="Python 3",
    )
    return manager
