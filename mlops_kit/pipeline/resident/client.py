"""Use the resident server: hand over a command, or get a fork server for a run.

Whatever goes wrong with the server, the caller gets None and does without it.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import IO, Any

from mlops_kit.core.environment import (
    DEBUGGER_ENVIRONMENT_VARIABLES,
    DEFAULT_ENVIRONMENT_VARIABLES,
)
from mlops_kit.pipeline.resident.address import (
    find_private_folder,
    find_socket_path,
    select_inherited_variables,
)
from mlops_kit.pipeline.resident.protocol import (
    STREAM_COUNT,
    CommandSignal,
    SessionKind,
    SessionReply,
    SessionRequest,
    SessionState,
    get_peer_user,
    send_message,
)

_START_SECONDS = 120.0  # importing the libraries takes seconds, on a slow machine many
_FORWARDED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_KILLED_EXIT_CODE = 128 + signal.SIGKILL
_BACKLOG = 64
_LOCK_SUFFIX = ".lock"
_LOG_SUFFIX = ".log"
_RECORD_SUFFIX = ".json"
_UMASK_FIELD = "Umask:"
# Kept until they end: Python warns about a process that runs when its object is deleted.
_started_servers: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class ServerRecord:
    """A resident server of this user, as stored beside its socket.

    Attributes
    ----------
    pid : int
        Its process id.
    idle_seconds : float
        How long it stays without work, as it was started.
    """

    pid: int
    idle_seconds: float


class ForkServerSession:
    """A fork server that the resident server has forked for this process.

    Parameters
    ----------
    connection : socket
        The connection to it.
    pid : int
        Its process id.
    replies : file
        What it sends.

    Attributes
    ----------
    requests : file
        What is sent to it.
    """

    def __init__(self, connection: socket.socket, pid: int, replies: IO[bytes]) -> None:
        self._connection = connection
        self.pid = pid
        self.requests = connection.makefile("wb")
        self.replies = replies

    def close(self) -> None:
        """End the fork server; the end of its replies tells that it has ended."""
        with suppress(OSError):  # it has ended already
            self._connection.shutdown(socket.SHUT_WR)


def is_available() -> bool:
    """Return whether this process may use a resident server.

    Not on a system for continuous integration, which waits for or kills the processes that a job
    leaves behind, and not while the interpreter is traced, since a forked process is not.
    """
    is_traced = sys.gettrace() is not None or sys.getprofile() is not None
    return sys.platform == "linux" and not os.environ.get("CI") and not is_traced


def open_fork_server(modules: list[str], idle: timedelta) -> ForkServerSession | None:
    """Get a fork server from the resident server, which is started if there is none.

    Parameters
    ----------
    modules : list of str
        Modules that it imports.
    idle : timedelta
        How long the resident server stays without work.

    Returns
    -------
    ForkServerSession or None
        None if there can be no resident server, or if it does not answer.
    """
    path = find_socket_path() if is_available() and idle else None
    if path is None:
        return None
    try:
        return _open_session(path, modules, idle)
    except OSError:  # no space, no more files, a server that ends meanwhile
        return None


def _open_session(path: Path, modules: list[str], idle: timedelta) -> ForkServerSession | None:
    """Get a fork server from the server at a path, or from a new one."""
    request = SessionRequest(
        SessionKind.FORK_SERVER,
        modules=modules,
        idle_seconds=idle.total_seconds(),
        environment={**DEFAULT_ENVIRONMENT_VARIABLES, **os.environ},
        umask=_read_umask(),
    )
    for _ in range(2):  # the first server may be outdated
        connection = _connect(path) or _start_server(path, modules, idle)
        if connection is None:
            return None
        connection.settimeout(_START_SECONDS)
        replies = connection.makefile("rb")
        reply = _send_request(connection, replies, request)
        if reply is None:
            return None
        if reply.state == SessionState.READY:
            connection.settimeout(None)
            return ForkServerSession(connection, reply.pid, replies)
        connection.close()
    return None


def start_server(modules: list[str], idle: timedelta) -> None:
    """Start the resident server if there is none, and do not wait for it."""
    path = find_socket_path() if is_available() and idle else None
    if path is None:
        return
    with suppress(OSError):  # then the first run tries again
        connection = _connect(path) or _start_server(path, modules, idle)
        if connection is not None:
            connection.close()


def hand_over_command(call: str, modules: list[str]) -> int | None:
    """Let the resident server run the command of this process, if there is a server.

    The forked process gets the standard streams, arguments, environment and folder of this one. It
    receives the signals that this process receives, and it is killed if this process is.

    Parameters
    ----------
    call : str
        Function that runs the command, as ``module:function``.
    modules : list of str
        Modules that the command needs, which the server imports for later ones.

    Returns
    -------
    int or None
        The exit code of the command; None if it was not run.
    """
    path = find_socket_path() if is_available() else None
    if path is None or not path.exists() or None in (sys.stdin, sys.stdout, sys.stderr):
        return None
    try:
        folder = os.getcwd()
    except FileNotFoundError:  # it was removed; the command says so
        return None
    connection = _connect(path)
    if connection is None:
        return None
    request = SessionRequest(
        SessionKind.COMMAND,
        modules=modules,
        call=call,
        arguments=sys.argv,
        path=sys.path,
        cwd=folder,
        environment=dict(os.environ),
        umask=_read_umask(),
    )
    with connection, _forward_signals(connection) as forwarding:
        connection.settimeout(_START_SECONDS)
        replies = connection.makefile("rb")
        reply = _send_request(connection, replies, request, tuple(range(STREAM_COUNT)))
        if reply is None or reply.state != SessionState.READY:
            return None
        connection.settimeout(None)
        forwarding.start()
        line = replies.readline()
        if not line:  # it was killed
            return _KILLED_EXIT_CODE
        return int(json.loads(line)["exit_code"])


def list_servers() -> list[ServerRecord]:
    """List the resident servers of this user, whatever their circumstances."""
    folder = find_private_folder(creates_it=False)
    records = []
    for path in sorted(folder.glob("*.sock")) if folder is not None else ():
        connection = _connect(path)
        if connection is None:
            continue
        connection.close()
        with suppress(FileNotFoundError):  # of a server that is being started
            text = path.with_suffix(_RECORD_SUFFIX).read_text(encoding="utf-8")
            records.append(ServerRecord(**json.loads(text)))
    return records


class _SignalForwarding:
    """Sends the signals of this process to a command, once the command can receive them."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._waiting: list[int] = []
        self._is_started = False

    def receive(self, number: int, _: FrameType | None) -> None:
        """Handle a signal."""
        self._waiting.append(number)
        if self._is_started:
            self._send_waiting()

    def start(self) -> None:
        """Send the signals that have arrived, and from now on each one at once."""
        self._is_started = True
        self._send_waiting()

    def deliver_waiting(self) -> None:
        """Deliver to this process the signals that no command has received."""
        while self._waiting:
            os.kill(os.getpid(), self._waiting.pop(0))

    def _send_waiting(self) -> None:
        while self._waiting:
            with suppress(OSError):  # the command has ended
                send_message(self._connection, CommandSignal(self._waiting.pop(0)))


