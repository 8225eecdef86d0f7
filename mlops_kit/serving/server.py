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

from mlops_kit.core.errors import KitError
from mlops_kit.project.loader import Project
from mlops_kit.serving import auth

if TYPE_CHECKING:
    from mlops_kit.serving.service import PredictionService


_SHUTDOWN_TIMEOUT_SECONDS = (
    30  # seconds in which askers may take their answers, once it is being stopped
)
_THREAD_COUNT_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def serve_champion(project: Project, say: Callable[[str], None]) -> None:
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
    auth.load_token_digest(project.config.serve)
    listening = _bind_socket(project.config.serve.host, project.config.serve.port)
    os.environ.update(dict.fromkeys(_THREAD_COUNT_VARIABLES, "1"))  # before anything loads them
    import uvicorn

    from mlops_kit.serving import app

    made = app.build_app(project)
    service: PredictionService = made.state.service

    class Server(uvicorn.Server):
        """uvicorn's, which says when it answers and ends well on a signal."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.greeting = asyncio.create_task(self.greet())

        async def greet(self) -> None:
            await asyncio.to_thread(service.follower.champion_checked.wait)
            if not self.should_exit:
                say(_format_ready_message(service, listening))

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            service.is_closing = True
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
        timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT_SECONDS,
    )
    Server(config).run(sockets=[listening])


def _bind_socket(host: str, port: int) -> socket.socket:
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


def _format_ready_message(service: PredictionService, listening: socket.socket) -> str:
    """What serves where."""
    host, port = listening.getsockname()[:2]
    at, served = f"http://{f'[{host}]' if ':' in host else host}:{port}", service.follower.served
    if served is None:
        return f"{at} answers, but no version serves: {service.follower.explain_wait()}"
    return f"{service.project.config.name} version {served.version} answers at {at}; its routes are at {at}/docs"
