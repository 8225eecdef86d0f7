"""``mlops serve``: the prediction service on a socket.

On SIGINT or SIGTERM the server reports that it is not ready, accepts no more connections, answers
the requests it has, and exits with 0.
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
from mlops_kit.core.extras import import_from_extra, require_extra
from mlops_kit.project.loader import Project
from mlops_kit.serving import auth

if TYPE_CHECKING:
    from mlops_kit.serving.service import PredictionService


_SHUTDOWN_TIMEOUT_SECONDS = 8  # for clients to receive their responses
_THREAD_COUNT_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def serve_champion(project: Project, report_status: Callable[[str], None]) -> None:
    """Serve a project's champion until a signal arrives.

    Parameters
    ----------
    project : Project
        The project.
    report_status : callable
        Called with one line that names the address, once requests are answered.

    Raises
    ------
    KitError
        If the address is reachable from other machines without a token, or is in use.
    MissingExtraError
        If the libraries of the endpoint are not installed.
    """
    require_extra("serve")
    auth.load_token_digest(project.config.serve)
    listener = _bind_socket(project.config.serve.host, project.config.serve.port)
    # The numeric libraries read these when they are imported, so they are set before.
    os.environ.update(dict.fromkeys(_THREAD_COUNT_VARIABLES, "1"))
    with import_from_extra("serve"):
        import uvicorn

    from mlops_kit.serving import app

    application = app.build_app(project)
    service: PredictionService = application.state.service

    class Server(uvicorn.Server):
        """A server that reports its address and exits with 0 on a signal."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Start, and report the address once the champion was checked."""
            await super().startup(sockets)
            self.status_task = asyncio.create_task(self.report_ready())

        async def report_ready(self) -> None:
            """Wait for the first check of the champion, then report the address."""
            await asyncio.to_thread(service.follower.champion_checked.wait)
            if not self.should_exit:
                report_status(_format_ready_message(service, listener))

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """Report that the service is not ready, then shut down."""
            service.is_closing = True
            super().handle_exit(sig, frame)

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Handle signals without raising them again at the end, as uvicorn would."""
            for signal_number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signal_number, self.handle_exit)
            yield

    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT_SECONDS,
    )
    Server(config).run(sockets=[listener])


def _bind_socket(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address.

    Raises
    ------
    KitError
        If the address is in use or not available.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = addresses[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        problem = f"is not available: {error.strerror}"
        if error.errno == errno.EADDRINUSE:
            problem = "is in use"
        raise KitError(
            f"{host}:{port} {problem}",
            "an address of this machine and a free port",
            "--port 0 chooses a free port",
        ) from error
    return listener


def _format_ready_message(service: PredictionService, listener: socket.socket) -> str:
    """Return which version is in service at which address."""
    host, port = listener.getsockname()[:2]
    if ":" in host:  # IPv6
        host = f"[{host}]"
    url = f"http://{host}:{port}"
    served = service.follower.served
    if served is None:
        reason = service.follower.explain_wait()
        return f"Listening on {url}; no version is in service yet: {reason}"
    name = service.project.config.name
    return f"Serving {name} version {served.version} at {url} (documentation: {url}/docs)"