@contextmanager
def _forward_signals(connection: socket.socket) -> Iterator[_SignalForwarding]:
    """Forward signals while a command runs; those that were ignored stay so."""
    forwarding = _SignalForwarding(connection)
    handlers: dict[int, Any] = {}
    for number in _FORWARDED_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            handlers[number] = signal.signal(number, forwarding.receive)
    try:
        yield forwarding
    finally:
        for forwarded, handler in handlers.items():
            signal.signal(forwarded, handler)
        forwarding.deliver_waiting()


def _connect(path: Path) -> socket.socket | None:
    """Connect to a server of this user; None if there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))
        if get_peer_user(connection) == os.getuid():
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _send_request(
    connection: socket.socket,
    replies: Any,
    request: SessionRequest,
    descriptors: tuple[int, ...] = (),
) -> SessionReply | None:
    """Send a request and wait for the reply; None if the server does not answer."""
    try:
        send_message(connection, request, descriptors)
        line = replies.readline()
    except OSError:
        return None
    return SessionReply(**json.loads(line)) if line else None


def _start_server(path: Path, modules: list[str], idle: timedelta) -> socket.socket | None:
    """Start a server and connect to it; connect to the one that another process has started."""
    # Here: a command that is handed over needs neither.
    from mlops_kit.core import files
    from mlops_kit.pipeline.resident.server import ServerParameters, build_command

    with path.with_suffix(_LOCK_SUFFIX).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = _connect(path)
        if connection is not None:
            return connection
        path.unlink(missing_ok=True)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
            path.with_suffix(_LOG_SUFFIX).open("wb") as log,
        ):
            listener.bind(str(path))
            listener.listen(_BACKLOG)
            parameters = ServerParameters(
                listener.fileno(), str(path), idle.total_seconds(), modules
            )
            process = subprocess.Popen(
                build_command(parameters),
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **DEFAULT_ENVIRONMENT_VARIABLES,
                    **DEBUGGER_ENVIRONMENT_VARIABLES,
                    **select_inherited_variables(),
                },
                cwd="/",
                start_new_session=True,
            )
        record = ServerRecord(process.pid, idle.total_seconds())
        files.write_json(path.with_suffix(_RECORD_SUFFIX), asdict(record))
        _started_servers[:] = [earlier for earlier in _started_servers if earlier.poll() is None]
        _started_servers.append(process)
        return _connect(path)


def _read_umask() -> int:
    """Return the mask of this process for the modes of new files."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(_UMASK_FIELD):
            return int(line.removeprefix(_UMASK_FIELD), base=8)
    return 0o022
