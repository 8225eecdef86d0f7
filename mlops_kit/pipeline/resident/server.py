"""The resident fork server: it imports libraries, and forks fork servers and commands from itself.

It does what ``fork_server`` does, with the same restrictions (nothing is fitted, queried or drawn
in it, and it runs no thread), but for many runs one after another, of any project with the same
environment. Modules of projects and of plugins are never imported in it.

Every connection gets a process of its own, which the server forks and forgets: it may be killed at
any time, and what it has forked goes on. Before each fork it checks that no file which it has
imported was changed since; if one was, it ends.

``client`` starts it and connects to it.
"""

from __future__ import annotations

import atexit
import fcntl
import importlib
import importlib.util
import io
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn

from mlops_kit.core import import_tracer
from mlops_kit.pipeline import fork_server
from mlops_kit.pipeline.resident.address import list_interpreter_flags
from mlops_kit.pipeline.resident.imported_files import ImportedFiles
from mlops_kit.pipeline.resident.protocol import (
    CommandExit,
    ConnectionLostError,
    SessionKind,
    SessionReply,
    SessionRequest,
    SessionState,
    get_peer_user,
    receive_request,
    send_message,
)
from mlops_kit.project.plugins import ENTRY_POINT_GROUP

_PACKAGE = "mlops_kit"
_REQUEST_SECONDS = 5.0  # how long a client may take to send its request
_LOCK_SUFFIX = ".lock"


@dataclass(frozen=True)
class ServerParameters:
    """How a resident server is started.

    Attributes
    ----------
    listener : int
        File descriptor of the socket that listens for connections.
    path : str
        Path of the socket; removed at the end.
    idle_seconds : float
        How long to stay without work.
    modules : list of str
        Modules to import before the first fork; those after ``DEFERRED_MODULES_MARKER`` while
        there is nothing else to do.
    thread_starting_modules : list of str
        Modules not to import, because they start a thread.
    """

    listener: int
    path: str
    idle_seconds: float
    modules: list[str]
    thread_starting_modules: list[str] = field(default_factory=list)


