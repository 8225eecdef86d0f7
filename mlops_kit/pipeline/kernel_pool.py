"""Kernels of the running interpreter, over IPC, each in a process group of its own.

A warm kernel is forked from the fork server (``fork_server``), which has already imported the
modules that the notebooks need; a plain kernel is a new interpreter. The sockets of each kernel are
in a private folder with a short path: a path over about 107 bytes fails, and kernels that share a
folder would race for socket names.

To add an environment variable for kernels: ``build_kernel_environment``.
"""

from __future__ import annotations

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

from mlops_kit.core.environment import (
    DEBUGGER_ENVIRONMENT_VARIABLES,
    DEFAULT_ENVIRONMENT_VARIABLES,
)
from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.extras import import_from_extra, require_extra
from mlops_kit.pipeline import preloaded_modules
from mlops_kit.pipeline.fork_server import (
    FORK_SERVER_SCRIPT,
    ChildRequest,
)
from mlops_kit.pipeline.resident import client
from mlops_kit.pipeline.shell_errors import SHELL_ERRORS_VARIABLE
from mlops_kit.project.loader import Project


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
        **DEBUGGER_ENVIRONMENT_VARIABLES,
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
            env={**DEFAULT_ENVIRONMENT_VARIABLES, **DEBUGGER_ENVIRONMENT_VARIABLES, **os.environ},
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
        self.server = client.open_fork_server(names, resident_idle) or OwnForkServer(names)
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


def start_resident_server(project: Project) -> None:
    """Start the resident server for the runs of a project, unless it is switched off."""
    modules = preloaded_modules.list_modules_to_preload(project, project.config.stages)
    client.start_server(modules, _get_idle_time(project))


def start_fork_server(project: Project, stages: list[str]) -> ForkServer:
    """Start the fork server for the kernels of some stages, unless there is one already."""
    modules = preloaded_modules.list_modules_to_preload(project, stages)
    return get_fork_server(modules, _get_idle_time(project))


def _get_idle_time(project: Project) -> timedelta:
    """Return how long a resident server stays without work; 0 if the project uses none."""
    settings = project.config.run
    return settings.idle if settings.kernels == "warm" else timedelta(0)


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
