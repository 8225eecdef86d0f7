"""``mlops serve``: the endpoint on a socket, from the first answer to the last.

On SIGTERM it says that it is not ready, takes no more connections, answers what it has, and ends with 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from mlops_kit.config import Project
from mlops_kit.deploy import access
from mlops_kit.errors import KitError

if TYPE_CHECKING:
    from mlops_kit.deploy.service import Service

PATIENCE = 30  # seconds in which askers may take their answers, once it is being stopped
ONE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run(project: Project, say: Callable[[str], None]) -> None:
    """Serve a project's champion until a signal comes.

    Parameters
    ----------
    say : callable
        Told the address, once it answers.

    Raises
    ------
    KitError
        If it would be open to others without a token, or the port is taken.
    """
    access.secret(project.config.serve)
    listening = bound(project.config.serve.host, project.config.serve.port)
    os.environ.update(dict.fromkeys(ONE, "1"))  # before anything loads them
    import uvicorn

    from mlops_kit.deploy import app

    made = app.build(project)
    service: Service = made.state.service

    class Server(uvicorn.Server):
        """uvicorn's, which says when it answers and ends well on a signal."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.greeting = asyncio.create_task(self.greet())

        async def greet(self) -> None:
            await asyncio.to_thread(service.follower.looked.wait)
            if not self.should_exit:
                say(greeting(service, listening))

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            service.closing = True
            super().handle_exit(sig, frame)

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            for one in (signal.SIGINT, signal.SIGTERM):
                signal.signal(one, self.handle_exit)
            yield

    config = uvicorn.Config(
        made,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=PATIENCE,
    )
    Server(config).run(sockets=[listening])


def bound(host: str, port: int) -> socket.socket:
    """A socket that holds the address.

    Raises
    ------
    KitError
        If it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        problem = (
            "is in use"
            if error.errno == errno.EADDRINUSE
            else f"cannot be listened on: {error.strerror}"
        )
        raise KitError(
            f"{host}:{port} {problem}",
            "an address of this machine and a free port",
            "--port 0 takes any that is free",
        ) from error
    return made


def greeting(service: Service, listening: socket.socket) -> str:
    """What serves where."""
    host, port = listening.getsockname()[:2]
    at, served = f"http://{f'[{host}]' if ':' in host else host}:{port}", service.follower.served
    if served is None:
        return f"{at} answers, but no version serves: {service.follower.waits()}"
    return f"{service.project.config.name} version {served.version} answers at {at}; its routes are at {at}/docs"