class ResidentServer:
    """Imports modules, and forks a process for each connection.

    Parameters
    ----------
    parameters : ServerParameters
        How it was started.
    """

    def __init__(self, parameters: ServerParameters) -> None:
        self._parameters = parameters
        self._listener = socket.socket(fileno=parameters.listener)
        self._path = Path(parameters.path)
        self._inode = self._path.stat().st_ino
        self._idle_seconds = parameters.idle_seconds
        self._last_used = time.monotonic()
        self._files = ImportedFiles()
        self._excluded_packages = _list_plugin_packages()
        self._first_modules, deferred_modules = _split_modules(parameters.modules)
        self._pending_modules: list[str] = []
        self._known_modules: set[str] = {*self._first_modules, *parameters.thread_starting_modules}
        self._add_modules(deferred_modules)
        self._sessions: set[int] = set()
        self._wakeup_reader, self._wakeup_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> NoReturn:
        """Answer connections until there was nothing to do for long enough."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_writer, warn_on_full_buffer=False)
        for name in fork_server.KERNEL_MODULES:
            importlib.import_module(name)
        for name in self._first_modules:
            if self._is_allowed(name):
                self._import_module(name)
        self._freeze_memory()
        while True:
            self._reap_sessions()
            if self._has_connection():
                self._answer_connection()
            elif self._pending_modules and not self._sessions:
                self._import_module(self._pending_modules.pop(0))
                if not self._pending_modules:
                    self._freeze_memory()
            elif not self._sessions and self._get_remaining_seconds() <= 0:
                self._stop_listening()
                os._exit(0)

    def _has_connection(self) -> bool:
        """Return whether a client connects; wait for it if there is nothing else to do."""
        timeout: float | None = max(0.0, self._get_remaining_seconds())
        if self._sessions:
            timeout = None
        elif self._pending_modules:
            timeout = 0.0
        inputs = [self._listener.fileno(), self._wakeup_reader]
        readable, _, _ = select.select(inputs, [], [], timeout)
        if self._wakeup_reader in readable:
            with suppress(BlockingIOError):
                os.read(self._wakeup_reader, 4096)
        return self._listener.fileno() in readable

    def _get_remaining_seconds(self) -> float:
        """Return how long the server stays if nobody needs it."""
        return self._last_used + self._idle_seconds - time.monotonic()

    def _reap_sessions(self) -> None:
        """Forget the processes that have ended."""
        with suppress(ChildProcessError):
            while self._sessions:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                self._sessions.discard(pid)
                self._last_used = time.monotonic()

    def _answer_connection(self) -> None:
        """Answer one client."""
        connection, _ = self._listener.accept()
        descriptors: list[int] = []
        with connection:
            if get_peer_user(connection) != os.getuid():
                return
            connection.settimeout(_REQUEST_SECONDS)
            try:
                request, descriptors = receive_request(connection)
                self._answer_request(connection, request, descriptors)
            except (OSError, ConnectionLostError, ValueError, TypeError):
                traceback.print_exc()  # a client that ended or spoke another protocol
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def _answer_request(
        self, connection: socket.socket, request: SessionRequest, descriptors: list[int]
    ) -> None:
        """Fork the process that a client asks for."""
        if self._files.have_changed():
            self._stop_listening()
            send_message(connection, SessionReply(SessionState.OUTDATED))
            os._exit(0)
        self._last_used = time.monotonic()
        if request.idle_seconds:
            self._idle_seconds = request.idle_seconds
        pid = os.fork()
        if pid == 0:
            self._run_session(connection, request, descriptors)
        self._sessions.add(pid)
        self._add_modules(request.modules)

    def _run_session(
        self, connection: socket.socket, request: SessionRequest, descriptors: list[int]
    ) -> NoReturn:
        """Become the process that a client asked for, in the forked child."""
        self._listener.close()
        signal.set_wakeup_fd(-1)
        for descriptor in (self._wakeup_reader, self._wakeup_writer):
            os.close(descriptor)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        connection.setblocking(True)
        os.setsid()
        os.umask(request.umask)
        if request.kind == SessionKind.COMMAND:
            _run_command(connection, request, descriptors)
        _run_fork_server(connection, request)

    def _import_module(self, name: str) -> None:
        """Import a module for later forks; restart without it if it starts a thread."""
        starts_thread = fork_server.import_for_forks(name)
        self._files.record_new_modules()
        if starts_thread:
            self._restart(name)

    def _restart(self, thread_starting_module: str) -> NoReturn:
        """Replace this process by one that does not import a module; the socket stays."""
        excluded = [*self._parameters.thread_starting_modules, thread_starting_module]
        parameters = replace(
            self._parameters,
            idle_seconds=self._idle_seconds,
            modules=sorted(self._known_modules - set(excluded)),
            thread_starting_modules=excluded,
        )
        os.set_inheritable(parameters.listener, True)
        arguments = build_command(parameters)
        os.execv(sys.executable, arguments)  # noqa: S606 - a list of our own, no shell

    def _is_allowed(self, name: str) -> bool:
        """Return whether the server may import a module: that of a library."""
        return name.partition(".")[0] not in self._excluded_packages and _is_library(name)

    def _add_modules(self, names: list[str]) -> None:
        """Remember the libraries among some modules, to import them for later forks."""
        for name in names:
            if name in self._known_modules or name == fork_server.DEFERRED_MODULES_MARKER:
                continue
            self._known_modules.add(name)
            if self._is_allowed(name):
                self._pending_modules.append(name)

    def _freeze_memory(self) -> None:
        """Share the memory of all objects with the processes that are forked."""
        fork_server.freeze_memory()

    def _stop_listening(self) -> None:
        """Remove the socket, unless another server has taken its place."""
        with self._path.with_suffix(_LOCK_SUFFIX).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()


def _split_modules(names: list[str]) -> tuple[list[str], list[str]]:
    """Split modules into those to import first and those to import later."""
    first = names
    deferred: list[str] = []
    if fork_server.DEFERRED_MODULES_MARKER in names:
        split = names.index(fork_server.DEFERRED_MODULES_MARKER)
        first = names[:split]
        deferred = names[split + 1 :]
    return first, deferred


def _list_plugin_packages() -> set[str]:
    """List the packages of installed plugins."""
    points = entry_points(group=ENTRY_POINT_GROUP)
    return {point.value.partition(":")[0].partition(".")[0] for point in points}


def _is_library(name: str) -> bool:
    """Return whether a module belongs to Python, to this package or to an installed package.

    A package that is installed in place, from the folder of a project, does not count.
    """
    package = name.partition(".")[0]
    if package == _PACKAGE or package in sys.stdlib_module_names:
        return True
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    folders = [f"{folder}{os.sep}" for folder in spec.submodule_search_locations or ()]
    places = [*folders, spec.origin] if spec.origin else folders
    return bool(places) and not any(map(import_tracer.is_local_module_file, places))


def _run_fork_server(connection: socket.socket, request: SessionRequest) -> NoReturn:
    """Serve one run as its fork server, over the connection."""
    os.environ.clear()
    os.environ.update(request.environment)
    send_message(connection, SessionReply(SessionState.READY, os.getpid()))
    for target in (0, 1):
        os.dup2(connection.fileno(), target)
    connection.close()
    fork_server.serve_requests(request.modules)


def _run_command(
    connection: socket.socket, request: SessionRequest, descriptors: list[int]
) -> NoReturn:
    """Run a command as if the client had run it, and tell the client its exit code."""
    exit_code = 1
    try:
        _take_over_process(request, descriptors)
        send_message(connection, SessionReply(SessionState.READY, os.getpid()))
        listener = threading.Thread(target=_obey_client, args=(connection,), daemon=True)
        listener.start()
        module, _, name = request.call.partition(":")
        getattr(importlib.import_module(module), name)()
        exit_code = 0
    except SystemExit as error:
        exit_code = _convert_exit_code(error)
    except BaseException:  # the last frame of this process: show the error and end
        traceback.print_exc()
    finally:
        # As at the regular end of an interpreter.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        with suppress(OSError):
            send_message(connection, CommandExit(exit_code))
        os._exit(exit_code)


def _take_over_process(request: SessionRequest, descriptors: list[int]) -> None:
    """Take over the client's streams, environment, folder and arguments."""
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.cwd)
    sys.argv = list(request.arguments)
    sys.path[:] = request.path
    _open_streams()
    if "numpy" in sys.modules:  # Python's own generator is reseeded after a fork
        sys.modules["numpy"].random.seed()


