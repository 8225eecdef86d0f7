"""What a client and the resident server say to each other: lines of JSON over a Unix socket.

The client sends one ``SessionRequest``; a command comes with its standard streams, as file
descriptors of the same message. The answer is a ``SessionReply``. After it, the connection belongs
to the process that the server has forked:

- a fork server reads requests and writes replies, as over the pipes of ``fork_server``;
- a command reads ``CommandSignal`` lines, and writes its ``CommandExit`` when it ends.

When either side ends, the other one sees the end of the connection.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

MAX_LINE_BYTES = 4_000_000  # the environment of a process may be large
STREAM_COUNT = 3
_READ_SIZE_BYTES = 65_536
_CREDENTIALS = struct.Struct("3i")  # process, user and group id


class SessionKind(StrEnum):
    """What a client asks the resident server for."""

    FORK_SERVER = "fork_server"
    COMMAND = "command"


class SessionState(StrEnum):
    """How the resident server answers.

    ``OUTDATED`` means that a file which it has imported was changed: it ends, and the client does
    without it or starts another one.
    """

    READY = "ready"
    OUTDATED = "outdated"


class ConnectionLostError(Exception):
    """The connection ended before a complete line."""


@dataclass(frozen=True)
class SessionRequest:
    """What a client asks for.

    Attributes
    ----------
    kind : str
        A ``SessionKind``.
    modules : list of str
        Modules that the fork server imports, as of ``fork_server``.
    idle_seconds : float
        How long the resident server stays without work from now on.
    call : str
        Function that runs a command, as ``module:function``.
    arguments, path : list of str
        Its ``sys.argv`` and ``sys.path``.
    cwd, environment, umask : str, dict, int
        What the forked process would inherit from the client.
    """

    kind: str
    modules: list[str] = field(default_factory=list)
    idle_seconds: float = 0.0
    call: str = ""
    arguments: list[str] = field(default_factory=list)
    path: list[str] = field(default_factory=list)
    cwd: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    umask: int = 0o022


@dataclass(frozen=True)
class SessionReply:
    """The answer of the process that was forked, or of a server that is outdated.

    Attributes
    ----------
    state : str
        A ``SessionState``.
    pid : int
        Process id of the forked process.
    """

    state: str
    pid: int = 0


@dataclass(frozen=True)
class CommandSignal:
    """A signal that the client has received, for the command."""

    signal: int


@dataclass(frozen=True)
class CommandExit:
    """The exit code of a command."""

    exit_code: int


def encode_line(message: Any) -> bytes:
    """Encode a message as a line."""
    return json.dumps(asdict(message)).encode() + b"\n"


def send_message(
    connection: socket.socket, message: Any, descriptors: tuple[int, ...] = ()
) -> None:
    """Send a message, and file descriptors with it."""
    line = encode_line(message)
    if not descriptors:
        connection.sendall(line)
        return
    sent = socket.send_fds(connection, [line], list(descriptors))
    connection.sendall(line[sent:])


def receive_request(connection: socket.socket) -> tuple[SessionRequest, list[int]]:
    """Receive a request and the file descriptors that come with it.

    Raises
    ------
    ConnectionLostError
        If the connection ends before, or the line is too long.
    """
    received = bytearray()
    descriptors: list[int] = []
    while not received.endswith(b"\n"):
        part, new_descriptors, _, _ = socket.recv_fds(connection, _READ_SIZE_BYTES, STREAM_COUNT)
        descriptors += new_descriptors
        received += part
        if not part or len(received) > MAX_LINE_BYTES:
            for descriptor in descriptors:
                os.close(descriptor)
            raise ConnectionLostError
    return SessionRequest(**json.loads(received)), descriptors


def get_peer_user(connection: socket.socket) -> int:
    """Return the user id of the process at the other end, as the operating system knows it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(credentials)
    return int(user)