def _open_streams() -> None:
    """Open the standard streams as Python does at its start."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        mode = "w" if descriptor else "r"
        file = io.FileIO(descriptor, mode, closefd=False)
        model = getattr(sys, name)
        stream = io.TextIOWrapper(
            io.BufferedWriter(file) if descriptor else io.BufferedReader(file),
            encoding=model.encoding,
            errors=model.errors,
            line_buffering=name == "stderr" or file.isatty(),
            write_through=bool(os.environ.get("PYTHONUNBUFFERED")),
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _obey_client(connection: socket.socket) -> None:
    """Deliver the signals that the client receives; end with it."""
    for line in connection.makefile("rb"):
        os.kill(os.getpid(), json.loads(line)["signal"])
    os.kill(os.getpid(), signal.SIGKILL)


def _convert_exit_code(error: SystemExit) -> int:
    """Convert what ``sys.exit`` was given as Python does at the end of an interpreter."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def build_command(parameters: ServerParameters) -> list[str]:
    """Build the command that starts a server."""
    return [
        sys.executable,
        *list_interpreter_flags(),
        "-c",
        f"from {__name__} import run_resident_server; run_resident_server()",
        json.dumps(asdict(parameters)),
    ]


def run_resident_server() -> None:
    """Run the server; its only argument holds the parameters as JSON."""
    import_tracer.install_import_hooks()
    ResidentServer(ServerParameters(**json.loads(sys.argv[1]))).serve()
